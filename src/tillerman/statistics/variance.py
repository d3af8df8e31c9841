"""How much of a spread over items their known kinds account for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tillerman.statistics.values import Interval

LEAST = 8  # items below which a share has no interval


def explained(values: NDArray[np.float64], *factors: NDArray[np.bool_]) -> float:
    """The share of the variance of ``values [n]`` that a least-squares fit on these factors ``[n]`` accounts for (R²):
    how Tan et al. (arXiv 2407.12404, section 5) part the variance of per-item slopes. 0 where nothing varies.

    Factors that mean nothing still explain ``by_chance`` of it on average."""
    total = float(((values - values.mean()) ** 2).sum())
    if total <= 0:
        return 0.0
    design = np.column_stack([np.ones(len(values)), *(np.asarray(one, dtype=np.float64) for one in factors)])
    fit = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return float(1 - ((values - fit) ** 2).sum() / total)


def explained_interval(values: NDArray[np.float64], *factors: NDArray[np.bool_]) -> Interval:
    """95 % interval of ``explained`` by the jackknife over items (Efron and Stein, Annals of Statistics 9, 1981):
    ``± t(n - 1) * sqrt((n - 1) / n * sum_i (r_-i - mean)²)``, within 0 and 1. Not known for fewer than ``LEAST``."""
    n = len(values)
    if n < LEAST:
        return Interval()
    rest = np.array([explained(np.delete(values, i), *(np.delete(one, i) for one in factors)) for i in range(n)])
    half = float(stats.t.ppf(0.975, n - 1) * np.sqrt((n - 1) / n * ((rest - rest.mean()) ** 2).sum()))
    value = explained(values, *factors)
    return Interval(max(0.0, value - half), min(1.0, value + half))


def by_chance(*factors: NDArray[np.bool_]) -> float:
    """The mean share that these factors explain of values dealt at random over the n items: ``k / (n - 1)``, k the
    number of factors that vary and are not combinations of others."""
    n = len(factors[0])
    design = np.column_stack([np.ones(n), *(np.asarray(one, dtype=np.float64) for one in factors)])
    return (int(np.linalg.matrix_rank(design)) - 1) / (n - 1)
