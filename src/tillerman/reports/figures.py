"""The figures of a log as values, under short names: what a plotting library or a page draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tillerman.core.errors import UsageError
from tillerman.logs.base import Log
from tillerman.logs.comparison import Comparison, ComparisonLog
from tillerman.logs.conditions import condition_label
from tillerman.logs.evaluation import Condition, EvaluationLog
from tillerman.logs.study import Chart, Line, Mark, StudyLog
from tillerman.reports.numbers import finite
from tillerman.statistics.values import Effect


def figures_of(log: Log) -> Mapping[str, Chart]:
    """By name, the main one first. Of an evaluation ``conditions``, ``effects``, ``curve``, ``kl``, ``perplexity``,
    ``cells`` and ``written``, as far as they were measured; of a comparison ``effects`` per data set; of a study its
    own charts.

    ``UsageError`` for another kind of log."""
    if isinstance(log, EvaluationLog):
        found = dict(_of_evaluation(log))
    elif isinstance(log, ComparisonLog):
        found = dict(_of_comparison(log))
    elif isinstance(log, StudyLog):
        found = {chart.title: chart for chart in log.charts}
    else:
        raise UsageError(f"a log of kind {log.kind!r} has no figures to plot; to_frame() gives its tables")
    return {name: chart for name, chart in found.items() if any(line.marks for line in chart.lines)}


def _of_evaluation(log: EvaluationLog) -> Iterator[tuple[str, Chart]]:
    title = f"{log.data_name}: {log.method} at {log.hook_point}, dose {log.dose:.3g}"
    rates = [_own(c, Mark(condition_label(c.name), c.rate.value, c.rate.interval, c.rate.n)) for c in log.conditions]
    base = next(c.rate.value for c in log.conditions if c.name == "unsteered")
    yield "conditions", Chart(f"{title}\nright answers", "bars", "%", tuple(rates), guide=base)
    effects = [_own(c, _effect(condition_label(c.name), c.effect)) for c in log.conditions if c.effect is not None]
    yield "effects", Chart(f"{title}\nchange of right answers", "bars", "pp", tuple(effects))
    points = sorted((p for p in log.curve if finite(p.dose)), key=lambda p: p.dose)
    axis = "dose (share of the stream's mean norm)"
    right = tuple(Mark("", p.rate.value, p.rate.interval, p.rate.n, p.dose) for p in points)
    yield "curve", Chart(f"{title}\nright answers", "curve", "%", (Line("steered", right),), axis, base)
    tokens = log.side_effects.tokens
    kl = tuple(Mark("", p.kl, None, tokens, p.dose) for p in points)
    yield "kl", Chart("KL to unsteered on neutral text, per token", "curve", "nats", (Line("KL", kl, "cost"),), axis)
    ratio = tuple(Mark("", p.perplexity_ratio, None, tokens, p.dose) for p in points)
    name = "Perplexity of neutral text, ratio to unsteered"
    yield "perplexity", Chart(name, "curve", "x", (Line("perplexity", ratio, "cost"),), axis, 1.0)
    yield "cells", Chart(f"{title}\nscores of the search", "curve", "", tuple(_searched(log)), axis, None)
    if log.written is not None:
        scores = [(one.name, one.score) for one in log.written.conditions if one.score is not None]
        marks = [(name, Mark(condition_label(name), s.value, s.interval, s.n)) for name, s in scores]
        lines = tuple(Line(condition_label(name), (mark,), name) for name, mark in marks)
        yield "written", Chart(f"{title}\nmean score of written replies", "bars", "", lines, guide=None)


def _searched(log: EvaluationLog) -> Iterator[Line]:
    """A line per place of each method: what the search went by, on validation items."""
    places: dict[str, list[Mark]] = {}
    for cell in log.cells:
        value = cell.score if cell.written is None else cell.written
        label = " ".join(filter(None, (cell.method, cell.hook_point, cell.read)))
        places.setdefault(label, []).append(
            Mark("" if cell.admissible else "breaks a constraint", value, None, log.n_validation, cell.dose)
        )
    for label, marks in places.items():
        yield Line(label, tuple(sorted(marks, key=lambda mark: mark.at or 0.0)))


def _own(condition: Condition, mark: Mark) -> Line:
    return Line(condition_label(condition.name), (mark,), condition.name)


def _effect(label: str, effect: Effect) -> Mark:
    return Mark(label, effect.value, effect.interval, effect.n)


def _of_comparison(log: ComparisonLog) -> Iterator[tuple[str, Chart]]:
    for one in log.comparisons:
        name = "effects" if len(log.comparisons) == 1 else f"effects of {one.data_name}"
        yield name, Chart(f"{one.data_name}: change of right answers", "bars", "pp", tuple(_methods(one)))


def _methods(comparison: Comparison) -> Iterator[Line]:
    """Rows are methods and baselines; lines are what is told of each."""
    for base in comparison.baselines:
        if base.effect is not None:
            yield _own(base, _effect(condition_label(base.name), base.effect))
    methods = comparison.methods
    yield Line("Steered", tuple(_effect(m.method, m.effect) for m in methods))
    at_budget = [(m.method, m.at_budget.effect) for m in methods if m.at_budget is not None]
    yield Line("At equal KL", tuple(_effect(*one) for one in at_budget), "both")
    for name in dict.fromkeys(null.name for m in methods for null in m.nulls):
        found = [(m.method, null.effect) for m in methods for null in m.nulls if null.name == name]
        marks = tuple(_effect(method, effect) for method, effect in found if effect is not None)
        yield Line(condition_label(name), marks, name)
