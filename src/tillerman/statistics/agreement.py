"""How far two ratings of the same texts agree: one judge asked twice, two judges, or a judge and a person."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tillerman.core.errors import DataError
from tillerman.statistics.scores import Value
from tillerman.statistics.values import Interval

_DRAWS = 2_000


@dataclass(frozen=True)
class Statistic:
    """A value with its interval over texts: of ``agreement`` a percentile bootstrap."""

    value: float
    interval: Interval


@dataclass(frozen=True)
class Agreement:
    """Of ``n`` texts that both rated; ``missing`` were rated by one or none. Kappa and rank correlation are None where
    a side gave all texts the same rating, which leaves nothing to agree on."""

    n: int
    missing: int
    kappa: Statistic | None
    spearman: Statistic | None
    difference: Statistic  # mean absolute, in points of the rating
    same: float  # share of equal ratings


def agreement(first: Sequence[Value], second: Sequence[Value], levels: Sequence[int], seed: int = 0) -> Agreement:
    """Quadratically weighted kappa (Cohen 1968), Spearman's rank correlation, mean absolute difference.

    ``kappa = 1 - sum (a - b)^2 / sum_ij (a_i - b_j)^2 * n``: squared differences against those of the same ratings
    drawn at random. It is 1 for equal ratings, 0 for chance. Ratings need not be whole; ``levels`` is their range.
    """
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if len(pairs) < 2:
        raise DataError(f"{len(pairs)} texts with two ratings: agreement wants at least 2")
    a, b = np.array(pairs, dtype=np.float64).T
    if min(a.min(), b.min()) < min(levels) or max(a.max(), b.max()) > max(levels):
        raise DataError(
            f"ratings from {min(a.min(), b.min()):g} to {max(a.max(), b.max()):g}; expected "
            f"{min(levels)} to {max(levels)}"
        )
    draws = np.random.default_rng(seed).integers(0, len(a), (_DRAWS, len(a)))
    varied = a.min() < a.max() and b.min() < b.max()
    return Agreement(
        n=len(pairs),
        missing=len(first) - len(pairs),
        kappa=_drawn(weighted_kappa, a, b, draws) if varied else None,
        spearman=_drawn(_rank_correlation, a, b, draws) if varied else None,
        difference=_drawn(lambda x, y: float(np.abs(x - y).mean()), a, b, draws),
        same=float((a == b).mean()),
    )


def repeated(ratings: Sequence[Sequence[Value]], levels: Sequence[int]) -> Agreement:
    """Agreement of a judge with itself: each text's first rating against its second."""
    return agreement([one[0] for one in ratings], [one[1] for one in ratings], levels)


def weighted_kappa(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    # The mean of (a_i - b_j)^2 over all pairs, without making them.
    chance = a.var() + b.var() + (a.mean() - b.mean()) ** 2
    return float(1 - ((a - b) ** 2).mean() / chance) if chance > 0 else float("nan")


def rank_correlation(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Statistic:
    """Spearman's rank correlation with its percentile bootstrap interval over pairs of values.

    ``DataError`` for fewer than three, and where a side is all one value."""
    a, b = np.array(first, dtype=np.float64), np.array(second, dtype=np.float64)
    if len(a) < 3 or not (np.ptp(a) and np.ptp(b)):
        raise DataError(
            f"a rank correlation of {len(a)} pairs; expected at least 3, and values that differ on both sides"
        )
    draws = np.random.default_rng(seed).integers(0, len(a), (_DRAWS, len(a)))
    found = _rank_correlations(a[draws], b[draws])
    low, high = np.quantile(found[np.isfinite(found)], [0.025, 0.975])
    return Statistic(_rank_correlation(a, b), Interval(float(low), float(high)))


def _rank_correlations(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spearman's row by row ``[rows, n]``, NaN where a side is all one value: of thousands of rows at once."""
    x, y = (stats.rankdata(side, axis=1) - (side.shape[1] + 1) / 2 for side in (first, second))
    with np.errstate(invalid="ignore"):
        return np.asarray((x * y).sum(1) / np.sqrt((x**2).sum(1) * (y**2).sum(1)))


def _rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)  # a draw of one rating only; left out below
        return float(stats.spearmanr(a, b).statistic)


def _drawn(
    value: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    draws: NDArray[np.int64],
) -> Statistic:
    found = np.array([value(a[draw], b[draw]) for draw in draws])
    low, high = np.quantile(found[np.isfinite(found)], [0.025, 0.975])
    return Statistic(value(a, b), Interval(float(low), float(high)))
