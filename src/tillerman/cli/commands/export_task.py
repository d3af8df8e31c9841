"""``tillerman export-task``: items as a task of lm-eval and inspect-ai."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tillerman.cli import options as o, values
from tillerman.cli.output import OUT, load, print_skipped
from tillerman.core.opening import AS_USUAL, Opening

if TYPE_CHECKING:
    from tillerman.data.loading import LoadedData


def export_task(
    data: o.Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="a new folder for the task's files")],
    model: o.Model = "pilot",
    all_items: Annotated[
        bool,
        typer.Option(
            "--all-items", help="every item instead of the test share, for data that the vector was not fitted on"
        ),
    ] = False,
    shares: o.Shares = "0.6,0.2,0.2",
    seed: Annotated[
        int, typer.Option(help="random seed for the split and the order of options; use that of the fit")
    ] = 0,
    system: o.System = None,
    template: o.Template = "auto",
    template_args: o.TemplateArgs = None,
    as_choice: o.AsChoice = False,
    limit: o.Limit = None,
    layout: o.Layout = None,
    columns: o.Columns = None,
    skip_bad_rows: o.SkipBadRows = False,
    opening: Opening = AS_USUAL,
) -> None:
    """Write the items that 'eval' tests as a task for lm-eval and inspect-ai.

    The prompts are the same; those for lm-eval are written for the model's tokenizer."""
    values.new_folder(out)
    loaded = load(data, layout, columns, None, limit, skip_bad_rows)
    asked = None if all_items else values.shares_of(shares)
    reading = (template, values.arguments_of(template_args), system)
    written = run_export(loaded, out, o.ModelChoice(model, opening), reading, (asked, seed), as_choice=as_choice)
    print_skipped(loaded.skipped)
    for path in written:
        OUT.print(f"written: {path}", highlight=False, markup=False, soft_wrap=True)


def run_export(
    data: LoadedData,
    folder: Path,
    model: o.ModelChoice,
    reading: tuple[str, dict[str, Any], str | None],
    split: tuple[tuple[float, float, float] | None, int],
    *,
    as_choice: bool,
) -> tuple[Path, ...]:
    """``reading`` is template, its arguments and system prompt; ``split`` is shares (None: all items) and seed."""
    from tillerman.data.duplicates import clean_split
    from tillerman.data.presenting import as_choices, present
    from tillerman.data.writing import make_writer
    from tillerman.harnesses.export import export_task as written_task

    template, arguments, system = reading
    shares, seed = split
    examples = as_choices(data.examples) if as_choice else data.examples
    items = present(examples if shares is None else clean_split(examples, shares=shares, seed=seed).test, seed)
    writer = make_writer(model.open().tokenizer, template, arguments).with_system(system)
    return written_task(items, writer, folder, re.sub(r"\W+", "_", data.name).strip("_") or "items")
