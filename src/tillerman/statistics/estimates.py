"""Intervals and tests. Every figure a report compares goes through here.

A value that is not a finite number is refused with ``MetricError``: a mean over what is left would be a mean over the
items on which nothing broke.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tillerman.core.errors import MetricError, UsageError
from tillerman.statistics.tango import score_interval
from tillerman.statistics.values import LEAST_ITEMS, NO_INTERVAL, Effect, Interval, MeanEffect, Rate

_LEVEL = 0.95
_DRAWS = 2_000  # of a bootstrap
_FLIPS = 9_999  # of signs, where not all of them can be tried
_BOOTSTRAP = 20  # values: of fewer, a bootstrap covers less than it says
_LEAST_VALUES = 8  # of a mean: fewer have no interval, and that they are equal says nothing of their spread


def ensure_finite(values: Sequence[float] | NDArray[np.float64], what: str) -> None:
    """``MetricError`` that names the quantity and how many of its values are no finite numbers."""
    broken = int(np.sum(~np.isfinite(np.asarray(values, dtype=float))))
    if broken:
        raise MetricError(
            f"{broken} of {len(values)} {what} are not finite numbers, and are not averaged over; look at what made "
            "them (is the strength too large?)"
        )


def rate(correct: NDArray[np.bool_], groups: Sequence[str]) -> Rate:
    """Share of correct items with Wilson's 95 % interval (none for fewer than five); ``groups`` are the right answers'
    letters."""
    n = len(correct)
    if n == 0:
        raise UsageError("no items to score; raise --limit or provide more data")
    found = stats.binomtest(int(correct.sum()), n).proportion_ci(_LEVEL, method="wilson")
    interval = Interval(float(found.low), float(found.high)) if n >= LEAST_ITEMS else NO_INTERVAL
    return Rate(float(correct.mean()), interval, n, balanced(correct, groups))


def balanced(correct: NDArray[np.bool_], groups: Sequence[str]) -> float:
    """Mean over the right answers' letters of the accuracy where that letter is right."""
    names = np.asarray(groups)
    return float(np.mean([correct[names == name].mean() for name in np.unique(names)]))


