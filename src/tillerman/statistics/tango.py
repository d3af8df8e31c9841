"""The difference of two proportions seen on the same items: its score statistic and interval.

Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample design",
Statistics in Medicine 17 (1998). Only items that changed count: ``gained`` were wrong and became right, ``lost`` the
other way round.
"""

from __future__ import annotations

from scipy import optimize, stats

from tillerman.statistics.values import Interval


def score(gained: int, lost: int, n: int, difference: float) -> float:
    """Tango's z of the hypothesis that the true difference is ``difference``; falls as that grows.

    z = (gained - lost - n d) / sqrt(n (2 q + d (1 - d))), where q is the most likely share of lost items if d is
    true. At d = 0 its square is McNemar's statistic; 0 where nothing changed and d is 0.
    """
    d = difference
    above = gained - lost - n * d
    a, b, c = 2 * n, -gained - lost + (2 * n - gained + lost) * d, -lost * d * (1 - d)
    q = (max(b * b - 4 * a * c, 0.0) ** 0.5 - b) / (2 * a)
    variance = n * (2 * q + d * (1 - d))
    return 0.0 if above == 0 else above / max(variance, 1e-30) ** 0.5


def score_interval(gained: int, lost: int, n: int, level: float = 0.95) -> Interval:
    """All differences that the score test does not refuse at 1 - ``level``, two-sided."""
    z = float(stats.norm.ppf((1 + level) / 2))
    value = (gained - lost) / n

    def end(border: float, target: float) -> float:
        if gained - lost == n * border:
            return border
        low, high = sorted((border, value))
        return float(optimize.brentq(lambda d: score(gained, lost, n, d) - target, low, high))

    return Interval(end(-1.0, z), end(1.0, -z))
