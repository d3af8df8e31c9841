"""A log as one HTML page that needs nothing but itself: no font, no request, and no script but the few lines that sort
and filter the table of items, which is whole without them. Pure: a log in, text out.

Everything that comes from a log is escaped; only the SVG that our own charts return is trusted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tillerman.core.finding import Finding
from tillerman.logs.comparison import Comparison, ComparisonLog
from tillerman.logs.conditions import condition_label
from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.study import StudyLog
from tillerman.logs.table import Table
from tillerman.logs.verdict import Verdict
from tillerman.reports import evaluation, numbers, sentences
from tillerman.reports.account import Account
from tillerman.reports.bias import bias_table, bias_words, moved_wrong_table
from tillerman.reports.charts.doses import dose_response
from tillerman.reports.charts.effects import effect_chart
from tillerman.reports.charts.grid import heat_map
from tillerman.reports.charts.methods import compare_chart
from tillerman.reports.charts.overview import by_writing, overview_chart
from tillerman.reports.charts.study import study_chart
from tillerman.reports.comparison import heading, tables, verdict
from tillerman.reports.comparison_overview import across
from tillerman.reports.items import MOST, ItemsView, items_view
from tillerman.reports.side_by_side import Column, beside_charts, beside_tables
from tillerman.reports.tables import is_numeric
from tillerman.reports.verdict import judge_log
from tillerman.reports.written import written_table, written_words

_FEW = 60  # items of each of several behaviours on one page
WIDE, NARROW = 860, 360  # pixels; the page shows the one that fits, so that type is never scaled down

_LEVELS = {"error": "✕", "warning": "▲", "note": "●", "ok": "✓"}
_UNIT = re.compile(r"(?<=\d) (?=%|pp\b|×|nats\b)|(?<=\b95 %) (?=interval)|(?<=\b[np]) (?=[=<] )|(?<=[=<]) (?=\d)")


@dataclass(frozen=True)
class Section:
    """One behaviour as the templates see it."""

    log: EvaluationLog
    anchor: str
    headline: str
    judged: Verdict
    comparison: str
    gate: str
    power: str
    nested: str
    cautions: tuple[str, ...]
    verdict: str
    effect_chart: Markup
    grid_chart: Markup
    dose_chart: Markup
    grid_baseline: str
    conditions: Table
    details: Table
    bias: Table
    bias_words: str
    moved_wrong: Table
    items: ItemsView
    cells: Table
    folds: Table
    curve: Table
    side_effects: Table
    written: Table
    written_words: str
    seeds: Table
    over_seeds: str
    findings: tuple[Finding, ...]
    provenance: tuple[tuple[str, str], ...]


def render_report(log: EvaluationLog, studies: Sequence[StudyLog] = ()) -> str:
    """The log of one ``fit`` or ``eval`` as an HTML page: effect, search, dose and cost, side effects, example
    texts, diagnostics, provenance; and the studies of the same artefact. The text is self-contained; writing it
    to a file is the caller's."""
    return _render("report.html.j2", section=_section(log, 1), studies=tuple(map(_study, studies)))


def render_demo_page(logs: Sequence[EvaluationLog]) -> str:
    """Several behaviours on one page: an overview on one axis, then each behaviour in full."""
    sections = tuple(_section(log, k, _FEW) for k, log in enumerate(logs, start=1))
    overview = _both(lambda width: overview_chart(logs, width))
    models = tuple(dict.fromkeys(log.model_id for log in logs))
    return _render("demo.html.j2", sections=sections, overview=overview, models=models, written=by_writing(logs))


@dataclass(frozen=True)
class ComparedSection:
    """One data set of a comparison as the template sees it."""

    comparison: Comparison
    heading: str
    verdict: str
    chart: Markup
    tables: tuple[Table, ...]


def render_comparison(log: ComparisonLog) -> str:
    """Methods side by side as an HTML page, a section per data set."""
    sections = [
        ComparedSection(c, heading(c), verdict(c), _both(partial(compare_chart, c)), tables(c)) for c in log.comparisons
    ]
    return _render("compare.html.j2", sections=sections, whole=across(log))


@dataclass(frozen=True)
class Drawn:
    """A chart of a study as the templates see it."""

    title: str
    drawing: Markup


