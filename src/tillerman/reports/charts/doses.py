"""Dose-response: what more steering brings and what it costs, panels above one dose axis. Pure: values in, SVG out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tillerman.logs.evaluation import DosePoint
from tillerman.reports.charts.svg import Axis, group, line, marker, path, svg, text, ticks
from tillerman.reports.numbers import compact, decimal, finite, interval_words, nats, percent, ratio

_TITLE, _GAP = 30.0, 22.0


@dataclass(frozen=True)
class _Spot:
    dose: float
    value: float
    low: float
    high: float
    shown: str  # the value with its unit


@dataclass(frozen=True)
class _Series:
    title: str
    kind: str  # class of its marks
    shape: str
    guide: float | None  # where "no change" is
    height: float
    spots: tuple[_Spot, ...]


def dose_response(curve: Sequence[DosePoint], chosen_dose: float, width: int = 860) -> str:
    """Accuracy with its interval, perplexity ratio and KL against dose; the chosen dose is marked."""
    spots = sorted((p for p in curve if finite(p.dose)), key=lambda p: p.dose)
    title = "Dose-response: accuracy, perplexity ratio and KL against dose"
    if not spots:
        return svg((width, 30), title, "No doses.", [text(0, 20, "No dose-response was measured.", "label")])
    doses = [p.dose for p in spots]
    marked = [chosen_dose] if finite(chosen_dose) else []
    pad = 0.02 * ((max(doses + marked) - min(doses + marked)) or 1.0)
    left = 52.0
    x = Axis(min(doses + marked) - pad, max(doses + marked) + pad, left, width - 8)
    parts: list[str] = []
    top = 24.0
    for series in _series(spots):
        parts += _panel(series, x, top + _TITLE, chosen_dose)
        top += _TITLE + series.height + _GAP
    bottom = top - _GAP
    parts = [*_chosen_label(chosen_dose, x), *parts]
    shown = ticks(min(doses + marked), max(doses + marked), 9 if width >= 600 else 5)
    parts += [text(x(t), bottom + 18, compact(t), "tick", "middle") for t in shown]
    parts.append(text((left + width) / 2, bottom + 38, "dose (share of the stream's mean norm)", "head", "middle"))
    return svg((width, bottom + 46), title, _says(spots), parts)


def _series(spots: Sequence[DosePoint]) -> list[_Series]:
    def side(values: Sequence[float | None]) -> list[tuple[float, float]]:
        return [(p.dose, v) for p, v in zip(spots, values, strict=True) if v is not None and math.isfinite(v)]

    accuracy = tuple(
        _Spot(p.dose, p.rate.value, p.rate.interval.low, p.rate.interval.high, percent(p.rate.value))
        for p in spots
        if all(map(finite, (p.rate.value, p.rate.interval.low, p.rate.interval.high)))
    )
    ratios = tuple(_Spot(d, v, v, v, ratio(v)) for d, v in side([p.perplexity_ratio for p in spots]) if v > 0)
    divergences = tuple(_Spot(d, v, v, v, nats(v)) for d, v in side([p.kl for p in spots]))
    base = next((s.value for s in accuracy if s.dose == 0), None)
    return [
        _Series("Accuracy, with 95 % interval", "steered", "dot", base, 170, accuracy),
        _Series("Perplexity, ratio to unsteered", "cost", "square", 1.0, 96, ratios),
        _Series("KL to the unsteered model, nats per token", "cost", "diamond", 0.0, 96, divergences),
    ]


def _scale(series: _Series, top: float) -> Axis:
    """Accuracy on 0..100 %; side effects on what they need, by logarithm once they span a factor of 20."""
    low_end, high_end = top + series.height, top
    if series.kind == "steered":
        return Axis(0, 1, low_end, high_end)
    values = [s.value for s in series.spots] + ([] if series.guide is None else [series.guide])
    low, high = min(values), max(values)
    if low > 0 and high / low > 20:
        return Axis(low, high, low_end, high_end, log=True)
    if high - low < 1e-9:
        high = low + 1
    room = 0.08 * (high - low)
    return Axis(low - (0 if series.guide == 0 else room), high + room, low_end, high_end)


def _y_ticks(scale: Axis, narrow: int = 4) -> list[float]:
    if not scale.log:
        return list(ticks(scale.low, scale.high, narrow))
    first, last = math.ceil(math.log10(scale.low) - 1e-9), math.floor(math.log10(scale.high) + 1e-9)
    step = max(1, (last - first + 1) // 4)
    return [10.0**k for k in range(first, last + 1, step)]


def _panel(series: _Series, x: Axis, top: float, chosen_dose: float) -> list[str]:
    title = series.title
    if not series.spots:
        return [text(0, top - 12, title, "label strong"), text(x.start, top + 24, "not measured", "small")]
    y = _scale(series, top)
    if y.log:
        title += " (log)"
    parts = [text(0, top - 12, title, "label strong")]
    at = next((s for s in series.spots if abs(s.dose - chosen_dose) <= 1e-6 * max(1, abs(chosen_dose))), None)
    if at is not None and x.end >= 500:
        parts.append(text(x.end, top - 12, f"at the chosen dose: {at.shown}", "value soft", "end"))
    if series.kind == "steered":
        marks = [(t, percent(t, 0)) for t in (0.0, 0.25, 0.5, 0.75, 1.0)]
    else:
        named = [] if series.guide is None else [series.guide]
        named += [t for t in _y_ticks(y) if all(abs(y(t) - y(g)) > 13 for g in named)]
        marks = [(t, compact(t)) for t in named]
    for value, label in marks:
        parts += [
            line(x.start, y(value), x.end, y(value), "grid"),
            text(x.start - 8, y(value) + 4, label, "tick", "end"),
        ]
    if series.guide is not None:
        parts.append(line(x.start, y(series.guide), x.end, y(series.guide), "guide"))
    if finite(chosen_dose):
        parts.append(line(x(chosen_dose), top, x(chosen_dose), top + series.height, "chosen"))
    band = [(x(s.dose), y(s.high)) for s in series.spots] + [(x(s.dose), y(s.low)) for s in reversed(series.spots)]
    if series.kind == "steered":
        parts.append(path(band, "band", closed=True))
        parts += [line(x(s.dose), y(s.low), x(s.dose), y(s.high), f"whisker thin {series.kind}") for s in series.spots]
    parts.append(path([(x(s.dose), y(s.value)) for s in series.spots], f"curve {series.kind}"))
    for s in series.spots:
        r = 5.5 if s is at else 3.5
        tip = f"dose {compact(s.dose)}: {s.shown}"
        parts.append(group([marker(series.shape, x(s.dose), y(s.value), series.kind, r)], tip))
    return parts


def _chosen_label(dose: float, x: Axis) -> list[str]:
    if not finite(dose):
        return []
    label = f"chosen dose {decimal(dose, 2)}"
    half = 3.4 * len(label)
    middle = min(max(x(dose), x.start + half), x.end - half)
    return [text(middle, 13, label, "small strong", "middle")]


def _says(spots: Sequence[DosePoint]) -> str:
    return ". ".join(
        f"Dose {compact(p.dose)}: accuracy {percent(p.rate.value)} ({interval_words(p.rate.interval)}), "
        f"perplexity {ratio(p.perplexity_ratio)}, KL {nats(p.kl)}"
        for p in spots
    )
