"""What a number of test items can show, known before they are looked at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import optimize, stats

from tillerman.core.errors import UsageError
from tillerman.statistics.values import Power

# Share of items that change their answer: before a run a range, of the shipped behaviours; afterwards the measured one.
DISCORDANT = 0.2
MANY_DISCORDANT = 0.5
ALPHA = 0.05
POWER = 0.8


def power_of(effect: float, n: int, discordant: float = DISCORDANT, alpha: float = ALPHA) -> float:
    """Probability that ``n`` paired items show a true effect: that the exact McNemar test's p is below ``alpha``.

    Of n items D ~ Bin(n, s) change, of these G ~ Bin(D, (1 + effect / s) / 2) become right, and the claim is made
    where P(Bin(D, 1/2) >= G) < alpha / 2. s is ``discordant``, or the effect where that is larger: an effect of 30 pp
    needs 30 % of the items to change.

    ``UsageError`` for an effect or a share outside [0, 1], no items, or an alpha outside (0, 1).
    """
    if not (0 <= effect <= 1 and 0 < discordant <= 1 and 0 < alpha < 1 and n >= 1):
        raise UsageError(
            f"power of effect {effect:g} on {n} items, {discordant:g} of them changed, alpha {alpha:g}: expected "
            "shares within 0..1 and at least one item"
        )
    share = max(discordant, effect)
    changed = np.arange(n + 1)
    least = stats.binom.isf(alpha / 2, changed, 0.5) + 1
    claimed = stats.binom.sf(least - 1, changed, (1 + effect / share) / 2)
    return float(np.sum(stats.binom.pmf(changed, n, share) * claimed))


def minimum_detectable_effect(
    n: int, discordant: float = DISCORDANT, power: float = POWER, alpha: float = ALPHA
) -> float | None:
    """The smallest true effect that ``n`` paired items show with probability ``power``, as a share; None where
    they show not even the largest so often."""
    if not 0 < power < 1:
        raise UsageError(f"power {power:g}: expected a probability between 0 and 1")

    def lacking(effect: float) -> float:
        return power_of(effect, n, discordant, alpha) - power

    return None if lacking(1.0) < 0 else float(optimize.brentq(lacking, 0.0, 1.0))


def if_many_change(power: Power) -> Power:
    """The same items, if as many change their answer as of the shipped behaviours that change most."""
    return replace(
        power,
        minimum=minimum_detectable_effect(power.n, MANY_DISCORDANT, power.power, power.alpha),
        discordant=MANY_DISCORDANT,
    )


def foreseen(n: int, comparisons: int = 1, discordant: float = DISCORDANT) -> Power:
    """Of ``n`` test items, if a share ``discordant`` of them changes its answer. Where several methods are compared,
    each has its share of alpha (Bonferroni, the worst case of Holm)."""
    alpha, share = ALPHA / comparisons, max(discordant, 1 / n)
    return Power(n, minimum_detectable_effect(n, share, alpha=alpha), share, POWER, alpha)
