"""The grid of the search as a heat map: hook point by dose, one panel per method. Pure: values in, SVG out.

A cell shows its validation score minus the unsteered score, in percentage points. Blue is more,
orange is less, the number says it without colour; hatched cells break a constraint.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tillerman.logs.evaluation import SearchedCell
from tillerman.reports.charts.svg import fit, group, hatch, rect, svg, text
from tillerman.reports.numbers import compact, decimal, finite, nats, points, ratio

LEVELS = 4  # shades on either side of zero
_ROW, _GAP, _HEAD, _FOOT = 26.0, 26.0, 26.0, 38.0
_ENDS = (1, 2, 5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90, 100)  # pp, ends of the colour scale


@dataclass(frozen=True)
class _Axes:
    points: tuple[str, ...]  # rows, shallow first
    steps: tuple[float, ...]  # columns
    by_dose: bool  # columns are doses; otherwise strengths, where doses differ from row to row

    def column(self, cell: SearchedCell) -> int:
        return self.steps.index(_step(cell, self.by_dose))


@dataclass(frozen=True)
class _Panel:
    x: float
    y: float
    cell_width: float
    end: float  # pp at which the colour is full


def _step(cell: SearchedCell, by_dose: bool) -> float:
    return float(f"{cell.dose if by_dose else cell.strength:.2g}")


def _depth(hook_point: str) -> tuple[int, str]:
    found = re.search(r"\d+", hook_point)
    return (int(found.group()) if found else 0, hook_point)


def _axes(cells: Sequence[SearchedCell]) -> _Axes:
    doses, strengths = ({_step(c, by) for c in cells} for by in (True, False))
    by_dose = len(doses) <= len(strengths)
    names = sorted({c.hook_point for c in cells}, key=_depth)
    return _Axes(tuple(names), tuple(sorted(doses if by_dose else strengths)), by_dose)


def _row_names(hook_points: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Short row labels, and what they leave out: ``layer (resid_post)``."""
    split = [re.fullmatch(r"layers\.(\d+)\.(\w+)", name) for name in hook_points]
    sites = {m.group(2) for m in split if m}
    if all(split) and len(sites) == 1:
        return tuple(m.group(1) for m in split if m), f"layer ({sites.pop()})"
    return tuple(name.removeprefix("layers.") for name in hook_points), "hook point"


def level(difference: float, end: float) -> int:
    """Shade of a difference in pp: −4..4, 0 only where it rounds to nothing."""
    return max(-LEVELS, min(LEVELS, round(LEVELS * difference / end)))


def _shade(shade: int) -> str:
    return f"{'p' if shade > 0 else 'm' if shade < 0 else 'q'}{abs(shade)}"


