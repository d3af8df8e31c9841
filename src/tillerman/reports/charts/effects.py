"""Accuracy of every way of running the model, as dots with 95 % intervals. Pure: values in, SVG out.

``effect_chart`` is one behaviour, a row per condition; ``overview_chart`` is one row per behaviour on
a common axis. The heat map is in ``charts_grid``, the dose-response in ``charts_dose``.
"""

from __future__ import annotations

from collections.abc import Sequence

from tillerman.logs.conditions import condition_label
from tillerman.logs.evaluation import Condition, EvaluationLog
from tillerman.reports.charts.svg import Axis, fit, group, line, marker, rect, svg, text, text_width
from tillerman.reports.numbers import finite, interval_words, p_value, percent, points, span

NARROW = 600  # pixels; below it a label stands above its row instead of beside it

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


def _shape(name: str) -> str:
    return _MARKS.get(name, "up")


def _kind(name: str) -> str:
    return "null" if name not in _MARKS or name.startswith("null") else name


def _tip(condition: Condition) -> str:
    rate, effect = condition.rate, condition.effect
    says = f"{condition_label(condition.name)}: {percent(rate.value)}, {interval_words(rate.interval)}"
    says += f", n = {rate.n}"
    if effect is not None:
        says += f"; effect {points(effect.value)}, {interval_words(effect.interval, signed=True)}"
        says += f", {p_value(effect.p_value)}"
    return says


def _dot(condition: Condition, x: Axis, y: float, r: float = 5) -> str:
    """Interval and mark of one condition; nothing where the value is not a number."""
    rate = condition.rate
    kind = _kind(condition.name)
    if not finite(rate.value):
        return ""
    parts = []
    if finite(rate.interval.low) and finite(rate.interval.high):
        parts.append(line(x(rate.interval.low), y, x(rate.interval.high), y, f"whisker {kind}"))
    return group([*parts, marker(_shape(condition.name), x(rate.value), y, kind, r)], _tip(condition))


def _axis(x: Axis, top: float, bottom: float) -> list[str]:
    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        anchor = {0.0: "start", 1.0: "end"}.get(tick, "middle")
        parts.append(line(x(tick), top, x(tick), bottom, "grid"))
        parts.append(text(x(tick), bottom + 17, percent(tick, 0), "tick", anchor))
    return parts


def _guide(value: float, x: Axis, top: float, bottom: float, label: str = "unsteered") -> list[str]:
    """The unsteered value as a dashed line with its name on top, kept inside the plot."""
    if not finite(value):
        return []
    half = text_width(label, 11) / 2
    middle = min(max(x(value), x.start + half), x.end - half)
    return [line(x(value), top, x(value), bottom, "guide"), text(middle, top - 6, label, "tick", "middle")]


# right edges of the value columns: accuracy, its interval, n, effect, its interval
_COLUMNS = (
    ("accuracy", 552.0),
    ("95 % interval", 646.0),
    ("n", 690.0),
    ("effect, pp", 764.0),
    ("95 % interval", 860.0),
)


def _values(condition: Condition) -> tuple[str, ...]:
    rate, effect = condition.rate, condition.effect
    head = (percent(rate.value), span(rate.interval), f"{rate.n}")
    if effect is None:
        return (*head, "", "")
    return (*head, points(effect.value).removesuffix(" pp"), span(effect.interval, signed=True))


def effect_chart(conditions: Sequence[Condition], width: int = 860) -> str:
    """Accuracy of every condition with its interval; the dashed line is the unsteered model."""
    title = "Accuracy of every condition"
    says = ". ".join(_tip(c) for c in conditions) or "No conditions."
    base = next((c.rate.value for c in conditions if c.name == "unsteered"), float("nan"))
    draw = _effect_narrow if width < NARROW else _effect_wide
    height, parts = draw(conditions, base, width)
    return svg((width, height), title, says, parts)


