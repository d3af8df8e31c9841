"""What every scorer says of itself, and how its values become a figure with n and interval.

A value is a finite number within the scorer's range, or None where nothing can be measured (an empty reply, a rating
that could not be read). None is left out and counted, never averaged as 0; a number that is not finite is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from tillerman.core.errors import MetricError, UnknownNameError
from tillerman.statistics.scores import Value

BETTER = ("more", "less", "neither")


@dataclass(frozen=True)
class ScoreRange:
    """Unit and range of a score, and which way is better: ``more``, ``less`` or ``neither``."""

    unit: str
    low: float
    high: float
    better: str = "neither"

    def __post_init__(self) -> None:
        if self.better not in BETTER:
            raise UnknownNameError("direction", self.better, BETTER)


@runtime_checkable
class TextScorer(Protocol):
    """Scores replies by what they say. ``note`` tells what a reader has to know of its error; empty if nothing."""

    @property
    def name(self) -> str: ...
    @property
    def scale(self) -> ScoreRange: ...
    @property
    def note(self) -> str: ...
    def score(self, prompts: Sequence[str], replies: Sequence[str]) -> list[Value]: ...


@dataclass(frozen=True)
class AnswerKey:
    """What is right about one item: the place of the right option, the letter (or word) it is said by, and the
    shares of people that chose each option, where the data have them."""

    right: int
    group: str
    shares: tuple[float, ...] = ()


@runtime_checkable
class AnswerScorer(Protocol):
    """Scores an item by the model's scores of its options: log-probabilities, up to a constant of the item."""

    @property
    def name(self) -> str: ...
    @property
    def scale(self) -> ScoreRange: ...
    def score(self, scores: Sequence[Sequence[float]], keys: Sequence[AnswerKey]) -> list[Value]: ...


def checked(name: str, scale: ScoreRange, values: Sequence[Value]) -> list[Value]:
    """The values as they are; ``MetricError`` for one that is not finite or not in range."""
    for i, value in enumerate(values):
        if value is not None and not (math.isfinite(value) and scale.low - 1e-9 <= value <= scale.high + 1e-9):
            raise MetricError(f"scorer {name!r} gave {value} for text {i}; expected {scale.low:g} to {scale.high:g}")
    return list(values)


@dataclass(frozen=True)
class ScorerEntry:
    """How a scorer is made; ``wants`` says what follows its colon, empty where nothing may."""

    make: Callable[[str], TextScorer]
    wants: str = ""
    usual: str | None = None  # taken where nothing follows
