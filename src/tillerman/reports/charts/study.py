"""The charts of studies: lines over an axis, or rows with intervals. Pure: a ``Chart`` in, SVG out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tillerman.logs.study import Chart, Line, Mark
from tillerman.reports.charts.svg import (
    NARROW,
    Axis,
    fit,
    group,
    line,
    marker,
    path,
    rect,
    svg,
    text,
    text_width,
    ticks,
)
from tillerman.reports.numbers import compact, decimal, finite, nats, percent, points, ratio, span

_HEIGHT, _LANE, _PAD = 220.0, 13.0, 18.0
_SHAPES = {"steered": "dot", "prompt": "square", "cost": "square", "null": "up"}
_SHOWN: dict[str, Callable[[float], str]] = {"pp": points, "%": percent, "x": ratio, "nats": nats, "": decimal}


def study_chart(chart: Chart, width: int = 860) -> str:
    """A curve's values over its axis with whiskers, or a row per label with a dot and its interval per line."""
    lines = [one for one in chart.lines if any(finite(mark.value) for mark in one.marks)]
    if not lines:
        return svg((width, 30), chart.title, "No values.", [text(0, 20, "Nothing was measured.", "label")])
    return _curve(chart, lines, width) if chart.kind == "curve" else _bars(chart, lines, width)


def _curve(chart: Chart, lines: Sequence[Line], width: int) -> str:
    legend, top = _legend(lines, width)
    left, bottom = 58.0, top + _HEIGHT
    spots = [mark for one in lines for mark in one.marks if mark.at is not None]
    places = [mark.at for mark in spots if mark.at is not None]
    pad = 0.0 if chart.log_axis else 0.02 * ((max(places) - min(places)) or 1.0)
    x = Axis(min(places) - pad, max(places) + pad, left + 6, width - 10, log=chart.log_axis)
    y = _values(chart, lines, bottom, top)
    parts = [*_levels(chart, y, left, width), *_places(chart, x, places, bottom, width, left)]
    for one in lines:
        parts += _drawn(chart, one, x, y)
    return svg((width, bottom + 46), chart.title, _says(chart, lines), [*legend, *parts])


def _drawn(chart: Chart, one: Line, x: Axis, y: Axis) -> Iterator[str]:
    marks = sorted((m for m in one.marks if finite(m.value) and m.at is not None), key=lambda m: m.at or 0.0)
    yield path([(x(m.at or 0.0), y(m.value)) for m in marks], f"curve {one.role}")
    for m in marks:
        at = x(m.at or 0.0)
        if m.interval is not None:
            yield line(at, y(m.interval.low), at, y(m.interval.high), f"whisker thin {one.role}")
        if m.label:
            tip = f"{one.name}, {m.label}: {_with_interval(chart, m)}"
            yield group([marker(_SHAPES.get(one.role, "diamond"), at, y(m.value), one.role, 4)], tip)


def _values(chart: Chart, lines: Sequence[Line], low_end: float, high_end: float) -> Axis:
    """All values and their intervals, and the guide; by logarithm where a ratio spans a factor of 20."""
    ends = [end for one in lines for m in one.marks for end in _ends(m) if finite(end)]
    ends += [] if chart.guide is None else [chart.guide]
    low, high = min(ends), max(ends)
    if chart.unit == "x" and low > 0 and high / low > 20:
        return Axis(low * 0.95, high * 1.05, low_end, high_end, log=True)
    room = 0.06 * ((high - low) or 1.0)
    return Axis(low - (0 if low == 0 == chart.guide else room), high + room, low_end, high_end)


def _ends(m: Mark) -> tuple[float, ...]:
    return (m.value,) if m.interval is None else (m.value, m.interval.low, m.interval.high)


def _levels(chart: Chart, y: Axis, left: float, width: int) -> Iterator[str]:
    marked = [] if chart.guide is None else [chart.guide]
    grid = [10.0**k for k in range(-3, 7) if y.low <= 10.0**k <= y.high] if y.log else list(ticks(y.low, y.high, 5))
    for value in [*marked, *(t for t in grid if all(abs(y(t) - y(g)) > 13 for g in marked))]:
        yield line(left, y(value), width, y(value), "guide" if value in marked else "grid")
        yield text(left - 8, y(value) + 4, _tick(chart, value), "tick", "end")


def _tick(chart: Chart, value: float) -> str:
    return compact(100 * value) if chart.unit in ("pp", "%") else compact(value)


