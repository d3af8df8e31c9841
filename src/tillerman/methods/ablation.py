"""Directional ablation: the component along the direction found at each layer is taken out, at every layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tillerman.methods.base import Habits
from tillerman.methods.contrast import EstimatedMethod


@dataclass(frozen=True)
class Ablation(EstimatedMethod):
    """The direction of ``caa``, taken out instead of added. Strength 1 removes all of it, -1 doubles it."""

    name: ClassVar[str] = "ablation"
    habits: ClassVar[Habits] = Habits(
        scope="all", doses=(-1.0, -0.5, 0.5, 0.75, 1.0, 2.0), operator="ablate", joint=True
    )
