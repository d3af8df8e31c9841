"""Several behaviours on one axis, a row for each and a lane for every condition. Pure: values in, SVG out.

What is drawn is what was searched for: accuracy, or the mean score of what the model writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tillerman.logs.conditions import condition_label
from tillerman.logs.evaluation import EvaluationLog
from tillerman.reports.charts.marks import axis, dot, kind_of, shape_of
from tillerman.reports.charts.svg import NARROW, Axis, fit, group, line, marker, rect, svg, text, text_width
from tillerman.reports.numbers import decimal, interval_words, p_value, percent, points, span
from tillerman.statistics.values import Effect, MeanEffect, Rate, ScoreMean

_LANE = 13.0


@dataclass(frozen=True)
class DrawnCondition:
    """A condition: its figure, and its change against unsteered where it has one."""

    name: str
    figure: Rate | ScoreMean
    change: Effect | MeanEffect | None


def by_writing(logs: Sequence[EvaluationLog]) -> bool:
    """Whether the behaviours were searched for by what is written; of a mixture, accuracy is what all of them have."""
    return bool(logs) and all(log.objective == "written" and log.written and log.written.conditions for log in logs)


def overview_chart(logs: Sequence[EvaluationLog], width: int = 860) -> str:
    """One row per behaviour, one lane per condition, one axis for all."""
    narrow, written = width < NARROW, by_writing(logs)
    x = Axis(0, 1, 6 if narrow else 250, width - 6)
    rows = [(log.data_name, _lanes(log, written)) for log in logs]
    legend, top = _legend([lane.name for _, lanes in rows for lane in lanes], width)
    y, drawn = top, []
    for name, lanes in rows:
        row, y = _behaviour(name, lanes, x, y, width)
        drawn.append(row)
    says = " ".join(f"{name}: " + ". ".join(map(_tip, lanes)) + "." for name, lanes in rows)
    scale = axis(x, top, y, decimal) if written else axis(x, top, y)
    title = f"{'Score of written replies' if written else 'Accuracy'} by behaviour and condition"
    return svg((width, y + 26), title, says or "No behaviours.", [*legend, *scale, *drawn])


def _lanes(log: EvaluationLog, written: bool) -> list[DrawnCondition]:
    if not written or log.written is None:
        return [DrawnCondition(one.name, one.rate, one.effect) for one in log.conditions]
    return [DrawnCondition(one.name, one.score, one.change) for one in log.written.conditions if one.score is not None]


def _tip(lane: DrawnCondition) -> str:
    says = f"{condition_label(lane.name)}: {_figure(lane.figure)}, n = {lane.figure.n}"
    if lane.change is None:
        return says
    return f"{says}; effect {_changed(lane.change)}, {p_value(lane.change.p_value)}"


def _figure(figure: Rate | ScoreMean) -> str:
    if isinstance(figure, Rate):
        return f"{percent(figure.value)}, {interval_words(figure.interval)}"
    return f"{decimal(figure.value)}, {interval_words(figure.interval, 1.0, 2)}"


def _changed(change: Effect | MeanEffect) -> str:
    if isinstance(change, Effect):
        return f"{points(change.value)} ({span(change.interval, signed=True)})"
    return f"{decimal(change.value, signed=True)} ({span(change.interval, 1.0, 2, signed=True)})"


def _legend(names: Sequence[str], width: int) -> tuple[list[str], float]:
    parts, left, y = [], 6.0, 12.0
    for name in dict.fromkeys(names):
        label = fit(condition_label(name), width - 40, 12)
        wide = 26 + text_width(label, 12)
        if left + wide > width and left > 6:
            left, y = 6.0, y + 20
        parts += [marker(shape_of(name), left, y, kind_of(name), 4.5), text(left + 11, y + 4, label, "small")]
        left += wide
    return parts, y + 24


def _behaviour(name: str, lanes: Sequence[DrawnCondition], x: Axis, y: float, width: int) -> tuple[str, float]:
    steered = next((lane for lane in lanes if lane.name == "steered"), None)
    change = None if steered is None else steered.change
    says = "the search abstains" if steered is None else "" if change is None else _changed(change)
    parts = [line(0, y, width, y, "rule")]
    if width < NARROW:
        parts.append(rect(0, y + 1, (width, 25), "clear"))
        parts.append(text(0, y + 19, fit(name, width - text_width(says) - 8, 14), "label strong"))
        parts.append(text(width, y + 19, says, "value", "end"))
        first = y + 34
    else:
        middle = y + (_LANE * len(lanes) + 18) / 2
        parts.append(text(0, middle - 4, fit(name, 236, 14), "label strong"))
        parts.append(text(0, middle + 15, says, "value soft"))
        if change is not None and change.interval.low <= 0 <= change.interval.high:
            parts.append(text(0, middle + 32, "no effect found", "small"))
        first = y + 16
    for k, lane in enumerate(lanes):
        parts.append(dot(lane.name, lane.figure, _tip(lane), x, first + k * _LANE, 4.5))
    return group(parts), first + _LANE * max(0, len(lanes) - 1) + 15
