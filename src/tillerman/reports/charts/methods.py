"""Effects of several methods on one axis, each above its nulls. Pure: values in, SVG out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tillerman.logs.comparison import Comparison, MethodResult
from tillerman.logs.conditions import condition_label
from tillerman.logs.evaluation import Condition
from tillerman.reports.charts.svg import NARROW, Axis, fit, group, line, marker, rect, svg, text, text_width, ticks
from tillerman.reports.numbers import compact, decimal, finite, interval_words, points, span
from tillerman.statistics.values import Effect

_LANE, _PAD = 12.0, 20.0
# right edges of the value columns at 860 pixels: effect, its interval, KL
_COLUMNS = (("effect, pp", 700.0), ("95 % interval", 800.0), ("KL", 860.0))


@dataclass(frozen=True)
class _Mark:
    """One effect with its interval, in a lane of its own."""

    name: str
    shape: str
    kind: str
    effect: Effect

    @property
    def whisker(self) -> str:
        return f"whisker thin {self.kind}" if self.kind == "null" else f"whisker {self.kind}"

    def draw(self, x: Axis, y: float, row: str) -> str:
        """Nothing where the value is not a number."""
        interval = self.effect.interval
        if not all(map(finite, (self.effect.value, interval.low, interval.high))):
            return ""
        tip = f"{row}, {self.name}: {points(self.effect.value)}, {interval_words(interval, signed=True)}"
        r = 3.5 if self.kind == "null" else 5.0
        parts = [line(x(interval.low), y, x(interval.high), y, self.whisker)]
        return group([*parts, marker(self.shape, x(self.effect.value), y, self.kind, r)], tip)


@dataclass(frozen=True)
class _Row:
    label: str
    marks: tuple[_Mark, ...]
    kl: float | None  # None: not a thing of neutral text

    @property
    def height(self) -> float:
        return _PAD + _LANE * len(self.marks)

    @property
    def values(self) -> tuple[str, str, str]:
        first = self.marks[0].effect
        kl = "" if self.kl is None else decimal(self.kl, 3)
        return points(first.value).removesuffix(" pp"), span(first.interval, signed=True), kl


def compare_chart(comparison: Comparison, width: int = 860) -> str:
    """Effect of each method on the test items with its 95 % interval, and below it its effect at equal KL and
    its nulls; the dashed line is the unsteered model."""
    rows = [*_baselines(comparison.baselines), *map(_method, comparison.methods)]
    narrow = width < NARROW
    legend, top = _legend(rows, width)
    top += 4 if narrow else 26
    x = _scale(rows, 6 if narrow else 190, width - (6 if narrow else 250))
    y, drawn = top, []
    for row in rows:
        drawn += _narrow(row, x, y, width) if narrow else _wide(row, x, y, width)
        y += row.height + (20 if narrow else 0)
    heads = [] if narrow else [text(edge + width - 860, top - 8, name, "head", "end") for name, edge in _COLUMNS]
    says = ". ".join(f"{row.label}: {points(row.marks[0].effect.value)}" for row in rows) or "No methods."
    title = f"Effect on {comparison.data_name} by method"
    return svg((width, y + 26), title, says, [*legend, *heads, *_axis(x, top, y), *drawn])


def _baselines(conditions: Sequence[Condition]) -> Iterator[_Row]:
    shapes = {"prompt": "square", "icl": "diamond"}
    for one in conditions:
        if one.effect is not None:
            label = condition_label(one.name)
            yield _Row(label, (_Mark(label, shapes.get(one.name, "square"), one.name, one.effect),), None)


def _method(m: MethodResult) -> _Row:
    marks = [_Mark("steered", "dot" if m.effect.found else "ring", "steered", m.effect)]
    if m.at_budget is not None:
        marks.append(_Mark("at equal KL", "square", "steered", m.at_budget.effect))
    for null in m.nulls:
        if null.effect is not None:
            shape = "down" if null.name == "null:shuffled" else "up"
            marks.append(_Mark(condition_label(null.name), shape, "null", null.effect))
    return _Row(m.method, tuple(marks), m.side_effects.kl)


def _scale(rows: Sequence[_Row], start: float, end: float) -> Axis:
    intervals = [mark.effect.interval for row in rows for mark in row.marks]
    ends = [edge for one in intervals for edge in (one.low, one.high) if finite(edge)]
    low, high = min([0.0, *ends]), max([0.1, *ends])
    room = 0.03 * (high - low)
    return Axis(low - room, high + room, start, end)


def _axis(x: Axis, top: float, bottom: float) -> list[str]:
    parts = []
    for tick in ticks(x.low, x.high, 5):
        parts.append(line(x(tick), top, x(tick), bottom, "guide" if tick == 0 else "grid"))
        label = compact(100 * tick) + (" pp" if tick == 0 else "")
        half = text_width(label, 11) / 2
        middle = min(max(x(tick), x.start + half), x.end - half)
        parts.append(text(middle, bottom + 17, label, "tick", "middle"))
    return parts


def _legend(rows: Sequence[_Row], width: int) -> tuple[list[str], float]:
    marks = {mark.name: mark for row in rows for mark in row.marks}
    parts, left, y = [], 6.0, 12.0
    for name, mark in marks.items():
        label = fit(name, width - 40, 12)
        wide = 26 + text_width(label, 12)
        if left + wide > width and left > 6:
            left, y = 6.0, y + 20
        shape = "dot" if name == "steered" else mark.shape
        parts += [marker(shape, left, y, mark.kind, 4.5), text(left + 11, y + 4, label, "small")]
        left += wide
    return parts, y + 16


def _wide(row: _Row, x: Axis, y: float, width: int) -> list[str]:
    base = y + 18
    strong = " strong" if row.kl is not None and row.marks[0].effect.found else ""
    parts = [line(0, y, width, y, "rule"), text(0, base, fit(row.label, 180), f"label{strong}")]
    for (name, edge), value in zip(_COLUMNS, row.values, strict=True):
        kind = f"value{strong}" if name == "effect, pp" else "value soft"
        parts.append(text(edge + width - 860, base, value, kind, "end"))
    return parts + _lanes(row, x, y + 13)


def _narrow(row: _Row, x: Axis, y: float, width: int) -> list[str]:
    strong = " strong" if row.kl is not None and row.marks[0].effect.found else ""
    effect, interval, _ = row.values
    says = f"{effect} ({interval})"
    parts = [
        line(0, y, width, y, "rule"),
        rect(0, y + 1, (width, 20), "clear"),
        text(0, y + 16, fit(row.label, width - 8 - text_width(says)), f"label{strong}"),
        text(width, y + 16, says, f"value{strong}", "end"),
    ]
    return parts + _lanes(row, x, y + 32)


def _lanes(row: _Row, x: Axis, y: float) -> list[str]:
    return [mark.draw(x, y + k * _LANE, row.label) for k, mark in enumerate(row.marks)]
