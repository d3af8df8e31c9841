"""The figures of a log as objects of a plotting library, to be styled, combined and saved by its own means."""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from tillerman.core.errors import UnknownNameError, UsageError
from tillerman.logs.base import Log
from tillerman.logs.study import Chart, Line, Mark
from tillerman.reports.figures import figures_of

LIBRARIES = ("matplotlib", "altair")
_SCALE = {"pp": 100.0, "%": 100.0}  # shares are kept in [0, 1]
_WORDS = {"pp": "percentage points", "%": "%", "x": "ratio", "nats": "nats", "": ""}
_COLOURS = {"unsteered": "0.45", "steered": "C0", "prompt": "C1", "both": "C2", "icl": "C4", "lora": "C5", "cost": "C3"}
_SHAPES = {"null:random": "^", "null:shuffled": "v"}
_NULL = "0.7"
_LANE = 0.8  # of the distance of two rows, for the lines of one


def plot(log: Log, figure: str = "", *, library: str = "matplotlib", ax: Any = None) -> Any:
    """A figure of a log as a ``matplotlib`` ``Figure`` or an ``altair`` ``Chart``; with intervals of 95 %.

    ``figure`` is a name of ``figures_of(log)``, the main one if none is given; shares are drawn as percentages. ``ax``:
    matplotlib axes to draw on, whose figure is returned; otherwise a new figure.

    ``UnknownNameError`` for a figure or library that there is not, ``UsageError`` for a kind of log without figures,
    one that measured none, and where the library is not installed (extra ``plots``)."""
    if library not in LIBRARIES:
        raise UnknownNameError("plotting library", library, LIBRARIES)
    if ax is not None and library != "matplotlib":
        raise UsageError("ax is matplotlib's; leave it out")
    found = figures_of(log)
    if not found:
        raise UsageError("nothing that could be plotted was measured")
    name = figure or next(iter(found))
    if name not in found:
        raise UnknownNameError("figure", name, tuple(found))
    return _in_matplotlib(found[name], ax) if library == "matplotlib" else _in_altair(found[name])


