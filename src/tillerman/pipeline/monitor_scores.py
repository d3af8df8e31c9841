"""What a monitor would read of whole answers, and the choice of its hook point and threshold from that. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tillerman.core.errors import UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.logs.monitor import RandomDirection, Ranking, ReadingTest
from tillerman.statistics.estimates import rate
from tillerman.statistics.ranking import alarm_threshold, area, area_interval

ABOVE, BELOW = 1.0, -1.0
Scores = NDArray[np.float64]  # [texts, hook points, directions, sides]; NaN for a text that could not cross


def peaks(projections: NDArray[np.float64], read: str, least: int) -> NDArray[np.float64]:
    """``[tokens, directions]`` of one answer to ``[directions, 2]``: the highest value that the monitor's statistic
    takes while the answer grows, and minus its lowest. NaN for an answer that is too short to be read."""
    if read == "prompt":  # of the prompt's last token alone
        values = projections[-1:]
    elif read == "token":
        values = projections
    else:
        values = np.cumsum(projections, 0) / np.arange(1, len(projections) + 1)[:, None]
        values = values[least - 1 :]
    if not len(values):
        return np.full((projections.shape[1], 2), np.nan)
    return np.stack([values.max(0), -values.min(0)], 1)


@dataclass(frozen=True, eq=False)
class Sides:
    """Scores of texts that should raise an alarm and of those that should not."""

    wanted: Scores
    unwanted: Scores

    def at(self, place: tuple[int, int, int], floor: float | None = None) -> tuple[NDArray[np.float64], ...]:
        """Of one hook point, direction and side. What could not cross is below ``floor`` and all others."""
        both = [side[(slice(None), *place)] for side in (self.wanted, self.unwanted)]
        known = np.concatenate(both)
        known = known[~np.isnan(known)]
        if not len(known):
            raise UsageError("every answer is too short to be read; give a smaller `least`")
        lowest = min([float(known.min()), *([] if floor is None else [floor])]) - 1.0
        return tuple(np.where(np.isnan(side), lowest, side) for side in both)


@dataclass(frozen=True)
class Chosen:
    """Where one direction is read, from which side, and the threshold on the scores; ``searched`` is its area on the
    items that chose, ``vouched`` the rate of false alarms that they vouch for."""

    place: tuple[int, int, int]
    threshold: float
    searched: float
    vouched: float

    @property
    def sign(self) -> float:
        return (ABOVE, BELOW)[self.place[2]]


def choose(found: Sides, direction: int, sides: Sequence[int], false_alarms: float) -> Chosen:
    """The hook point (and, of several, the side) with the largest area, the first of equals, and its threshold."""
    places = [(point, direction, side) for point in range(found.wanted.shape[1]) for side in sides]
    areas = [area(*found.at(place)) for place in places]
    best = int(np.argmax(areas))
    threshold, vouched = alarm_threshold(found.at(places[best])[1], false_alarms)
    return Chosen(places[best], threshold, areas[best], vouched)


def on_test_items(
    name: str, points: Sequence[HookPoint], found: Sides, chosen: Chosen, draws: Sequence[Chosen]
) -> ReadingTest:
    """The choices on test items."""
    wanted, unwanted = found.at(chosen.place, chosen.threshold)
    value = area(wanted, unwanted)
    alarms = [side > chosen.threshold for side in (wanted, unwanted)]
    return ReadingTest(
        name=name,
        hook_point=str(points[chosen.place[0]]),
        threshold=chosen.sign * chosen.threshold,
        searched=chosen.searched,
        area=Ranking(value, area_interval(value, len(wanted), len(unwanted)), len(wanted), len(unwanted)),
        detected=rate(alarms[0], [""] * len(wanted)),
        false_alarms=rate(alarms[1], [""] * len(unwanted)),
        random=tuple(_random(points, found, draw) for draw in draws),
    )


def _random(points: Sequence[HookPoint], found: Sides, chosen: Chosen) -> RandomDirection:
    wanted, unwanted = found.at(chosen.place, chosen.threshold)
    rates = [float((side > chosen.threshold).mean()) for side in (wanted, unwanted)]
    return RandomDirection(str(points[chosen.place[0]]), area(wanted, unwanted), *rates)
