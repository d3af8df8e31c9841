"""``tillerman export``: an artefact in the form of another tool."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tillerman.cli import names, options as o, values
from tillerman.cli.output import ERR, OUT, load, print_json
from tillerman.core.errors import UnknownNameError
from tillerman.core.opening import AS_USUAL, Opening

if TYPE_CHECKING:
    from tillerman.exchange.exporting import Exported


def export(
    form: Annotated[str, typer.Argument(help=", ".join(names.FORMATS), metavar="FORMAT", show_default=False)],
    artefact: Annotated[Path, typer.Argument(help="a file that 'fit' or 'import' wrote", metavar="ARTEFACT")],
    out: Annotated[Path, typer.Option("--out", "-o", help="file to write; of hf-model and peft, a new folder")],
    strength: Annotated[float | None, typer.Option(help="strength to export, instead of the chosen one")] = None,
    allow_change: Annotated[
        bool,
        typer.Option(
            "--allow-change",
            help="export the nearest that the format can say, and print what that costs on labelled items",
        ),
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(help="items to measure on; the artefact's own if they are an embedded sample", metavar="DATA"),
    ] = None,
    limit: Annotated[int, typer.Option(min=2, help="use at most this many of the items")] = 32,
    model: o.OwnModel = None,
    allow_mismatch: o.AllowMismatch = False,
    opening: Opening = AS_USUAL,
    as_json: o.Json = False,
) -> None:
    """Write an artefact for another tool.

    The strength is in the numbers, so that the tool's factor is 1. What the format cannot say is refused by name.
    hf-model is a folder that needs no Tillerman; its parity with 'steer' is measured and printed. The artefact travels
    along: 'import' gives it back as it was."""
    if form not in names.FORMATS:
        raise UnknownNameError("format", form, names.FORMATS)
    made = run_export(
        (form, artefact, out), o.ModelChoice(model, opening), strength, (data, limit), allow_change, allow_mismatch
    )
    if as_json:
        from tillerman.core.hookpoint import named

        cell = made.artefact.cell
        measured = {"cost": made.cost and asdict(made.cost), "parity": made.parity and asdict(made.parity)}
        at = {"hook_point": named(cell.points), "strength": cell.strength}
        print_json({"format": form, "file": str(out), **at, "changed": list(made.changed), **measured})
        return
    _tell(form, out, made)


def run_export(
    files: tuple[str, Path, Path],
    model: o.ModelChoice,
    strength: float | None,
    items: tuple[str | None, int],
    allow_change: bool,
    allow_mismatch: bool,
) -> Exported:
    """``files`` is format, artefact and what to write; ``items`` the data to measure on (None: the artefact's own) and
    how many."""
    import tillerman
    from tillerman.exchange.baking import FOLDERS
    from tillerman.exchange.exporting import ensure_said, exported, needs_model

    form, path, out = files
    if form in FOLDERS:
        values.new_folder(out)
    else:
        values.writable(out)
    artefact = tillerman.load(path)
    if strength is not None:
        artefact = replace(artefact, cell=artefact.cell.at(strength))
    if not allow_change:
        ensure_said(form, artefact)
    if not needs_model(form, artefact):
        return exported(form, artefact, out)
    data, limit = items
    loaded = None if data is None else load(data, None, None, None, None, False)
    opened = model.of(path).open()
    for warning in opened.check_provenance(artefact.steering.provenance, allow_mismatch=allow_mismatch):
        ERR.print(f"warning: {warning}", style="yellow", highlight=False)
    return exported(form, artefact, out, opened, loaded, allow_change=allow_change, limit=limit)


def _tell(form: str, out: Path, made: Exported) -> None:
    from tillerman.cli.render import print_table
    from tillerman.exchange.baking import FOLDERS
    from tillerman.exchange.formats import FORMATS
    from tillerman.reports import exchange as said

    if made.cost is not None:
        cost = made.cost
        lines = [("unsteered", cost.plain), ("as fitted", cost.fitted), ("as exported", cost.exported)]
        print_table(OUT, said.cost_table(cost.n, tuple((name, one.right, one.lead) for name, one in lines)))
        moved = cost.difference
        OUT.print(said.difference_words(moved.value, moved.interval.low, moved.interval.high), highlight=False)
    if made.changed:
        OUT.print(f"changed, since {form} cannot say it: {'; '.join(made.changed)}", highlight=False, markup=False)
    if made.parity is not None:
        one = made.parity
        OUT.print(said.parity_words(one.n, one.kl, one.largest, one.same, one.moved), highlight=False)
    if form in FOLDERS:
        tool, used, factor = FOLDERS[form], said.USED[form], False
    else:
        tool, used, factor = FORMATS[form].tool, FORMATS[form].used, FORMATS[form].factor
    words = said.exported_words(str(made.artefact.cell), made.artefact.dose, str(out), tool, used, factor=factor)
    for line in words:
        OUT.print(line, highlight=False, markup=False, soft_wrap=True)
