"""What charts of conditions share: a mark for each, its interval, and an axis from 0 to 1."""

from __future__ import annotations

from collections.abc import Callable

from tillerman.reports.charts.svg import Axis, group, line, marker, text
from tillerman.reports.numbers import finite, percent
from tillerman.statistics.values import Rate, ScoreMean

_MARKS = {
    "unsteered": "ring",
    "steered": "dot",
    "ungated": "dot",
    "prompt": "square",
    "both": "dot",
    "icl": "diamond",
    "lora": "square",
    "null:shuffled": "down",
}


def shape_of(name: str) -> str:
    return _MARKS.get(name, "up")


def kind_of(name: str) -> str:
    """The class that colours it."""
    return "null" if name not in _MARKS or name.startswith("null") else name


def dot(name: str, figure: Rate | ScoreMean, tip: str, x: Axis, y: float, r: float = 5) -> str:
    """Interval and mark of the condition ``name``; nothing where its figure is not a number."""
    if not finite(figure.value):
        return ""
    interval, parts = figure.interval, []
    if finite(interval.low) and finite(interval.high):
        parts.append(line(x(interval.low), y, x(interval.high), y, f"whisker {kind_of(name)}"))
    return group([*parts, marker(shape_of(name), x(figure.value), y, kind_of(name), r)], tip)


def _whole(tick: float) -> str:
    return percent(tick, 0)


def axis(x: Axis, top: float, bottom: float, shown: Callable[[float], str] = _whole) -> list[str]:
    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        anchor = {0.0: "start", 1.0: "end"}.get(tick, "middle")
        parts.append(line(x(tick), top, x(tick), bottom, "grid"))
        parts.append(text(x(tick), bottom + 17, shown(tick), "tick", anchor))
    return parts
