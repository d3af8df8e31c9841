"""Every token is brought to the same cosine with the direction; one that is there already is left alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tillerman.methods.base import Habits
from tillerman.methods.contrast import EstimatedMethod


@dataclass(frozen=True)
class TargetCosine(EstimatedMethod):
    """The direction of ``caa``; a strength is the cosine with it that every token has at least (below 0: at most)."""

    name: ClassVar[str] = "target-cosine"
    habits: ClassVar[Habits] = Habits(doses=(-0.3, -0.15, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5), operator="aim")
