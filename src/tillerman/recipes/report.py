"""A reproduction in words: its tables in the paper's layout, published beside measured, and its claims."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tillerman.logs.reproduction import ClaimVerdict, ReproductionLog
from tillerman.logs.table import Table
from tillerman.recipes.metrics import METRICS, Metric
from tillerman.recipes.recipe import Claim, Recipe, TableLayout, TableRow
from tillerman.recipes.verdicts import FAILS, HOLDS, UNDECIDED, UNTESTABLE, Figures, Pooled
from tillerman.reports.account import Account
from tillerman.reports.numbers import decimal
from tillerman.reports.tables import markdown_cell, markdown_table

OUTCOMES = (HOLDS, FAILS, UNDECIDED, UNTESTABLE)
_COUNTED = ("hold", "do not hold", "undecided", "cannot be tested here")
_PLURALS = {"seed": "seeds", "task": "tasks", "item": "items"}


def tables_of(recipe: Recipe, log: ReproductionLog) -> tuple[Table, ...]:
    """Every table of the recipe that has a measured figure."""
    measured = Figures(recipe, log.pieces, log.left_out)
    made = [_table(layout, recipe, measured) for layout in recipe.tables]
    return tuple(table for table in made if table is not None)


def _table(layout: TableLayout, recipe: Recipe, measured: Figures) -> Table | None:
    units = {METRICS[cell.metric].unit for cell in layout.cells()}
    unit = units.pop() if len(units) == 1 else ""
    rows: list[tuple[str, ...]] = []
    found = False
    for row in layout.rows:
        lines = [] if not row.published else [("published", _published(layout, row))]
        for step in (layout.select.step, *layout.also):
            cells = _measured(replace(layout, select=replace(layout.select, step=step)), row, measured)
            if any(cell is not None for cell in cells):
                found = True
                lines.append((f"{recipe.step(step).words}; {_count(cells)}", _shown(layout, row, cells)))
        names = [row.name, *("" for _ in lines[1:])]
        rows += [(name, words, *shown) for name, (words, shown) in zip(names, lines, strict=False)]
    source = f" (published: {layout.source})" if layout.source else ""
    title = f"{layout.title}{', ' + unit if unit else ''}{source}"
    return Table(title, ("", "", *(column.name for column in layout.columns)), tuple(rows)) if found else None


def _metrics(layout: TableLayout, row: TableRow) -> list[str]:
    return [layout.select.but(column.select).but(row.select).metric for column in layout.columns]


def _published(layout: TableLayout, row: TableRow) -> tuple[str, ...]:
    pairs = zip(_metrics(layout, row), row.published, strict=True)
    return tuple(METRICS[metric].show(value) for metric, value in pairs)


def _measured(layout: TableLayout, row: TableRow, measured: Figures) -> list[Pooled | None]:
    return [measured.pooled(layout.select.but(column.select).but(row.select)) for column in layout.columns]


def _shown(layout: TableLayout, row: TableRow, cells: list[Pooled | None]) -> tuple[str, ...]:
    pairs = zip(_metrics(layout, row), cells, strict=True)
    return tuple("" if cell is None else with_interval(cell, METRICS[metric]) for metric, cell in pairs)


def _count(cells: list[Pooled | None]) -> str:
    """Over what the intervals are: ``9 tasks, 3 seeds``, or ``1 task, 120 items``."""
    there = [cell for cell in cells if cell is not None]
    tasks, n, unit = max((len(cell.tasks), cell.n, cell.unit) for cell in there)
    own = "" if unit == "task" else f", {_counted(n, unit)}"
    return f"{_counted(tasks, 'task')}{own}"


def _counted(n: int, unit: str) -> str:
    return f"{n} {unit if n == 1 else _PLURALS[unit]}"


def with_interval(found: Pooled | ClaimVerdict, metric: Metric) -> str:
    """``+3.1 (−0.2 to +6.4)``; the value alone where its error was not measured."""
    show = metric.show
    assert found.value is not None and found.interval is not None
    low, high = show(found.interval.low), show(found.interval.high)
    return show(found.value) if low == high == show(found.value) else f"{show(found.value)} ({low} to {high})"


def claims_table(recipe: Recipe, log: ReproductionLog) -> Table:
    """A line per claim and step it was tested in."""
    claims = {claim.name: claim for claim in recipe.claims}
    rows = []
    for verdict in log.verdicts:
        claim = claims[verdict.claim]
        step = recipe.step(verdict.step).words if verdict.step else ""
        rows.append((claim.words, claim.source, step, verdict.outcome, _evidence(claim, verdict)))
    return Table("The paper's claims", ("claim", "source", "tested with", "verdict", "measured"), tuple(rows))


def _evidence(claim: Claim, verdict: ClaimVerdict) -> str:
    if verdict.value is None:
        return verdict.why
    metric = METRICS[verdict.metric]
    shown = metric if claim.against is None else metric.difference
    difference = "" if claim.against is None else "ratio " if metric.log else "difference "
    figure = f"{difference}{with_interval(verdict, shown)} {shown.unit}".rstrip()
    figure += f", {_counted(verdict.n, verdict.unit)}"
    return f"{figure}; {verdict.why}" if verdict.why else figure


def summary(log: ReproductionLog) -> str:
    """How many claims hold."""
    counts = [sum(verdict.outcome == outcome for verdict in log.verdicts) for outcome in OUTCOMES]
    said = ", ".join(f"{n} {words}" for n, words in zip(counts, _COUNTED, strict=True))
    return f"{len(log.verdicts)} tests of claims: {said}."


def run_lines(recipe: Recipe, log: ReproductionLog) -> Iterator[str]:
    """What was run: step, model, tasks, seeds; and what stood in for what, or was left out."""
    for ran in log.ran:
        words = recipe.step(ran.step).words
        yield (
            f"{ran.step} ({words}): {ran.model_id}, {_counted(len(ran.tasks), 'task')} ({', '.join(ran.tasks)}), at "
            f"most {ran.limit} items each, {_counted(len(ran.seeds), 'seed')}"
        )
    yield from log.notes
    yield from (f"left out: {one.what}: {one.reason}" for one in log.left_out)
    unfit = {(p.step, p.task, p.arm): p.reason for p in log.pieces if p.reason}
    yield from (f"no figure: {step}, {task}, {arm}: {reason}" for (step, task, arm), reason in unfit.items())


def account(recipe: Recipe, log: ReproductionLog) -> Account:
    heading = f"{recipe.title}: {recipe.paper.replace('*', '')}"
    tables = (*tables_of(recipe, log), claims_table(recipe, log))
    return Account(heading, tables, tuple(run_lines(recipe, log)), summary(log))


def to_markdown(recipe: Recipe, log: ReproductionLog) -> str:
    """Tables, claims and what was run, as a page can include them."""
    parts = []
    for table in tables_of(recipe, log):
        parts += [f"### {markdown_cell(table.title)}", markdown_table(table)]
    claims = claims_table(recipe, log)
    parts += [f"### {claims.title}", markdown_table(claims), summary(log), "### What was run"]
    parts.append("\n".join(f"* {markdown_cell(line)}" for line in run_lines(recipe, log)))
    versions = ", ".join(f"{name} {version}" for name, version in log.versions.items())
    parts.append(f"Recipe `{log.recipe}`, {versions}; {decimal(log.seconds / 60, 0)} minutes; {log.date}.")
    return "\n\n".join(parts) + "\n"
