"""How well a score ranks wanted above unwanted: the area under the ROC curve, with its interval."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from tillerman.core.errors import UsageError
from tillerman.statistics.estimates import ensure_finite
from tillerman.statistics.values import Interval

_LEVEL = 0.95
_EDGE = 1e-9


def area(wanted: ArrayLike, unwanted: ArrayLike) -> float:
    """The chance that a wanted one scores higher than an unwanted one, ties as a half (Mann and Whitney's U over
    the number of pairs).

    ``UsageError`` where a side is empty, ``MetricError`` for scores that are not finite.
    """
    high, low = np.asarray(wanted, dtype=np.float64), np.asarray(unwanted, dtype=np.float64)
    if not len(high) or not len(low):
        raise UsageError("an area under the curve of no scores; give some of both sides")
    ensure_finite(high, "scores of wanted ones")
    ensure_finite(low, "scores of unwanted ones")
    ranks = stats.rankdata(np.concatenate([high, low]))[: len(high)]
    return float((ranks.sum() - len(high) * (len(high) + 1) / 2) / (len(high) * len(low)))


def alarm_threshold(unwanted: ArrayLike, rate: float) -> tuple[float, float]:
    """The least of these scores that no more than a share ``rate`` of further ones like them is expected to exceed, and
    the share that it vouches for.

    It is the ``ceil((1 - rate) (n + 1))``-th smallest of n (split conformal prediction: Vovk et al. 2005; a further
    exchangeable score exceeds it with a chance of at most ``rate``). Where n is too small for the rate, the largest,
    which vouches for ``1 / (n + 1)`` only.

    ``UsageError`` for no scores or a rate that is not between 0 and 1, ``MetricError`` for scores that are not finite.
    """
    scores = np.sort(np.asarray(unwanted, dtype=np.float64))
    if not len(scores):
        raise UsageError("a threshold from no scores; give some that should raise no alarm")
    if not 0 < rate < 1:
        raise UsageError(f"a rate of false alarms of {rate}: expected a share between 0 and 1")
    ensure_finite(scores, "scores of unwanted ones")
    rank = int(np.ceil((1 - rate) * (len(scores) + 1) - _EDGE))
    if rank > len(scores):
        return float(scores[-1]), 1 / (len(scores) + 1)
    return float(scores[rank - 1]), rate


def area_interval(found: float, wanted: int, unwanted: int) -> Interval:
    """95 % score interval of an area from so many on each side (Newcombe 2006, Statistics in Medicine 25:559, method
    5): all t with ``|found - t| <= z sd(t)``,

    ``sd(t)^2 = t (1 - t) / (m n) * (1 + N ((1 - t) / (2 - t) + t / (1 + t)))`` with ``N = (m + n) / 2 - 1``.

    It has a width also where nothing is ranked wrong, which a bootstrap has not.
    """
    z, size = float(stats.norm.ppf((1 + _LEVEL) / 2)), (wanted + unwanted) / 2 - 1

    def beyond(t: float) -> float:
        spread = t * (1 - t) / (wanted * unwanted) * (1 + size * ((1 - t) / (2 - t) + t / (1 + t)))
        return (found - t) ** 2 - z * z * spread

    inside = min(max(found, _EDGE), 1 - _EDGE)  # at 0 and 1 the spread is 0, and the edge itself solves the equation
    low = 0.0 if found <= 0 else float(optimize.brentq(beyond, 0.0, inside))
    high = 1.0 if found >= 1 else float(optimize.brentq(beyond, inside, 1.0))
    return Interval(low, high)
