"""Accuracy of every way of running the model on one behaviour, as dots with 95 % intervals. Pure: values in, SVG out.

Several behaviours on one axis are in ``overview``, the heat map in ``grid``, the dose-response in ``doses``.
"""

from __future__ import annotations

from collections.abc import Sequence

from tillerman.logs.conditions import condition_label
from tillerman.logs.evaluation import Condition
from tillerman.reports.charts.marks import axis, dot
from tillerman.reports.charts.svg import NARROW, Axis, fit, line, rect, svg, text, text_width
from tillerman.reports.numbers import finite, interval_words, p_value, percent, points, span


def _tip(condition: Condition) -> str:
    rate, effect = condition.rate, condition.effect
    says = f"{condition_label(condition.name)}: {percent(rate.value)}, {interval_words(rate.interval)}"
    says += f", n = {rate.n}"
    if effect is not None:
        says += f"; effect {points(effect.value)}, {interval_words(effect.interval, signed=True)}"
        says += f", {p_value(effect.p_value)}"
    return says


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
    parts += [*axis(x, top, bottom), *_guide(base, x, top, bottom)]
    for row, condition in enumerate(conditions):
        y = top + step * (row + 0.5)
        strong = " strong" if condition.name == "steered" else ""
        parts.append(text(0, y + 4.5, fit(condition_label(condition.name), 158), f"label{strong}"))
        parts.append(dot(condition.name, condition.rate, _tip(condition), x, y))
        for (name, edge), value in zip(_COLUMNS, _values(condition), strict=True):
            kind = "value soft" if name in ("95 % interval", "n") else f"value{strong}"
            parts.append(text(edge + shift, y + 4.5, value, kind, "end"))
    return bottom + 26, parts


def _effect_narrow(conditions: Sequence[Condition], base: float, width: int) -> tuple[float, list[str]]:
    x = Axis(0, 1, 6, width - 6)
    top, step = 20.0, 50.0
    bottom = top + step * len(conditions)
    parts = [*axis(x, top, bottom), *_guide(base, x, top, bottom)]
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
        parts.append(dot(condition.name, condition.rate, _tip(condition), x, y + 34))
    return bottom + 26, parts
