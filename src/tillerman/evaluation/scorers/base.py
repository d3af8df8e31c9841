"""What every scorer says of itself, and how its values become a figure with n and interval.

A value is a finite number within the scorer's range, or None where nothing can be measured (an empty reply, a rating
that could not be read). None is left out and counted, never averaged as 0; a number that is not finite is an error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tillerman.core.errors import MetricError, UnknownNameError
from tillerman.evaluation.log import Interval
from tillerman.evaluation.statistics import bootstrap_mean, t_interval

Value = float | None
BETTER = ("more", "less", "neither")


@dataclass(frozen=True)
class Scale:
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
    def scale(self) -> Scale: ...
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
    def scale(self) -> Scale: ...
    def score(self, scores: Sequence[Sequence[float]], keys: Sequence[AnswerKey]) -> list[Value]: ...


@dataclass(frozen=True)
class Figure:
    """A mean with its 95 % interval over ``n`` of ``of`` (prompts, items, draws). ``missing`` values were left out.
    ``balanced`` is the mean over the right answers' letters, which a constant answer cannot raise."""

    value: float
    interval: Interval
    n: int
    missing: int
    of: str = "prompts"
    balanced: float | None = None

    @property
    def found(self) -> bool:
        """Whether the interval leaves 0 out, as a change's should."""
        return self.interval.low > 0 or self.interval.high < 0


def checked(name: str, scale: Scale, values: Sequence[Value]) -> list[Value]:
    """The values as they are; ``MetricError`` for one that is not finite or not in range."""
    for i, value in enumerate(values):
        if value is not None and not (math.isfinite(value) and scale.low - 1e-9 <= value <= scale.high + 1e-9):
            raise MetricError(f"scorer {name!r} gave {value} for text {i}; expected {scale.low:g} to {scale.high:g}")
    return list(values)


def figure(values: Sequence[Value], groups: Sequence[str] | None = None, of: str = "prompts") -> Figure | None:
    """Mean, bootstrap interval and n of the values that are there; None where none is."""
    there = [i for i, value in enumerate(values) if value is not None]
    if not there:
        return None
    known = np.array([values[i] for i in there], dtype=np.float64)
    if not np.isfinite(known).all():
        raise MetricError("a score is not a finite number; such scores are refused, not averaged")
    balanced = None if groups is None else _balanced(known, [groups[i] for i in there])
    return Figure(float(known.mean()), bootstrap_mean(known), len(there), len(values) - len(there), of, balanced)


def change(
    values: Sequence[Value], unsteered: Sequence[Value], groups: Sequence[str] | None = None, of: str = "prompts"
) -> Figure | None:
    """The paired difference to the unsteered values of the same items, over those measured on both sides."""
    pairs = zip(values, unsteered, strict=True)
    return figure([None if a is None or b is None else a - b for a, b in pairs], groups, of)


def over_draws(draws: Sequence[Figure | None]) -> Figure | None:
    """A null's figure: the mean over draws of its means, with a t-interval over draws."""
    known = [draw for draw in draws if draw is not None]
    if len(known) < 2:
        return None
    mean, interval, _ = t_interval([draw.value for draw in known])
    return Figure(mean, interval, len(known), sum(draw.missing for draw in known), "draws")


def per_prompt(values: Sequence[Value], samples: int) -> list[Value]:
    """The mean of each prompt's samples that could be measured: samples of one prompt are not independent, so
    intervals go over prompts."""
    rows = [values[i : i + samples] for i in range(0, len(values), samples)]
    known = [[value for value in row if value is not None] for row in rows]
    return [sum(row) / len(row) if row else None for row in known]


def _balanced(values: NDArray[np.float64], groups: Sequence[str]) -> float:
    names = np.asarray(groups)
    return float(np.mean([values[names == name].mean() for name in np.unique(names)]))
