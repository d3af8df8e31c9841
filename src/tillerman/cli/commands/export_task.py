"""``tillerman export-task``: items as a task of lm-eval and inspect-ai."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tillerman.cli import options as o
from tillerman.cli.output import OUT, load, print_skipped


def export_task(
    data: o.Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="a new folder for the task's files")],
    model: o.Model = "pilot",
    all_items: Annotated[
        bool, typer.Option("--all-items", help="every item, not the test share alone (data the vector never saw)")
    ] = False,
    shares: o.Shares = "0.6,0.2,0.2",
    seed: Annotated[int, typer.Option(help="of split and option order; as in the fit")] = 0,
    system: o.System = None,
    template: o.Template = "auto",
    as_choice: o.AsChoice = False,
    limit: o.Limit = None,
    layout: o.Layout = None,
    columns: o.Columns = None,
    skip_bad_rows: o.SkipBadRows = False,
) -> None:
    """Write the items that 'eval' would test, with the same prompts, as a task for lm-eval and inspect-ai.

    The prompts for lm-eval are written for the model's tokenizer."""
    o.new_folder(out)
    loaded = load(data, layout, columns, None, limit, skip_bad_rows)
    from tillerman.cli.exporting import run_export

    written = run_export(
        loaded, out, model, (template, system), (None if all_items else o.shares_of(shares), seed), as_choice=as_choice
    )
    print_skipped(loaded.skipped)
    for path in written:
        OUT.print(f"written: {path}", highlight=False, markup=False, soft_wrap=True)
