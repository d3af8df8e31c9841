"""What trials say, for every study's ``judge``: pick them, pair them, name figures. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tillerman.core.errors import MetricError
from tillerman.evaluation.figures import decimal, percent, points, span
from tillerman.evaluation.log import Effect, Interval, Rate
from tillerman.evaluation.statistics import effect, rate, t_interval
from tillerman.evaluation.study import Mark, Trial


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


def null_effect(trials: Sequence[Trial], case: str, null: str = "null:random") -> tuple[float, Interval] | None:
    """Mean effect of a null's draws (conditions ``null:random 1``, ``null:random 2``, ...) with the t-interval over
    draws; None where there are fewer than two."""
    draws = [t.condition for t in trials if t.case == case and t.condition.startswith(f"{null} ")]
    if len(draws) < 2:
        return None
    mean, interval, _ = t_interval([paired(trials, case, draw).value for draw in draws])
    return mean, interval


def shown(found: Effect) -> str:
    """``+31.0 (24.5 to 37.5)``, percentage points."""
    return in_points(found.value, found.interval)


def in_points(value: float, interval: Interval) -> str:
    return f"{points(value).removesuffix(' pp')} ({span(interval, signed=True)})"


def shown_rate(found: Rate) -> str:
    return f"{decimal(100 * found.value, 1)} ({span(found.interval, places=0)})"


def said(found: Effect) -> str:
    """``+31.0 pp (95 % interval +24.5 to +37.5, n = 200)``, for sentences."""
    return f"{points(found.value)} (95 % interval {span(found.interval, signed=True)}, n = {found.n})"


def said_rate(found: Rate) -> str:
    return f"{percent(found.value, 0)} (95 % interval {span(found.interval, places=0)}, n = {found.n})"


def mark(label: str, found: Effect, at: float | None = None) -> Mark:
    return Mark(label, found.value, found.interval, found.n, at)
