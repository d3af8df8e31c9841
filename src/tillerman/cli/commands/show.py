"""``tillerman show``: print what an artefact is, or several side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import tillerman
from tillerman.cli import options as o
from tillerman.cli.output import OUT, print_json, write_report


def show(
    artefacts: Annotated[
        list[Path], typer.Argument(help="a file that 'fit' wrote, or several", metavar="ARTEFACT", show_default=False)
    ],
    report: o.Report = None,
    as_json: o.Json = False,
) -> None:
    """Print what an artefact is: provenance, chosen cell, what was measured, what each study says.

    Several artefacts are shown side by side. --report writes one page: evaluation and studies of one artefact, or
    the comparison of several."""
    from tillerman.cli.showing import artefact_json, entry_of, print_artefact, print_beside, stored_log
    from tillerman.core.files import write_text
    from tillerman.evaluation.cards import studies_of
    from tillerman.reports.pages import render_beside

    o.writable(report)
    loaded = [tillerman.load(path) for path in artefacts]
    if len(loaded) > 1:
        entries = [entry_of(path, artefact) for path, artefact in zip(artefacts, loaded, strict=True)]
        if report is not None:
            write_text(report, render_beside(entries))
        if as_json:
            print_json({str(path): artefact_json(one) for path, one in zip(artefacts, loaded, strict=True)})
        else:
            print_beside(OUT, entries)
        return
    if report is not None:
        write_report(report, stored_log(loaded[0]), studies_of(loaded[0]))
    if as_json:
        print_json(artefact_json(loaded[0]))
    else:
        print_artefact(OUT, artefacts[0], loaded[0])