def heat_map(
    cells: Sequence[SearchedCell], unsteered: float, chosen: SearchedCell | None = None, width: int = 860
) -> str:
    """``unsteered`` is the score the cells are compared with; the chosen cell is framed."""
    cells = [c for c in cells if finite(100 * (c.score - unsteered)) and finite(c.dose) and finite(c.strength)]
    title = "Score of every cell of the grid minus the unsteered score"
    if not cells:
        return svg((width, 30), title, "No cells.", [text(0, 20, "No cells were scored.", "label")])
    axes = _axes(cells)
    names, what = _row_names(axes.points)
    methods = list(dict.fromkeys(map(_vector, cells)))
    most = max(abs(100 * (c.score - unsteered)) for c in cells)
    end = float(next((e for e in _ENDS if e >= most), 100))
    left = max(34.0, min(150.0, 8.6 * max(map(len, names)) + 14))
    across = max(1, min(len(methods), int(width // (left + max(150, 30 * len(axes.steps))))))
    panel_width = (width - _GAP * (across - 1)) / across
    cell_width = min(72.0, (panel_width - left) / len(axes.steps))
    panel_height = _HEAD + _ROW * len(axes.points) + _FOOT
    legend, top = _legend(end, what, width)
    parts = [*legend]
    for k, method in enumerate(methods):
        row, column = divmod(k, across)
        x, y = column * (panel_width + _GAP) + left, top + row * (panel_height + 14)
        panel = _Panel(x, y, cell_width, end)
        parts.append(text(panel.x, panel.y + 15, fit(method, panel_width - left, 14), "label strong"))
        parts += _frame(axes, names, panel)
        mine = [c for c in cells if _vector(c) == method]
        parts += [_cell(c, unsteered, axes, panel, False) for c in mine if c != chosen]
        parts += [_cell(c, unsteered, axes, panel, True) for c in mine if c == chosen]  # last: its frame lies on top
    height = top + -(-len(methods) // across) * (panel_height + 14)
    return svg((width, height), title, _says(cells, unsteered, chosen), parts)


def _vector(cell: SearchedCell) -> str:
    """Every reading of a method has a panel of its own."""
    return f"{cell.method}, read as {cell.read}" if cell.read else cell.method


def _tip(cell: SearchedCell, unsteered: float) -> str:
    says = f"{_vector(cell)}, {cell.hook_point}, dose {compact(cell.dose)}, strength {compact(cell.strength)}: "
    says += f"{points(cell.score - unsteered)}"
    if cell.perplexity_ratio is not None:
        says += f", perplexity {ratio(cell.perplexity_ratio)}"
    if cell.kl is not None:
        says += f", KL {nats(cell.kl)}"
    return says if cell.admissible else f"{says}; breaks a constraint"


def _says(cells: Sequence[SearchedCell], unsteered: float, chosen: SearchedCell | None) -> str:
    best = max(cells, key=lambda c: c.score)
    took = chosen if chosen in cells else None
    says = f"{len(cells)} cells. Highest score: {_tip(best, unsteered)}."
    return f"{says} Chosen: {_tip(took, unsteered)}." if took else says


def _cell(cell: SearchedCell, unsteered: float, axes: _Axes, panel: _Panel, chosen: bool) -> str:
    x = panel.x + panel.cell_width * axes.column(cell)
    y = panel.y + _HEAD + _ROW * axes.points.index(cell.hook_point)
    size = (panel.cell_width - 2, _ROW - 2)
    difference = 100 * (cell.score - unsteered)
    shade = _shade(level(difference, panel.end))
    parts = [rect(x + 1, y + 1, size, f"cell {shade}")]
    if not cell.admissible:
        parts.append(hatch(x + 1, y + 1, size, f"hatch {shade}"))
    label = decimal(difference, 0, signed=True)
    if panel.cell_width >= 25:
        strong = " strong" if chosen else ""
        if not cell.admissible:
            wide = 6.4 * len(label) + 3
            parts.append(rect(x + panel.cell_width / 2 - wide / 2, y + 6, (wide, _ROW - 12), f"cell {shade}"))
        parts.append(text(x + panel.cell_width / 2, y + _ROW / 2 + 4, label, f"on {shade}{strong}", "middle"))
    if chosen:
        parts.append(rect(x, y, (panel.cell_width, _ROW), "frame", 3))
    return group(parts, _tip(cell, unsteered))


def _frame(axes: _Axes, names: Sequence[str], panel: _Panel) -> list[str]:
    """Row and column labels; every second column label is left out where they would touch."""
    parts = [
        text(panel.x - 8, panel.y + _HEAD + _ROW * (k + 0.5) + 4, fit(name, 142, 12), "tick", "end")
        for k, name in enumerate(names)
    ]
    labels = [compact(step) for step in axes.steps]
    every = 1 + int((6.2 * max(map(len, labels)) + 3) // panel.cell_width)
    y = panel.y + _HEAD + _ROW * len(axes.points) + 15
    for k, label in enumerate(labels):
        if k % every == 0:
            parts.append(text(panel.x + panel.cell_width * (k + 0.5), y, label, "tick", "middle"))
    middle = panel.x + panel.cell_width * len(axes.steps) / 2
    parts.append(text(middle, y + 16, "dose" if axes.by_dose else "strength", "head", "middle"))
    return parts


def _legend(end: float, what: str, width: int) -> tuple[list[str], float]:
    """Colour scale, hatch and frame explained in one line, or two where it is narrow."""
    low, high = decimal(-end, 0), decimal(end, 0, signed=True)
    parts, x, y = [text(0, 14, low, "small")], 7.2 * len(low) + 6, 3.0
    for shade in range(-LEVELS, LEVELS + 1):
        parts.append(rect(x, y, (14, 14), f"cell {_shade(shade)}"))
        x += 15
    parts.append(text(x + 5, 14, f"{high} pp against unsteered", "small"))
    narrow = width < 600
    x, y = (0.0, 27.0) if narrow else (x + 220, 3.0)
    parts += [
        rect(x, y, (22, 14), "cell q0"),
        hatch(x, y, (22, 14)),
        text(x + 29, y + 11, "breaks a constraint", "small"),
    ]
    x += 160
    parts += [rect(x, y + 1, (22, 13), "frame", 3), text(x + 29, y + 11, "chosen", "small")]
    x, y = (0.0, 51.0) if narrow else (width, 3.0)
    parts.append(text(x, y + 11, f"rows: {what}", "small", "start" if narrow else "end"))
    return parts, y + 34
