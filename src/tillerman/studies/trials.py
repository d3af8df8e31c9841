"""What trials say, for every study's ``judge``: pick them, pair them, name figures. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tillerman.core.errors import MetricError
from tillerman.logs.study import Mark, Trial
from tillerman.reports.numbers import (
    in_points as in_points,
    percent,
    said as said,
    said_rate as said_rate,
    shown as shown,
    shown_number,
    shown_rate as shown_rate,
    span,
)
from tillerman.statistics.estimates import bootstrap_mean, effect, rate, t_interval
from tillerman.statistics.values import Effect, Interval, Rate

KL, PERPLEXITY = "KL", "perplexity"  # conditions of what a plan costs on neutral text
WRITTEN = "written score"  # the scorer of trials that hold the labels' P(wanted) of replies
_DRAWS = 2000


def odds_of(condition: str) -> str:
    """The condition under which a condition's log-odds are logged."""
    return f"log-odds, {condition}"


def cases_of(trials: Sequence[Trial]) -> tuple[str, ...]:
    """The cases, in the order they were measured."""
    return tuple(dict.fromkeys(trial.case for trial in trials))


def pick(trials: Sequence[Trial], case: str, condition: str) -> Trial:
    found = [trial for trial in trials if (trial.case, trial.condition) == (case, condition)]
    if len(found) != 1:
        raise MetricError(f"{case}, {condition}: expected one trial, found {len(found)}")
    return found[0]


def has(trials: Sequence[Trial], case: str, condition: str) -> bool:
    return any((trial.case, trial.condition) == (case, condition) for trial in trials)


def values(trial: Trial) -> NDArray[np.float64]:
    return np.array(trial.values, dtype=np.float64)


def right(trial: Trial) -> NDArray[np.bool_]:
    return values(trial) > 0.5


def groups(trial: Trial) -> tuple[str, ...]:
    return trial.groups or ("all",) * len(trial.items)


def rate_of(trial: Trial) -> Rate:
    return rate(right(trial), groups(trial))


def paired(trials: Sequence[Trial], case: str, condition: str = "steered", base: str = "unsteered") -> Effect:
    """A condition against another one on the same items of a case."""
    one, other = pick(trials, case, condition), pick(trials, case, base)
    if one.items != other.items:
        raise MetricError(f"{case}: {condition} and {base} were not scored on the same items")
    return effect(right(one), right(other), groups(one))


def shared(one: Trial, other: Trial) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[str, ...]]:
    """The values of both for the items that both have, and these items' groups: what could not be measured under one
    condition is left out of the comparison. ``MetricError`` where they share none."""
    mine, theirs = (dict(zip(trial.items, trial.values, strict=True)) for trial in (one, other))
    kept = [(item, group) for item, group in zip(one.items, groups(one), strict=True) if item in theirs]
    if not kept:
        raise MetricError(f"{one.case}: {one.condition} and {other.condition} were measured on no item in common")
    return (
        np.array([mine[item] for item, _ in kept], dtype=np.float64),
        np.array([theirs[item] for item, _ in kept], dtype=np.float64),
        tuple(group for _, group in kept),
    )


def null_effect(trials: Sequence[Trial], case: str, null: str = "null:random") -> tuple[float, Interval] | None:
    """Mean effect of a null's draws (conditions ``null:random 1``, ``null:random 2``, ...) with the t-interval over
    draws; None where there are fewer than two."""
    draws = [t.condition for t in trials if t.case == case and t.condition.startswith(f"{null} ")]
    if len(draws) < 2:
        return None
    mean, interval, _ = t_interval([paired(trials, case, draw).value for draw in draws])
    return mean, interval


@dataclass(frozen=True)
class Figure:
    """A mean, or a ratio of means, with its 95 % bootstrap interval over items."""

    value: float
    interval: Interval


def mean_of(per_item: NDArray[np.float64]) -> Figure:
    return Figure(float(per_item.mean()), bootstrap_mean(per_item))


def share_of(part: NDArray[np.float64], whole: NDArray[np.float64]) -> Figure:
    """``mean(part) / mean(whole)`` of the same items, drawn together. A draw in which the whole is not above 0 has
    no share and is left out; ask only where the whole is surely above 0."""
    if not whole.mean() > 0:
        raise MetricError(f"a share of {whole.mean():.3g}: the whole must be above 0")
    drawn = np.random.default_rng(0).integers(0, len(whole), (_DRAWS, len(whole)))
    parts, wholes = part[drawn].mean(1), whole[drawn].mean(1)
    low, high = np.quantile(parts[wholes > 0] / wholes[wholes > 0], (0.025, 0.975))
    return Figure(float(part.mean() / whole.mean()), Interval(float(low), float(high)))


def change(trials: Sequence[Trial], case: str, condition: str, base: str = "unsteered") -> NDArray[np.float64]:
    """Per item, what a condition changes."""
    one, other = pick(trials, case, condition), pick(trials, case, base)
    if one.items != other.items:
        raise MetricError(f"{case}: {condition} and {base} were not scored on the same items")
    return values(one) - values(other)


def stands(found: Effect, null: tuple[float, Interval] | None = None) -> bool:
    """Whether an effect is above 0, not of one answer word alone, and beyond its random directions."""
    if not found.found or found.value <= 0 or found.balanced < found.value / 2:
        return False
    return null is None or null[1].high < found.interval.low or null[0] <= found.value / 2


def said_share(found: Figure) -> str:
    """``92 % (85 to 99 %)``."""
    return f"{percent(found.value, 0)} ({span(found.interval, places=0)} %)"


def shown_figure(found: Figure, places: int = 2, signed: bool = True) -> str:
    """``+0.12 (−0.03 to +0.27)``."""
    return shown_number(found.value, found.interval, places, signed)


def mark(label: str, found: Effect, at: float | None = None) -> Mark:
    return Mark(label, found.value, found.interval, found.n, at)
