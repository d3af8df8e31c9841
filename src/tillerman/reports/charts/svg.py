"""The few SVG marks that every chart of the report is made of. Strings in, strings out.

Colours and type sizes live in ``templates/charts.css``; the marks only name a class, so that one
chart serves light mode, dark mode and print. Knows nothing of logs or models.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from importlib.resources import files

_CONTROL = dict.fromkeys((*range(32), *range(127, 160), 0xFFFE, 0xFFFF, *range(0xD800, 0xE000)), " ")

NARROW = 600  # pixels; below it a label stands above its row instead of beside it


@dataclass(frozen=True)
class Axis:
    """Maps ``low..high`` to ``start..end`` (pixels), linearly or by logarithm; values outside are clipped."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, self.low))
        if high <= low:
            return (self.start + self.end) / 2
        share = min(1.0, max(0.0, (value - low) / (high - low)))
        return self.start + share * (self.end - self.start)


def ticks(low: float, high: float, count: int = 5) -> tuple[float, ...]:
    """Round numbers (1, 2, 2.5, 5 times a power of ten) within ``low..high``, about ``count`` of them."""
    if high <= low:
        return (low,)
    raw = (high - low) / max(1, count - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999), 10 * power)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return tuple(round(k * step, 10) + 0.0 for k in range(first, last + 1))


def clean(content: str) -> str:
    """Escaped for XML, without the characters XML forbids."""
    return escape(content.translate(_CONTROL))


def text_width(content: str, size: float = 13) -> float:
    """An upper estimate: wide characters count double."""
    return sum(1.0 if ord(ch) > 0x2E7F or ch in "MW%@" else 0.6 for ch in content) * size


def fit(content: str, width: float, size: float = 13) -> str:
    """``content``, cut with an ellipsis where it would be wider than ``width`` pixels."""
    if text_width(content, size) <= width:
        return content
    kept = content
    while kept and text_width(kept + "…", size) > width:
        kept = kept[:-1]
    return kept.rstrip() + "…"


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def text(x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}">{clean(content)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}"/>'


def rect(x: float, y: float, size: tuple[float, float], kind: str, radius: float = 2) -> str:
    w, h = (max(0.0, side) for side in size)
    return f'<rect class="{kind}" x="{_n(x)}" y="{_n(y)}" width="{_n(w)}" height="{_n(h)}" rx="{_n(radius)}"/>'


def path(points: Iterable[tuple[float, float]], kind: str, closed: bool = False) -> str:
    spots = "L".join(f"{_n(x)} {_n(y)}" for x, y in points)
    return f'<path class="{kind}" d="M{spots}{"Z" if closed else ""}"/>' if spots else ""


def hatch(x: float, y: float, size: tuple[float, float], kind: str = "hatch", gap: float = 7) -> str:
    """Diagonal lines clipped to a rectangle, drawn without a pattern so that no id is needed."""
    w, h = size
    parts = []
    shift = gap / 2
    while shift < w + h:
        start = (min(shift, w), max(0.0, shift - w))
        end = (max(0.0, shift - h), min(shift, h))
        parts.append(f"M{_n(x + start[0])} {_n(y + start[1])}L{_n(x + end[0])} {_n(y + end[1])}")
        shift += gap
    return f'<path class="{kind}" d="{"".join(parts)}"/>'


def marker(shape: str, x: float, y: float, kind: str, r: float = 5) -> str:
    """A dot, ring, square, diamond or triangle around (x, y), so that colour is never the only sign."""
    if shape in ("dot", "ring"):
        return f'<circle class="mark {shape} {kind}" cx="{_n(x)}" cy="{_n(y)}" r="{_n(r)}"/>'
    corners = {
        "square": ((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)),
        "diamond": ((0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)),
        "up": ((0, -1.1), (1.1, 0.9), (-1.1, 0.9)),
        "down": ((0, 1.1), (1.1, -0.9), (-1.1, -0.9)),
    }[shape]
    return path(((x + r * dx, y + r * dy) for dx, dy in corners), f"mark {shape} {kind}", closed=True)


def group(parts: Iterable[str], tip: str = "", kind: str = "") -> str:
    """Marks with one tooltip."""
    title = f"<title>{clean(tip)}</title>" if tip else ""
    return f'<g class="{kind}">{title}{"".join(parts)}</g>'


def svg(size: tuple[float, float], title: str, description: str, parts: Iterable[str]) -> str:
    """The whole drawing; its ids come from its content, so that two charts on a page do not collide."""
    body = "".join(parts)
    w, h = _n(size[0]), _n(size[1])
    key = f"{zlib.crc32(f'{title}{w}{body}'.encode('utf-8', 'surrogatepass')):08x}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {w} {h}" width="{w}" height="{h}" '
        f'role="img" aria-labelledby="t{key} d{key}"><title id="t{key}">{clean(title)}</title>'
        f'<desc id="d{key}">{clean(description)}</desc>{body}</svg>'
    )


def standalone(drawing: str) -> str:
    """A chart with its style inside: a file of its own, for a README or a paper."""
    css = files("tillerman.reports").joinpath("templates/charts.css").read_text(encoding="utf-8")
    head, tag, rest = drawing.partition("<title ")
    return f"{head}<style>{clean(css)}</style>{tag}{rest}"
