"""What a statistic is, as plain values: a rate, an effect, an interval, each with its n."""

from __future__ import annotations

import math
from dataclasses import dataclass

EQUIVALENCE_ALPHA = 0.05


LEAST_ITEMS = 5  # fewer have no interval: none covers what it says


@dataclass(frozen=True)
class Interval:
    """A 95 % interval. Without ends where too little is known for one: it then holds every value, and is ``{}`` in
    JSON."""

    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if (self.low == -math.inf) != (self.high == math.inf):
            raise ValueError("an interval with one end only")

    @property
    def known(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def ends(self) -> list[float | None]:
        """As ``--json`` has them."""
        return [self.low, self.high] if self.known else [None, None]


NO_INTERVAL = Interval()


@dataclass(frozen=True)
class Rate:
    """A share of items with its Wilson interval; ``balanced`` is the mean over the right answer's
    letters (or words), which a constant answer cannot raise."""

    value: float
    interval: Interval
    n: int
    balanced: float


@dataclass(frozen=True)
class Effect:
    """Steered minus unsteered on the same items: Tango's score interval and the exact McNemar p, which agree: the
    interval holds 0 exactly where that p is 0.05 or more (from ``LEAST_ITEMS`` items on)."""

    value: float
    interval: Interval
    p_value: float
    n: int
    balanced: float  # difference of the balanced accuracies

    @property
    def found(self) -> bool:
        return self.interval.low > 0

    def _repr_html_(self) -> str:
        """As a notebook shows it: percentage points with the interval, n and p."""
        low, high = self.interval.ends
        within = (
            "no interval" if low is None or high is None else f"95 % interval {100 * low:+.1f} to {100 * high:+.1f}"
        )
        return f"<b>{100 * self.value:+.1f} pp</b> ({within}), n = {self.n}, p = {self.p_value:.2g}"


@dataclass(frozen=True)
class MeanEffect:
    """Mean paired change of a real-valued score (log-odds, lengths, points): bootstrap interval, sign-flip p."""

    value: float
    interval: Interval
    p_value: float
    n: int

    @property
    def found(self) -> bool:
        return self.interval.low > 0


@dataclass(frozen=True)
class Equivalence:
    """Is an effect too small to matter? Two one-sided tests against ±``margin``; ``p_value`` is the larger of theirs.
    ``interval`` is the 90 % interval, which lies within the margin exactly where that p is below 0.05."""

    value: float
    interval: Interval
    margin: float
    p_value: float
    n: int

    @property
    def equivalent(self) -> bool:
        return self.p_value < EQUIVALENCE_ALPHA


@dataclass(frozen=True)
class Power:
    """Known before the run: on ``n`` test items an effect of ``minimum`` or more is found with probability
    ``power``, if a share ``discordant`` of the items change their answer. None: no effect is found that often."""

    n: int
    minimum: float | None
    discordant: float
    power: float
    alpha: float  # two-sided


@dataclass(frozen=True)
class ScoreMean:
    """A mean with its 95 % interval over ``n`` of ``of`` (prompts, items, draws). ``missing`` values were left out.
    ``balanced`` is the mean over the right answers' letters, which a constant answer cannot raise."""

    value: float
    interval: Interval
    n: int
    missing: int
    of: str = "prompts"
    balanced: float | None = None

    @property
    def found(self) -> bool:
        """Whether the interval leaves 0 out, as a change's should."""
        return self.interval.low > 0 or self.interval.high < 0
