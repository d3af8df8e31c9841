"""The typed log of a study: what was asked, what came out for every item, and what follows from that."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tillerman.core.errors import MetricError, UnknownNameError
from tillerman.logs.base import Log
from tillerman.logs.table import Table
from tillerman.logs.tidy import Tables, record, spread
from tillerman.logs.verdict import Verdict
from tillerman.statistics.values import Interval

KINDS = ("curve", "bars")
UNITS = ("pp", "%", "x", "nats", "")


@dataclass(frozen=True)
class Trial:
    """What a scorer gave each item, in one case and under one condition. Right and wrong are 1 and 0.

    ``case`` is what the study varies, ``at`` where that lies on an axis, ``groups`` the right answers'
    letters (or words), ``texts`` what was scored, where it was text.

    ``MetricError`` for a value that is not a finite number: it is refused, never averaged.
    """

    case: str
    condition: str  # unsteered, steered, prompt, null:random, ...
    items: tuple[str, ...]
    values: tuple[float, ...]
    groups: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    at: float | None = None
    scorer: str = "right"

    def __post_init__(self) -> None:
        if not self.items:
            raise MetricError(f"{self.case}, {self.condition}: no item was scored")
        for name in ("values", "groups", "texts"):
            length = len(getattr(self, name))
            if length != len(self.items) and (length or name == "values"):
                raise MetricError(f"{self.case}, {self.condition}: {len(self.items)} items, {length} {name}")
        broken = [item for item, value in zip(self.items, self.values, strict=True) if not math.isfinite(value)]
        if broken:
            raise MetricError(
                f"{self.case}, {self.condition}: {self.scorer} is not a finite number for {len(broken)} "
                f"of {len(self.items)} items, the first {broken[0]}; a smaller strength may keep the "
                "model in one piece"
            )


@dataclass(frozen=True)
class Mark:
    """A figure in a chart. ``at``: its place on the axis of a curve; bars stand in order."""

    label: str
    value: float
    interval: Interval | None
    n: int
    at: float | None = None


@dataclass(frozen=True)
class Line:
    """Marks that belong together; on a curve they are joined. ``role`` is a condition's name, for its colour."""

    name: str
    marks: tuple[Mark, ...]
    role: str = "steered"


@dataclass(frozen=True)
class Chart:
    """Values as data; drawing is the page's. ``unit``: pp and % are shares in [0, 1], x is a ratio."""

    title: str
    kind: str  # curve or bars
    unit: str  # pp, %, x, nats, or nothing
    lines: tuple[Line, ...]
    axis: str = ""
    guide: float | None = 0.0
    log_axis: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UnknownNameError("kind of chart", self.kind, KINDS)
        if self.unit not in UNITS:
            raise UnknownNameError("unit of a chart", self.unit, UNITS)


@dataclass(frozen=True)
class Judged:
    """What follows from trials."""

    verdict: Verdict
    tables: tuple[Table, ...]
    charts: tuple[Chart, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class StudyLog(Log):
    """Everything one study measured, and what it says."""

    kind: ClassVar[str] = "study"
    maker: ClassVar[str] = "tillerman study NAME --out FOLDER"

    study: str
    question: str
    data_name: str
    model_id: str
    method: str
    hook_point: str
    strength: float
    dose: float
    scope: str
    options: dict[str, Any]
    trials: tuple[Trial, ...]
    verdict: Verdict
    tables: tuple[Table, ...]
    charts: tuple[Chart, ...]
    notes: tuple[str, ...]
    provenance: dict[str, Any]
    seconds: float

    def tidy(self) -> Tables:
        about = {"study": self.study, "data": self.data_name, "model": self.model_id, "method": self.method}
        return {
            "trials": (
                {
                    **record(trial, about, ("items", "values", "groups", "texts")),
                    "item": item,
                    "value": trial.values[place],
                    "group": trial.groups[place] if trial.groups else None,
                    "text": trial.texts[place] if trial.texts else None,
                }
                for trial in self.trials
                for place, item in enumerate(trial.items)
            ),
            "marks": (
                {**about, "chart": chart.title, "unit": chart.unit, "line": line.name, "role": line.role}
                | {"label": mark.label, "at": mark.at, **spread("value", mark.value), "value_n": mark.n}
                | spread("value", mark.interval or Interval())
                for chart in self.charts
                for line in chart.lines
                for mark in line.marks
            ),
        }

    def judged(self, result: Judged) -> StudyLog:
        """The same trials with what follows from them made anew."""
        return replace(self, verdict=result.verdict, tables=result.tables, charts=result.charts, notes=result.notes)
