"""The typed log of how long a model thinks, and of whether its answers are right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from tillerman.logs.base import Log
from tillerman.logs.tidy import Tables, record
from tillerman.statistics.values import Effect, Interval, Rate


@dataclass(frozen=True)
class Mean:
    """A mean over n items with its bootstrap interval."""

    value: float
    interval: Interval
    n: int


@dataclass(frozen=True)
class Thinking:
    """One way of running the model. ``change`` and ``effect`` are against unsteered on the same items, None for
    unsteered itself; ``right`` is None for items without a reference answer. ``stripped`` is the length without
    what repeats, ``repetition`` the share of repeated runs, ``thoughtless`` the share of replies without a thought."""

    name: str  # unsteered, steered, prompt, both, null:random; on the curve steered
    detail: str
    strength: float
    length: Mean
    change: Mean | None
    stripped: Mean
    repetition: float
    unfinished: Rate
    thoughtless: float
    right: Rate | None
    effect: Effect | None


@dataclass(frozen=True, repr=False)
class ThoughtLog(Log):
    """Everything ``tillerman eval --metric thought-length`` measured."""

    kind: ClassVar[str] = "thoughts"
    maker: ClassVar[str] = "tillerman eval --metric thought-length --json"

    data_name: str
    model_id: str
    method: str
    hook_point: str
    strength: float
    dose: float
    scope: str
    system: str | None
    n: int
    limit: int  # maximum tokens of a reply
    conditions: tuple[Thinking, ...]
    curve: tuple[Thinking, ...]  # the vector at multiples of its strength
    provenance: dict[str, Any]
    seconds: float
    notes: tuple[str, ...] = ()

    def check(self) -> None:
        """What every report of thoughts compares."""
        missing = {"unsteered", "steered"} - {one.name for one in self.conditions}
        if missing:
            raise ValueError(f"conditions: none is called {min(missing)}")

    def tidy(self) -> Tables:
        about = {"data": self.data_name, "model": self.model_id, "method": self.method}
        return {
            "conditions": (record(one, {**about, "condition": one.name}) for one in self.conditions),
            "curve": (record(one, {**about, "condition": one.name}) for one in self.curve),
        }

    def condition(self, name: str) -> Thinking:
        return next(c for c in self.conditions if c.name == name)
