"""Numbers as readers see them: rounded once, always with their unit, with a true minus sign.

Shares come in as [0, 1] and go out in per cent or percentage points (pp).
"""

from __future__ import annotations

import math

from tillerman.statistics.values import Effect, Interval, Rate

MINUS = "\u2212"
NOT_MEASURED = "not measured"
NO_INTERVAL = "too few for an interval"


def finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def decimal(value: float | None, places: int = 2, signed: bool = False) -> str:
    """``-0.5`` as ``−0.50``; ``signed`` writes the plus too; zero carries no sign."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    rounded = round(value, places) + 0.0
    sign = MINUS if rounded < 0 else "+" if signed and rounded > 0 else ""
    return f"{sign}{abs(rounded):,.{places}f}"


def compact(value: float | None) -> str:
    """Three significant digits without trailing zeros: strengths, doses, axis labels."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    if value == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    text = decimal(value, min(places, 6))
    return text.rstrip("0").rstrip(".") if "." in text else text


def _with_unit(number: str, unit: str) -> str:
    return number if number == NOT_MEASURED else f"{number}{unit}"


def percent(share: float | None, places: int = 1) -> str:
    return _with_unit(decimal(None if share is None else 100 * share, places), " %")


def points(difference: float | None, places: int = 1) -> str:
    return _with_unit(decimal(None if difference is None else 100 * difference, places, signed=True), " pp")


def ratio(value: float | None) -> str:
    return _with_unit(decimal(value, 2 if value is None or abs(value) < 100 else 0), " ×")


def nats(value: float | None) -> str:
    return _with_unit(decimal(value, 3), " nats/token")


def span(interval: Interval, scale: float = 100.0, places: int = 1, signed: bool = False) -> str:
    """``30.1 to 57.4``: both ends of an interval, without the unit. A text instead where there is none."""
    if not interval.known:
        return NO_INTERVAL
    low, high = (decimal(scale * end, places, signed) for end in (interval.low, interval.high))
    return NOT_MEASURED if NOT_MEASURED in (low, high) else f"{low} to {high}"


def interval_words(
    interval: Interval,
    scale: float = 100.0,
    places: int = 1,
    signed: bool = False,
    unit: str = "",
    name: str = "95 % interval",
) -> str:
    """``95 % interval +24.5 to +37.5 pp``, for sentences: name and unit only where there is an interval."""
    ends = span(interval, scale, places, signed)
    return f"{name} {ends}{unit}".lstrip() if interval.known else ends


def p_value(p: float) -> str:
    """``p < 0.001`` or ``p = 0.032``."""
    if not math.isfinite(p):
        return f"p {NOT_MEASURED}"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def in_points(value: float, interval: Interval, places: int = 1) -> str:
    """``+31.0 (+24.5 to +37.5)``, percentage points: a cell of a column whose head has the unit."""
    return f"{decimal(100 * value, places, signed=True)} ({span(interval, places=places, signed=True)})"


def shown(found: Effect, places: int = 1) -> str:
    """``+31.0 (+24.5 to +37.5)``, percentage points."""
    return in_points(found.value, found.interval, places)


def shown_rate(found: Rate, places: int = 1) -> str:
    """``56.4 (49.3 to 63.2)``, per cent."""
    return f"{decimal(100 * found.value, places)} ({span(found.interval, places=places)})"


def shown_number(value: float, interval: Interval, places: int = 2, signed: bool = False) -> str:
    """``1.25 (1.21 to 1.29)``: what is no share."""
    return f"{decimal(value, places, signed)} ({span(interval, 1.0, places, signed)})"


def said(found: Effect) -> str:
    """``+31.0 pp (95 % interval +24.5 to +37.5, n = 200)``, for sentences."""
    return f"{points(found.value)} ({interval_words(found.interval, signed=True)}, n = {found.n})"


def briefly(found: Effect) -> str:
    """``+10.0 pp (−7.0 to +27.0)``, for sentences that name several."""
    return f"{points(found.value)} ({span(found.interval, signed=True)})"


def said_rate(found: Rate) -> str:
    """``56 % (95 % interval 49 to 63, n = 200)``, for sentences."""
    return f"{percent(found.value, 0)} ({interval_words(found.interval, places=0)}, n = {found.n})"


def shown_p(p: float) -> str:
    """``0.032`` or ``< 0.001``: a cell of a column whose head says p."""
    return p_value(p).removeprefix("p ").removeprefix("= ")


def size(number: str) -> str:
    """A number with its unit and without its sign, where the sentence says which way: ``8.8 pp``."""
    return number.lstrip(f"+{MINUS}")
