"""The typed log of a monitor's calibration: what its projections tell apart, and how often it raises an alarm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from tillerman.logs.base import Log
from tillerman.logs.tidy import Tables, record
from tillerman.statistics.values import Interval, Rate


@dataclass(frozen=True)
class Ranking:
    """How often a wanted score is the higher one (area under the ROC curve, Newcombe's interval), over so many of each
    side."""

    value: float
    interval: Interval
    n: int
    unwanted: int


@dataclass(frozen=True)
class RandomDirection:
    """A random direction in the vector's place, its hook point, side and threshold chosen in the same way."""

    hook_point: str
    area: float
    detected: float
    false_alarms: float


@dataclass(frozen=True)
class ReadingTest:
    """One reading at the hook point and threshold that validation items chose, on test items. ``searched`` is its area
    on the validation items; ``threshold`` in the units of the stream."""

    name: str  # prompt, mean, token: see ``core.monitors.Monitor``
    hook_point: str
    threshold: float
    searched: float
    area: Ranking
    detected: Rate
    false_alarms: Rate
    random: tuple[RandomDirection, ...]

    @property
    def best_random(self) -> float:
        """The largest area of a random direction."""
        return max((one.area for one in self.random), default=0.5)

    @property
    def tells(self) -> bool:
        """Whether it tells the sides apart, and better than every random direction."""
        return self.area.interval.low > 0.5 and self.area.value > self.best_random


@dataclass(frozen=True)
class LiveRate:
    """How many of the model's own replies to the test prompts crossed, and after how many tokens (the median; None
    where none did). The name is that of a condition: unsteered, prompt, steered."""

    name: str
    crossed: Rate
    median_token: float | None


@dataclass(frozen=True, repr=False)
class MonitorLog(Log):
    """Everything ``tillerman monitor`` measured. ``reading`` is the one that the monitor has; ``false_alarms`` the
    rate asked for and ``vouched`` the one that the validation items vouch for; ``own`` so many of the unwanted ones
    among them are the model's own replies."""

    kind: ClassVar[str] = "monitor"
    maker: ClassVar[str] = "tillerman monitor --json"

    data_name: str
    model_id: str
    method: str
    reading: str
    above: bool
    least: int
    false_alarms: float
    vouched: float
    validation: int  # items
    own: int
    limit: int  # tokens of the model's own replies
    prompt: str  # that asks for the behaviour; empty: none was given or found
    readings: tuple[ReadingTest, ...]
    live: tuple[LiveRate, ...]
    provenance: dict[str, Any]
    seconds: float
    notes: tuple[str, ...] = ()

    def check(self) -> None:
        """The monitor's own reading is among those that were tested, each beside random directions."""
        names = [one.name for one in self.readings]
        if self.reading not in names:
            raise ValueError(f"readings: {', '.join(names) or 'none'}, and the monitor's is {self.reading}")
        if not all(one.random for one in self.readings):
            raise ValueError("readings: one has no random direction beside it")

    @property
    def chosen(self) -> ReadingTest:
        return next(one for one in self.readings if one.name == self.reading)

    def tidy(self) -> Tables:
        about = {"data": self.data_name, "model": self.model_id, "method": self.method}
        return {
            "readings": (record(one, {**about, "reading": one.name}, ("random",)) for one in self.readings),
            "random": (
                record(draw, {**about, "reading": one.name, "draw": k})
                for one in self.readings
                for k, draw in enumerate(one.random, start=1)
            ),
            "live": (record(one, {**about, "condition": one.name}) for one in self.live),
        }
