"""From the values of a scorer to a mean with its interval, and to a paired change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tillerman.core.errors import MetricError
from tillerman.statistics.estimates import bootstrap_mean, t_interval
from tillerman.statistics.values import ScoreMean

Value = float | None


def figure(values: Sequence[Value], groups: Sequence[str] | None = None, of: str = "prompts") -> ScoreMean | None:
    """Mean, bootstrap interval and n of the values that are there; None where none is."""
    there = [i for i, value in enumerate(values) if value is not None]
    if not there:
        return None
    known = np.array([values[i] for i in there], dtype=np.float64)
    if not np.isfinite(known).all():
        raise MetricError("a score is not a finite number; such scores are refused, not averaged")
    balanced = None if groups is None else _balanced(known, [groups[i] for i in there])
    return ScoreMean(float(known.mean()), bootstrap_mean(known), len(there), len(values) - len(there), of, balanced)


def change(
    values: Sequence[Value], unsteered: Sequence[Value], groups: Sequence[str] | None = None, of: str = "prompts"
) -> ScoreMean | None:
    """The paired difference to the unsteered values of the same items, over those measured on both sides."""
    pairs = zip(values, unsteered, strict=True)
    return figure([None if a is None or b is None else a - b for a, b in pairs], groups, of)


def over_draws(draws: Sequence[ScoreMean | None]) -> ScoreMean | None:
    """A null's figure: the mean over draws of its means, with a t-interval over draws."""
    known = [draw for draw in draws if draw is not None]
    if len(known) < 2:
        return None
    mean, interval, _ = t_interval([draw.value for draw in known])
    return ScoreMean(mean, interval, len(known), sum(draw.missing for draw in known), "draws")


def per_prompt(values: Sequence[Value], samples: int) -> list[Value]:
    """The mean of each prompt's samples that could be measured: samples of one prompt are not independent, so
    intervals go over prompts."""
    rows = [values[i : i + samples] for i in range(0, len(values), samples)]
    known = [[value for value in row if value is not None] for row in rows]
    return [sum(row) / len(row) if row else None for row in known]


def _balanced(values: NDArray[np.float64], groups: Sequence[str]) -> float:
    names = np.asarray(groups)
    return float(np.mean([values[names == name].mean() for name in np.unique(names)]))
