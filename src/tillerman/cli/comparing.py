"""``tillerman compare``: methods side by side, on one or several data sets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tillerman.cli.options import ModelChoice
from tillerman.cli.output import print_power
from tillerman.cli.views import table_view
from tillerman.cli.watch import BarWatch
from tillerman.core.errors import UsageError
from tillerman.core.files import write_text
from tillerman.core.store import Store
from tillerman.data.loading import LoadedData
from tillerman.logs.comparison import Comparison, ComparisonLog
from tillerman.pipeline.compare import Lineup, compare, compare_key
from tillerman.pipeline.foresight import foresee
from tillerman.reports.charts.methods import compare_chart
from tillerman.reports.charts.svg import standalone
from tillerman.reports.comparison import heading, tables, to_markdown, verdict
from tillerman.reports.pages import render_comparison


def run_compare(
    lineup: Lineup, data: Sequence[LoadedData], model: ModelChoice, out: Path | None, console: Console
) -> ComparisonLog:
    """Compare on each data set; write log, tables, page and charts into ``out``. Finished methods lie in folders
    there until all is done."""
    if len({one.digest for one in data}) < len(data):
        raise UsageError("the same DATA is given twice; give each once")
    for one in data:
        console.print(one.name, end=": ", highlight=False, markup=False)
        print_power(console, foresee(lineup.experiment, one, len(lineup.methods)))
    opened = model.open()
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    stores = [
        Store(None if out is None else out / f"{one.digest[:12]}.partial", compare_key(lineup, opened, one))
        for one in data
    ]
    resumed = sum(store.resumed for store in stores)
    if resumed:
        console.print(f"going on from {resumed} finished pieces of an interrupted run", highlight=False)
    finished = False
    try:
        made = [
            compare(lineup, opened, one, store=store, watch=BarWatch(console))
            for one, store in zip(data, stores, strict=True)
        ]
        log = ComparisonLog(tuple(made))
        if out is not None:
            write_comparison(log, out)
        finished = True
    finally:
        for store in stores:
            store.close(finished=finished)
    return log


def write_comparison(log: ComparisonLog, out: Path) -> None:
    """``compare.json``, ``.md`` and ``.html``, and a chart per data set."""
    write_text(out / "compare.json", json.dumps(log.to_json()))
    write_text(out / "compare.md", to_markdown(log))
    write_text(out / "compare.html", render_comparison(log))
    for number, comparison in enumerate(log.comparisons, start=1):
        write_text(out / f"{number}-{comparison.data_name}.svg", standalone(compare_chart(comparison)))


def print_comparison(console: Console, comparison: Comparison) -> None:
    console.print(heading(comparison), highlight=False, markup=False)
    for table in tables(comparison):
        console.print(table_view(table))
    for one in comparison.left_out:
        console.print(f"left out: {one.method}: {one.reason}", highlight=False, markup=False)
    console.print(verdict(comparison), style="bold", highlight=False, markup=False)