def _places(chart: Chart, x: Axis, places: Sequence[float], bottom: float, width: int, left: float) -> Iterator[str]:
    shown = sorted(set(places)) if chart.log_axis else ticks(min(places), max(places), 9 if width >= NARROW else 5)
    last = -1e9
    for place in shown:
        label = compact(place)
        if x(place) - last < text_width(label, 11) + 8:
            continue
        last = x(place)
        yield text(x(place), bottom + 18, label, "tick", "middle")
    axis = chart.axis + (" (by logarithm)" if chart.log_axis else "")
    yield text((left + width) / 2, bottom + 38, axis, "head", "middle")


def _bars(chart: Chart, lines: Sequence[Line], width: int) -> str:
    """A row per label of the first line; the other lines' marks of that label stand below it."""
    labels = list(dict.fromkeys(mark.label for one in lines for mark in one.marks))
    legend, top = _legend(lines, width)
    narrow = width < NARROW
    ends = [end for one in lines for m in one.marks for end in _ends(m) if finite(end)]
    guide = [] if chart.guide is None else [chart.guide]
    low, high = min([*ends, *guide]), max([*ends, *guide])
    room = 0.03 * ((high - low) or 1.0)
    x = Axis(low - room, high + room, 6 if narrow else 220, width - (6 if narrow else 190))
    parts: list[str] = []
    y = top
    for label in labels:
        mine = [(one, m) for one in lines for m in one.marks if m.label == label and finite(m.value)]
        if mine:
            parts += _row(chart, label, mine, x, y, width)
            y += _PAD + _LANE * len(mine) + (20 if narrow else 0)
    axis = []
    for tick in ticks(x.low, x.high, 5):
        axis.append(line(x(tick), top, x(tick), y, "guide" if tick in guide else "grid"))
        axis.append(text(x(tick), y + 17, _tick(chart, tick), "tick", "middle"))
    unit = {"pp": ", pp", "%": ", %", "nats": ", nats per token"}.get(chart.unit, "")
    axis.append(text((x.start + x.end) / 2, y + 36, chart.axis + unit, "head", "middle"))
    return svg((width, y + 44), chart.title, _says(chart, lines), [*legend, *axis, *parts])


def _row(chart: Chart, label: str, mine: Sequence[tuple[Line, Mark]], x: Axis, y: float, width: int) -> Iterator[str]:
    narrow, first = width < NARROW, mine[0][1]
    says = _with_interval(chart, first)
    yield line(0, y, width, y, "rule")
    if narrow:
        yield rect(0, y + 1, (width, 20), "clear")
    yield text(0, y + 17, fit(label, width - 12 - text_width(says) if narrow else 210), "label")
    yield text(width, y + 17, says, "value", "end")
    at = y + (34 if narrow else 13)
    for k, (one, m) in enumerate(mine):
        here = at + k * _LANE
        drawn = [marker(_SHAPES.get(one.role, "diamond"), x(m.value), here, one.role, 5 if k == 0 else 3.5)]
        if m.interval is not None:
            drawn.insert(0, line(x(m.interval.low), here, x(m.interval.high), here, f"whisker thin {one.role}"))
        yield group(drawn, f"{label}, {one.name}: {_with_interval(chart, m)}")


def _legend(lines: Sequence[Line], width: int) -> tuple[list[str], float]:
    """Nothing for one line: the title says what it is."""
    if len(lines) < 2:
        return [], 12.0
    parts: list[str] = []
    left, y = 6.0, 12.0
    for one in lines:
        label = fit(one.name, width - 40, 12)
        wide = 26 + text_width(label, 12)
        if left + wide > width and left > 6:
            left, y = 6.0, y + 20
        parts += [
            marker(_SHAPES.get(one.role, "diamond"), left, y, one.role, 4.5),
            text(left + 11, y + 4, label, "small"),
        ]
        left += wide
    return parts, y + 20


def _with_interval(chart: Chart, m: Mark) -> str:
    value = _SHOWN[chart.unit](m.value)
    if m.interval is None:
        return value
    shares = chart.unit in ("pp", "%")
    return f"{value} ({span(m.interval, 100 if shares else 1, 1 if shares else 2, signed=chart.unit == 'pp')})"


def _says(chart: Chart, lines: Sequence[Line]) -> str:
    return ". ".join(
        f"{one.name}, {m.label}: {_with_interval(chart, m)}" for one in lines for m in one.marks if m.label
    )
