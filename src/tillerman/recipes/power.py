"""What a run with so wide an interval would have shown: the power of a claim's test, from its own spread."""

from __future__ import annotations

import math

from scipy import stats

from tillerman.logs.reproduction import ClaimVerdict
from tillerman.recipes.metrics import METRICS
from tillerman.recipes.recipe import Claim
from tillerman.statistics.power import POWER

_LEVEL = 0.975  # of one side of an interval


def least_shown(claim: Claim, verdict: ClaimVerdict) -> float | None:
    """The true figure beyond which a claim holds in ``POWER`` of such runs, as a distance from 0: ``margin +
    (q(0.975) + q(0.8)) se``, q of a t-distribution where the interval is over seeds or tasks. For ``within`` the
    narrowest margin that is shown as often where the truth is 0: ``(q(0.975) + q(0.9)) se``. Of ratios, a ratio.

    None where there is no interval, or none that has a width."""
    interval = verdict.interval
    if interval is None or not interval.known:
        return None
    is_ratio = METRICS[verdict.metric].log
    low, high = (math.log(max(x, 1e-300)) if is_ratio else x for x in (interval.low, interval.high))
    if not high > low:
        return None
    quantile = stats.norm.ppf if verdict.unit == "item" else stats.t(verdict.n - 1).ppf
    error = (high - low) / 2 / float(quantile(_LEVEL))
    if claim.expect == "within":
        least = (float(quantile(_LEVEL)) + float(quantile((1 + POWER) / 2))) * error
    else:
        least = claim.margin + (float(quantile(_LEVEL)) + float(quantile(POWER))) * error
    return math.exp(least) if is_ratio else least
