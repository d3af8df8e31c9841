"""A reproduction in words: its tables in the paper's layout, published beside measured, and its claims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from tillerman.logs.reproduction import ReproductionLog
from tillerman.logs.table import Table
from tillerman.recipes.claims import claims_table, counted, sorted_claims, summary, with_interval
from tillerman.recipes.layouts import TableLayout, TableRow
from tillerman.recipes.metrics import METRICS
from tillerman.recipes.recipe import Recipe
from tillerman.recipes.verdicts import Figures, Pooled
from tillerman.reports.account import Account
from tillerman.reports.numbers import decimal
from tillerman.reports.tables import markdown_cell, markdown_table


def tables_of(recipe: Recipe, log: ReproductionLog) -> tuple[Table, ...]:
    """Every table of the recipe that has a measured figure."""
    measured = Figures(recipe, log.pieces, log.left_out)
    made = [_table(layout, recipe, measured) for layout in recipe.tables]
    return tuple(table for table in made if table is not None)


def _table(layout: TableLayout, recipe: Recipe, measured: Figures) -> Table | None:
    units = {METRICS[cell.shown].unit for cell in layout.cells()}
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
    return [layout.select.but(column.select).but(row.select).shown for column in layout.columns]


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
    own = "" if unit == "task" else f", {counted(n, unit)}"
    return f"{counted(tasks, 'task')}{own}"


def run_lines(recipe: Recipe, log: ReproductionLog) -> Iterator[str]:
    """What was run: step, model, tasks, seeds; and what stood in for what, or was left out."""
    for ran in log.ran:
        words = recipe.step(ran.step).words
        yield (
            f"{ran.step} ({words}): {ran.model_id}, {counted(len(ran.tasks), 'task')} ({', '.join(ran.tasks)}), at "
            f"most {ran.limit} items each, {counted(len(ran.seeds), 'seed')}"
        )
    yield from log.notes
    yield from (f"left out: {one.what}: {one.reason}" for one in log.left_out)
    unfit = {(p.step, p.task, p.arm): p.reason for p in log.pieces if p.reason}
    yield from (f"no figure: {step}, {task}, {arm}: {reason}" for (step, task, arm), reason in unfit.items())


def account(recipe: Recipe, log: ReproductionLog) -> Account:
    heading = f"{recipe.title}: {recipe.paper.replace('*', '')}"
    tables = (*tables_of(recipe, log), claims_table(recipe, log))
    return Account(heading, tables, tuple(run_lines(recipe, log)), summary(log))


def to_markdown(recipe: Recipe, log: ReproductionLog, beside: Mapping[str, ReproductionLog] | None = None) -> str:
    """Tables, claims and what was run, as a page can include them. Claims that are not decided are folded, and so are
    the tables of runs on other models, which ``beside`` has by their names."""
    logs = {", ".join(dict.fromkeys(ran.model_id for ran in log.ran)): log, **(beside or {})}
    parts = _table_parts(recipe, log)
    for name, other in (beside or {}).items():
        parts.append(folded(f"tables of {name}", _table_parts(recipe, other)))
    decided, rest = sorted_claims(recipe, logs)
    parts += [f"### {decided.title}", markdown_table(decided) if decided.rows else "None is decided."]
    if rest.rows:
        parts.append(folded(f"{rest.title}: {len(rest.rows)}", [markdown_table(rest)]))
    parts += [summary(log)] if len(logs) == 1 else [f"{name}: {summary(one)}" for name, one in logs.items()]
    parts.append("### What was run")
    for one in logs.values():
        parts.append("\n".join(f"* {markdown_cell(line)}" for line in run_lines(recipe, one)))
        versions = ", ".join(f"{name} {version}" for name, version in one.versions.items())
        parts.append(f"Recipe `{one.recipe}`, {versions}; {decimal(one.seconds / 60, 0)} minutes; {one.date}.")
    return "\n\n".join(parts) + "\n"


def folded(title: str, parts: list[str]) -> str:
    return "\n\n".join([f"<details><summary>{markdown_cell(title)}</summary>", *parts, "</details>"])


def _table_parts(recipe: Recipe, log: ReproductionLog) -> list[str]:
    return [
        part
        for table in tables_of(recipe, log)
        for part in (f"### {markdown_cell(table.title)}", markdown_table(table))
    ]
