"""Is a side effect small enough not to matter? Two one-sided tests (TOST; Schuirmann 1987).

That no effect was found does not say that there is none. Equivalence is a claim of its own: the true difference lies
within a margin that was set before looking.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tillerman.core.errors import UsageError
from tillerman.statistics.estimates import changes, ensure_finite
from tillerman.statistics.tango import score, score_interval
from tillerman.statistics.values import EQUIVALENCE_ALPHA as ALPHA, Equivalence, Interval

# The largest change of an unrelated task that is let pass, as a share of its items: set before any is looked at.
MARGIN = 0.05


def equivalence(differences: NDArray[np.float64], margin: float) -> Equivalence:
    """Paired differences of a real-valued score, by one-sided t-tests against -``margin`` and ``margin``, in the
    score's own unit.

    ``UsageError`` for a margin that is not above 0 or fewer than two items, ``MetricError`` for values that are not
    finite.
    """
    _check(margin)
    ensure_finite(differences, "paired differences")
    n, mean = len(differences), float(np.mean(differences)) if len(differences) else 0.0
    if n < 2:
        raise UsageError(f"equivalence of {n} items: a spread needs at least two")
    if float(np.std(differences)) == 0:
        return Equivalence(mean, Interval(mean, mean), margin, float(abs(mean) >= margin), n)
    above = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    found = stats.ttest_1samp(differences, 0.0).confidence_interval(1 - 2 * ALPHA)
    return Equivalence(mean, Interval(float(found.low), float(found.high)), margin, float(max(above, below)), n)


def equivalence_of_answers(steered: NDArray[np.bool_], unsteered: NDArray[np.bool_], margin: float) -> Equivalence:
    """Right and wrong on the same items, by Tango's score tests; ``margin`` is a share of the items, below 1.

    ``UsageError`` for another margin, or no items.
    """
    _check(margin)
    if margin >= 1:
        raise UsageError(f"margin {margin:g}: accuracies are shares, so expected less than 1 (5 pp is 0.05)")
    gained, lost, n = changes(steered, unsteered)
    above = float(stats.norm.sf(score(gained, lost, n, -margin)))
    below = float(stats.norm.cdf(score(gained, lost, n, margin)))
    interval = score_interval(gained, lost, n, 1 - 2 * ALPHA)
    return Equivalence((gained - lost) / n, interval, margin, max(above, below), n)


def _check(margin: float) -> None:
    if not 0 < margin < math.inf:
        raise UsageError(
            f"margin {margin:g}: expected a finite number above 0, the largest effect that does not matter"
        )
