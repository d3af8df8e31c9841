"""BiPO: a vector trained so that, added, it makes the wanted answers likelier than the others, and subtracted,
the others likelier than the wanted ones (Cao et al., arXiv 2406.00045, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tillerman.core.spec import option
from tillerman.methods.trained import OfPreferences
from tillerman.models.gradients import Taught
from tillerman.models.objectives import BothWays


@dataclass(frozen=True)
class BiPO(OfPreferences):
    """Bi-directional preference optimisation."""

    name: ClassVar[str] = "bipo"
    title: ClassVar[str] = "BiPO"
    beta: float = option(BothWays.beta, "weight of the margin in the loss", above=0)

    def objective(self, pairs: Sequence[Taught]) -> BothWays:
        return BothWays(pairs, self.beta)