def _effect_wide(conditions: Sequence[Condition], base: float, width: int) -> tuple[float, list[str]]:
    shift = width - 860
    x = Axis(0, 1, 168, 480 + shift)
    top, step = 40.0, 34.0
    bottom = top + step * len(conditions)
    parts = [text(edge + shift, top - 20, name, "head", "end") for name, edge in _COLUMNS]
    parts += [*_axis(x, top, bottom), *_guide(base, x, top, bottom)]
    for row, condition in enumerate(conditions):
        y = top + step * (row + 0.5)
        strong = " strong" if condition.name == "steered" else ""
        parts.append(text(0, y + 4.5, fit(condition_label(condition.name), 158), f"label{strong}"))
        parts.append(_dot(condition, x, y))
        for (name, edge), value in zip(_COLUMNS, _values(condition), strict=True):
            kind = "value soft" if name in ("95 % interval", "n") else f"value{strong}"
            parts.append(text(edge + shift, y + 4.5, value, kind, "end"))
    return bottom + 26, parts


def _effect_narrow(conditions: Sequence[Condition], base: float, width: int) -> tuple[float, list[str]]:
    x = Axis(0, 1, 6, width - 6)
    top, step = 20.0, 50.0
    bottom = top + step * len(conditions)
    parts = [*_axis(x, top, bottom), *_guide(base, x, top, bottom)]
    for row, condition in enumerate(conditions):
        y = top + step * row
        strong = " strong" if condition.name == "steered" else ""
        says = f"{percent(condition.rate.value)}, n = {condition.rate.n}"
        if condition.effect is not None:
            says = f"{points(condition.effect.value)} · {says}"
        room = width - 8 - text_width(says)
        parts.append(rect(0, y + 3, (width, 19), "clear"))
        parts.append(text(0, y + 18, fit(condition_label(condition.name), room), f"label{strong}"))
        parts.append(text(width, y + 18, says, f"value{strong}", "end"))
        parts.append(_dot(condition, x, y + 34))
    return bottom + 26, parts


_LANE = 13.0


def overview_chart(logs: Sequence[EvaluationLog], width: int = 860) -> str:
    """One row per behaviour, one lane per condition, one accuracy axis for all."""
    narrow = width < NARROW
    x = Axis(0, 1, 6 if narrow else 250, width - 6)
    legend, top = _legend(logs, width)
    y, rows = top, []
    for log in logs:
        lanes, y_next = _behaviour(log, x, y, narrow, width)
        rows.append(lanes)
        y = y_next
    says = " ".join(f"{log.data_name}: " + ". ".join(_tip(c) for c in log.conditions) + "." for log in logs)
    parts = [*legend, *_axis(x, top, y), *rows]
    return svg((width, y + 26), "Accuracy by behaviour and condition", says or "No behaviours.", parts)


def _legend(logs: Sequence[EvaluationLog], width: int) -> tuple[list[str], float]:
    names = list(dict.fromkeys(c.name for log in logs for c in log.conditions))
    parts, left, y = [], 6.0, 12.0
    for name in names:
        label = fit(condition_label(name), width - 40, 12)
        wide = 26 + text_width(label, 12)
        if left + wide > width and left > 6:
            left, y = 6.0, y + 20
        parts += [marker(_shape(name), left, y, _kind(name), 4.5), text(left + 11, y + 4, label, "small")]
        left += wide
    return parts, y + 24


def _behaviour(log: EvaluationLog, x: Axis, y: float, narrow: bool, width: int) -> tuple[str, float]:
    effect = next((c.effect for c in log.conditions if c.name == "steered"), None)
    says = "" if effect is None else f"{points(effect.value)} ({span(effect.interval, signed=True)})"
    name_room = width - text_width(says) - 8 if narrow else 236
    parts = [line(0, y, width, y, "rule")]
    if narrow:
        parts.append(rect(0, y + 1, (width, 25), "clear"))
        parts.append(text(0, y + 19, fit(log.data_name, name_room, 14), "label strong"))
        parts.append(text(width, y + 19, says, "value", "end"))
        first = y + 34
    else:
        height = _LANE * len(log.conditions) + 18
        middle = y + height / 2
        parts.append(text(0, middle - 4, fit(log.data_name, name_room, 14), "label strong"))
        parts.append(text(0, middle + 15, says, "value soft"))
        if effect is not None and effect.interval.low <= 0 <= effect.interval.high:
            parts.append(text(0, middle + 32, "no effect found", "small"))
        first = y + 16
    for lane, condition in enumerate(log.conditions):
        parts.append(_dot(condition, x, first + lane * _LANE, 4.5))
    bottom = first + _LANE * max(0, len(log.conditions) - 1) + 15
    return group(parts), bottom