def _module(name: str, library: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise UsageError(
            f"plot needs {library}: pip install 'tillerman[plots]'; to_frame() gives the numbers, "
            "and reports have the pictures"
        ) from None


def _in_matplotlib(chart: Chart, ax: Any) -> Any:
    if ax is None:
        pyplot = _module("matplotlib.pyplot", "matplotlib")
        rows = len(_rows(chart)) if chart.kind == "bars" else 0
        figure, ax = pyplot.subplots(figsize=(7, max(3.2, 0.42 * rows + 1.4)), layout="constrained")
        pyplot.close(figure)  # shown as a cell's value; kept by whoever holds it
    draw = _matplotlib_bars if chart.kind == "bars" else _matplotlib_curve
    draw(chart, ax)
    ax.set_title(chart.title, fontsize="medium", parse_math=False)
    _legend(chart, ax)
    ax.spines[["top", "right"]].set_visible(False)
    return ax.figure


def _matplotlib_curve(chart: Chart, ax: Any) -> None:
    for line in chart.lines:
        marks = _drawn(line)
        at = [mark.at for mark in marks]
        colour = None if len(chart.lines) > 1 and line.role == "steered" else _colour(line)
        points = [_scaled(chart, mark.value) for mark in marks]
        ax.errorbar(at, points, _whiskers(chart, marks), label=line.name, color=colour, marker="o", capsize=2)
    if chart.guide is not None:
        ax.axhline(_scaled(chart, chart.guide), color=_NULL, linestyle="--", zorder=0)
    if chart.log_axis:
        ax.set_xscale("log")
    ax.set_xlabel(chart.axis)
    ax.set_ylabel(_WORDS[chart.unit])


def _matplotlib_bars(chart: Chart, ax: Any) -> None:
    rows = _rows(chart)
    crowd = {row: sum(mark.label == row for line in chart.lines for mark in _drawn(line)) for row in rows}
    widest, taken = max(crowd.values()), dict.fromkeys(rows, 0)
    for line in chart.lines:
        for k, mark in enumerate(_drawn(line)):
            lane = taken[mark.label] - (crowd[mark.label] - 1) / 2
            taken[mark.label] += 1
            ax.errorbar(
                _scaled(chart, mark.value),
                rows.index(mark.label) + lane * _LANE / widest,
                xerr=_whiskers(chart, (mark,)),
                fmt=_SHAPES.get(line.role, "o"),
                color=_colour(line),
                label=line.name if k == 0 else None,
                capsize=2,
            )
    if chart.guide is not None:
        ax.axvline(_scaled(chart, chart.guide), color=_NULL, linestyle="--", zorder=0)
    ax.set_yticks(range(len(rows)), rows, parse_math=False)
    ax.invert_yaxis()
    ax.set_xlabel(_WORDS[chart.unit])


def _legend(chart: Chart, ax: Any) -> None:
    """Where lines are not the rows themselves."""
    if len(chart.lines) > 1 and {line.name for line in chart.lines} != set(_rows(chart)):
        beside = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
        for said in ax.legend(fontsize="small", frameon=False, **beside).get_texts():
            said.set_parse_math(False)


def _in_altair(chart: Chart) -> Any:
    alt = _module("altair", "altair")
    data = alt.Data(values=list(_records(chart)))
    unit = _WORDS[chart.unit]
    value = {"title": unit or None, "scale": alt.Scale(zero=False)}
    tips = ["line:N", "label:N", "at:Q", "value:Q", "low:Q", "high:Q", "n:Q"]
    base = alt.Chart(data)
    if chart.kind == "curve":
        x = alt.X("at:Q", title=chart.axis, scale=alt.Scale(type="log" if chart.log_axis else "linear"))
        shared = base.encode(x=x, color=alt.Color("line:N", title=None))
        drawn = [
            shared.mark_line(point=True).encode(y=alt.Y("value:Q", **value), tooltip=tips),
            shared.transform_filter("isValid(datum.low)").mark_rule().encode(y="low:Q", y2="high:Q"),
        ]
    else:
        y = alt.Y("label:N", title=None, sort=_rows(chart))
        shared = base.encode(y=y, yOffset=alt.YOffset("line:N"), color=alt.Color("line:N", title=None))
        drawn = [
            shared.mark_point(filled=True).encode(x=alt.X("value:Q", **value), tooltip=tips),
            shared.transform_filter("isValid(datum.low)").mark_rule().encode(x="low:Q", x2="high:Q"),
        ]
    if chart.guide is not None:
        line = alt.Chart(alt.Data(values=[{"guide": _scaled(chart, chart.guide)}])).mark_rule(strokeDash=[4, 4])
        drawn.append(line.encode(y="guide:Q") if chart.kind == "curve" else line.encode(x="guide:Q"))
    return alt.layer(*drawn).properties(title=chart.title.split("\n"))


def _records(chart: Chart) -> Iterator[dict[str, Any]]:
    for line in chart.lines:
        for mark in _drawn(line):
            low, high = (None, None) if mark.interval is None else mark.interval.ends
            yield {
                "line": line.name,
                "label": mark.label,
                "at": mark.at,
                "value": _scaled(chart, mark.value),
                "low": None if low is None else _scaled(chart, low),
                "high": None if high is None else _scaled(chart, high),
                "n": mark.n,
            }


def _rows(chart: Chart) -> list[str]:
    return list(dict.fromkeys(mark.label for line in chart.lines for mark in _drawn(line)))


def _drawn(line: Line) -> tuple[Mark, ...]:
    """The marks that are numbers."""
    return tuple(mark for mark in line.marks if math.isfinite(mark.value))


def _scaled(chart: Chart, value: float) -> float:
    return _SCALE.get(chart.unit, 1.0) * value


def _whiskers(chart: Chart, marks: tuple[Mark, ...]) -> Any:
    """Lengths below and above, as ``errorbar`` has them; none where no mark has an interval."""
    if not any(mark.interval is not None and mark.interval.known for mark in marks):
        return None
    ends = [mark.interval if mark.interval is not None and mark.interval.known else None for mark in marks]
    below = [0.0 if e is None else _scaled(chart, m.value - e.low) for m, e in zip(marks, ends, strict=True)]
    above = [0.0 if e is None else _scaled(chart, e.high - m.value) for m, e in zip(marks, ends, strict=True)]
    return [below, above]


def _colour(line: Line) -> str:
    return _COLOURS.get(line.role, _NULL)
