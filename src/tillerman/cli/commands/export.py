"""``tillerman export``: an artefact in the form of another tool."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tillerman.cli import names, options as o, values
from tillerman.cli.output import OUT, print_json
from tillerman.core.errors import UnknownNameError

if TYPE_CHECKING:
    from tillerman.core.artefact import Artefact


def export(
    form: Annotated[str, typer.Argument(help=", ".join(names.FORMATS), metavar="FORMAT", show_default=False)],
    artefact: Annotated[Path, typer.Argument(help="a file that 'fit' or 'import' wrote", metavar="ARTEFACT")],
    out: Annotated[Path, typer.Option("--out", "-o", help="the file to write")],
    strength: Annotated[float | None, typer.Option(help="strength to export, instead of the chosen one")] = None,
    as_json: o.Json = False,
) -> None:
    """Write an artefact in the form of another tool.

    The strength is in the numbers, so that the tool's factor is 1. What the format cannot say is refused by name. The
    artefact itself travels along: 'import' gives it back as it was."""
    if form not in names.FORMATS:
        raise UnknownNameError("format", form, names.FORMATS)
    values.writable(out)
    words = run_export(form, artefact, out, strength)
    if as_json:
        print_json({"format": form, "file": str(out), "said": list(words)})
        return
    for line in words:
        OUT.print(line, highlight=False, markup=False, soft_wrap=True)


def run_export(form: str, path: Path, out: Path, strength: float | None) -> tuple[str, ...]:
    """Lines that say what was written, and how it is used."""
    import tillerman
    from tillerman.exchange.formats import FORMATS, ensure_said
    from tillerman.exchange.outgoing import outgoing
    from tillerman.models.model_type import model_type_of
    from tillerman.reports.exchange import exported_words

    target = FORMATS[form]
    artefact: Artefact = tillerman.load(path)
    if strength is not None:
        artefact = replace(artefact, cell=artefact.cell.at(strength))
    ensure_said(target, artefact)
    vector = outgoing(artefact, model_type_of(artefact.steering.provenance.model_id))
    target.write(out, vector)
    return exported_words(artefact.cell, artefact.dose, str(out), target.tool, target.used, factor=target.factor)
