"""Angular steering: the stream is turned towards the direction, its norm kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tillerman.methods.base import Habits
from tillerman.methods.contrast import EstimatedMethod


@dataclass(frozen=True)
class Angular(EstimatedMethod):
    """The direction of ``caa``, turned towards instead of added. Strength 1 is a right angle."""

    name: ClassVar[str] = "angular"
    habits: ClassVar[Habits] = Habits(doses=(-0.3, -0.2, -0.1, 0.05, 0.1, 0.2, 0.3, 0.5), operator="rotate")