def changes(steered: NDArray[np.bool_], unsteered: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Items gained, items lost, and all items."""
    if not len(steered):
        raise UsageError("no items to compare; raise --limit or provide more data")
    return int((steered & ~unsteered).sum()), int((unsteered & ~steered).sum()), len(steered)


def effect(steered: NDArray[np.bool_], unsteered: NDArray[np.bool_], groups: Sequence[str]) -> Effect:
    """Paired difference of two conditions on the same items.

    Interval: Tango's score interval, since a bootstrap's is too short where few items change; widened to 0 where the
    exact test does not refuse it (4 gained, 0 lost of 50: p = 0.125), so that the two never disagree. Its coverage is
    0.945 or more from five items on, and fewer have none. p: exact two-sided McNemar test.
    """
    gained, lost, n = changes(steered, unsteered)
    p = mcnemar(gained, lost)
    interval = score_interval(gained, lost, n, _LEVEL) if n >= LEAST_ITEMS else NO_INTERVAL
    if p >= 1 - _LEVEL:
        interval = Interval(min(interval.low, 0.0), max(interval.high, 0.0))
    return Effect(
        value=(gained - lost) / n,
        interval=interval,
        p_value=p,
        n=n,
        balanced=balanced(steered, groups) - balanced(unsteered, groups),
    )


def unpaired(left: Rate, right: Rate) -> Interval:
    """Of the difference of two rates of which only their own intervals are known (Newcombe 1998, method 10). Rates of
    the same items rise and fall together, for which it is too wide.
    """
    a, b = left.interval, right.interval
    if not (a.known and b.known):
        return NO_INTERVAL
    value = left.value - right.value
    low = value - float(np.hypot(left.value - a.low, b.high - right.value))
    return Interval(low, value + float(np.hypot(a.high - left.value, right.value - b.low)))


def mean_effect(steered: NDArray[np.float64], unsteered: NDArray[np.float64], seed: int = 0) -> MeanEffect:
    """Mean paired change of a real-valued score (log-odds, lengths, a judge's points), in the score's own unit.

    Interval: ``bootstrap_mean`` of the differences. p: two-sided sign-flip permutation test of their mean, all flips
    up to 13 items and 9,999 random ones beyond: if steering does nothing, each difference is as likely with the other
    sign.

    ``UsageError`` for fewer than two items, ``MetricError`` for scores that are not finite.
    """
    ensure_finite(steered, "steered scores")
    ensure_finite(unsteered, "unsteered scores")
    difference = steered - unsteered
    if len(difference) < 2:
        raise UsageError(f"a mean effect over {len(difference)} items: an interval needs at least two")
    interval = bootstrap_mean(difference, seed)
    return MeanEffect(float(difference.mean()), interval, sign_flip(difference, seed), len(difference))


def sign_flip(differences: NDArray[np.float64], seed: int = 0) -> float:
    """Two-sided p that differences symmetric about 0 have a mean as far from it as these."""
    found = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=_FLIPS,
        batch=1000,
        random_state=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided McNemar p: are items won and lost equally likely?"""
    return 1.0 if gained + lost == 0 else float(stats.binomtest(gained, gained + lost, 0.5).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p adjusted for how many were looked at (Holm 1979): the k-th smallest of m times m - k + 1, never
    below the one before it, at most 1."""
    ensure_finite(p_values, "p-values")
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    raised = np.minimum(1.0, np.maximum.accumulate(np.asarray(p_values, dtype=float)[order] * factors))
    return [float(raised[place]) for place in np.argsort(order, kind="stable")]


def t_interval(values: Sequence[float]) -> tuple[float, Interval, float]:
    """Mean, 95 % t-interval and one-sided p that the mean is above 0 (PAS section 4).

    Values that are all equal have no spread to estimate: fewer than eight of them have no interval, and p is that of
    their signs, 0.5^n.
    """
    n = len(values)
    ensure_finite(values, "values of an interval over seeds")
    if n < 2:
        raise UsageError("an interval over seeds needs at least two of them")
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1)) / n**0.5
    if spread == 0:
        return mean, _of_equals(mean, n), 0.5**n if mean > 0 else 1 - 0.5**n if mean < 0 else 1.0
    half = float(stats.t.ppf((1 + _LEVEL) / 2, n - 1)) * spread
    return mean, Interval(mean - half, mean + half), float(stats.t.sf(mean / spread, n - 1))


def bootstrap_mean(values: NDArray[np.float64], seed: int = 0) -> Interval:
    """Interval of a mean over n items: from twenty on, a bootstrap's expanded percentiles (Hesterberg, "What Teachers
    Should Know About the Bootstrap", 2015, section 3.3). Plain percentiles are too narrow by about sqrt(1 - 1/n) and
    by the normal instead of the t quantile, which counts below some fifty items. From eight to nineteen, where a
    bootstrap has too few different samples (51 % coverage of two, 88 % of four), the t-interval; fewer have none.

    ``UsageError`` for no items, ``MetricError`` for values that are not finite.
    """
    n = len(values)
    if n == 0:
        raise UsageError("no values to average; give more data")
    ensure_finite(values, "values of a mean")
    if n < _LEAST_VALUES:
        return NO_INTERVAL
    if np.ptp(values) == 0:
        return _of_equals(float(values[0]), n)
    if n < _BOOTSTRAP:
        return t_interval(values.tolist())[1]
    draws = np.random.default_rng(seed).integers(0, n, (_DRAWS, n))
    tail = float(stats.norm.cdf(stats.t.ppf((1 - _LEVEL) / 2, n - 1) * (n / (n - 1)) ** 0.5))
    low, high = np.quantile(values[draws].mean(1), [tail, 1 - tail])
    return Interval(float(low), float(high))


def _of_equals(value: float, n: int) -> Interval:
    """Of values that are all the same."""
    return NO_INTERVAL if n < _LEAST_VALUES else Interval(value, value)