@dataclass(frozen=True)
class StudySection:
    """One study as the templates see it."""

    log: StudyLog
    charts: tuple[Drawn, ...]


def render_study(log: StudyLog) -> str:
    """One study as an HTML page: verdict, charts, tables."""
    return _render("study.html.j2", section=_study(log))


@dataclass(frozen=True)
class BesideSection:
    """Several artefacts as the template sees them."""

    entries: tuple[Column, ...]
    verdicts: tuple[tuple[str, str, Verdict], ...]  # artefact, what judged it, what it says
    charts: tuple[Drawn, ...]
    tables: tuple[Table, ...]


def render_beside(entries: Sequence[Column]) -> str:
    """Several artefacts side by side as an HTML page."""
    verdicts = [
        (entry.name, name, verdict)
        for entry in entries
        for name, verdict in (("evaluation", judge_log(entry.log)), *((s.study, s.verdict) for s in entry.studies))
    ]
    charts = tuple(Drawn(c.title, _both(partial(study_chart, c))) for c in beside_charts(entries))
    section = BesideSection(tuple(entries), tuple(verdicts), charts, beside_tables(entries))
    return _render("beside.html.j2", section=section)


def render_account(account: Account) -> str:
    """Any result that is tables and sentences, without charts of its own, as an HTML page."""
    return _render("account.html.j2", account=account)


def _study(log: StudyLog) -> StudySection:
    return StudySection(log, tuple(Drawn(c.title, _both(partial(study_chart, c))) for c in log.charts))


def _section(log: EvaluationLog, number: int, most: int = MOST) -> Section:
    baseline, where = sentences.baseline_of_grid(log)
    levels = list(_LEVELS)
    return Section(
        log=log,
        anchor=f"b{number}",
        headline=sentences.headline(log),
        judged=judge_log(log),
        comparison=sentences.comparison(log),
        gate=sentences.gate_words(log),
        power="" if log.power is None else sentences.power_words(log.power),
        nested=sentences.nested_words(log),
        cautions=sentences.cautions(log),
        verdict=sentences.verdict(log.effect),
        effect_chart=_both(lambda width: effect_chart(log.conditions, width)),
        grid_chart=_both(lambda width: heat_map(log.cells, baseline, log.chosen, width)),
        dose_chart=_both(lambda width: dose_response(log.curve, log.dose, width)),
        grid_baseline=where,
        conditions=evaluation.conditions_table(log),
        details=evaluation.details_table(log),
        bias=bias_table(log),
        bias_words=bias_words(log),
        moved_wrong=moved_wrong_table(log),
        items=items_view(log, most),
        cells=evaluation.cells_table(log),
        folds=evaluation.folds_table(log),
        curve=evaluation.curve_table(log),
        side_effects=evaluation.side_effects_table(log),
        written=written_table(log),
        written_words=written_words(log),
        seeds=evaluation.seeds_table(log),
        over_seeds=sentences.seeds_words(log),
        findings=tuple(sorted(log.diagnostics, key=lambda f: levels.index(f.level) if f.level in levels else 0)),
        provenance=sentences.flat(log.provenance),
    )


def _both(draw: Callable[[int], str]) -> Markup:
    """The chart for wide and for narrow screens; the style sheet hides one of them."""
    return Markup('<div class="wide">{}</div><div class="narrow">{}</div>').format(
        Markup(draw(WIDE)),
        Markup(draw(NARROW)),
    )


def _unbroken(words: str) -> str:
    """Numbers stay on one line with their units."""
    return _UNIT.sub("\u00a0", words)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tillerman.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "points": numbers.points,
        "condition": condition_label,
        "ratio": numbers.ratio,
        "span": numbers.span,
        "compact": numbers.compact,
        "decimal": numbers.decimal,
        "unrelated": sentences.unrelated_words,
        "duration": sentences.duration,
        "unbroken": _unbroken,
    }
    environment.tests["numeric"] = is_numeric
    environment.globals["marks"] = _LEVELS
    return environment


def _render(template: str, **values: object) -> str:
    page = _environment().get_template(template).render(**values)
    return page.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair cannot be written to a file
