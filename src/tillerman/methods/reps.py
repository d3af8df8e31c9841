"""RePS: a vector trained so that, added, it makes the wanted answers likelier than the others, and taken out of the
activations, the others likelier than the wanted ones (Wu et al., arXiv 2505.20809, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tillerman.core.spec import option
from tillerman.methods.trained import OfPreferences
from tillerman.models.gradients import Taught
from tillerman.models.objectives import SteerAndSuppress


@dataclass(frozen=True)
class Reps(OfPreferences):
    """Reference-free preference steering."""

    name: ClassVar[str] = "reps"
    title: ClassVar[str] = "RePS"
    pairs: int = option(8, "examples in each step", least=1)
    factors: int = option(
        SteerAndSuppress.factors, "strengths that it is trained at, evenly spaced with mean 1", least=1
    )

    def objective(self, pairs: Sequence[Taught]) -> SteerAndSuppress:
        return SteerAndSuppress(pairs, self.factors)
