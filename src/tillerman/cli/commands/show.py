"""``tillerman show``: print what an artefact is, or several side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

import tillerman
from tillerman.cli import options as o, values
from tillerman.cli.output import OUT, print_json, show_account, write_report

if TYPE_CHECKING:
    from tillerman.core.artefact import Artefact
    from tillerman.reports.side_by_side import Column


def show(
    artefacts: Annotated[
        list[Path], typer.Argument(help="a file that 'fit' wrote, or several", metavar="ARTEFACT", show_default=False)
    ],
    report: o.Report = None,
    as_json: o.Json = False,
) -> None:
    """Show what an artefact is and what was measured, or several side by side.

    Provenance, chosen cell, evaluation, and what each study says. Several artefacts are shown side by side.
    --report writes one page: evaluation and studies of one artefact, or the comparison of several."""
    from tillerman.core.files import in_turn, write_text
    from tillerman.evaluation.cards import evaluation_of, studies_of
    from tillerman.reports.pages import render_beside
    from tillerman.reports.side_by_side import account

    values.writable(report)
    loaded = [tillerman.load(path) for path in artefacts]
    if len(loaded) > 1:
        entries = [entry_of(path, artefact) for path, artefact in zip(artefacts, loaded, strict=True)]
        table = {str(path): artefact_json(one) for path, one in zip(artefacts, loaded, strict=True)}
        in_turn(
            lambda: print_json(table) if as_json else show_account(account(entries)),
            lambda: None if report is None else write_text(report, render_beside(entries)),
        )
        return
    page = None if report is None else (evaluation_of(loaded[0]), studies_of(loaded[0]))
    in_turn(
        lambda: print_json(artefact_json(loaded[0])) if as_json else print_artefact(artefacts[0], loaded[0], OUT),
        lambda: None if report is None or page is None else write_report(report, *page),
    )


def print_artefact(path: Path, artefact: Artefact, console: Console) -> None:
    from tillerman.cli.render import print_account, print_line, print_table
    from tillerman.core.artefact import ABSTAINS
    from tillerman.core.named_plan import NamedPart
    from tillerman.core.places import shown_place
    from tillerman.evaluation.cards import evaluation_of, studies_of
    from tillerman.reports.artefact import norms_table, provenance_words
    from tillerman.reports.evaluation import account

    words = provenance_words(artefact.steering.provenance)
    gate = "" if artefact.gate is None else f"gate: steered where {artefact.gate}"
    named = shown_place(path)
    plan = NamedPart.of(named if named != str(path) else str(path.with_suffix("")), artefact)
    cell = f"applied at {artefact.cell}; as a plan: {plan}"
    idle = ABSTAINS if artefact.abstains else ""
    for line in (f"{named}: {words[0]}", *words[1:], cell, gate, idle):
        print_line(console, line)
    v = artefact.steering
    print_table(console, norms_table((str(p), v.norm(p), v.stream_norms[p], v.dose(p, 1.0)) for p in v.points))
    if artefact.card is not None and artefact.card.report:
        print_account(console, account(evaluation_of(artefact), studies_of(artefact)))
    else:
        print_line(console, "Nothing was measured yet: 'tillerman eval' and 'tillerman score' measure what it does.")


def artefact_json(artefact: Artefact) -> dict[str, Any]:
    from tillerman.core.hookpoint import named
    from tillerman.evaluation.cards import evaluation_of, studies_of
    from tillerman.reports.summary import summary

    vector = artefact.steering
    card, cell = artefact.card, artefact.cell
    return {
        "provenance": vector.provenance.to_json(),
        "hook_points": {str(p): {"norm": vector.norm(p), "stream_norm": vector.stream_norms[p]} for p in vector.points},
        "chosen": {
            "hook_point": named(cell.points),
            "strength": cell.strength,
            "dose": artefact.dose,
            "scope": str(cell.scope),
            "operator": cell.operator,
        },
        "gate": None if artefact.gate is None else str(artefact.gate),
        "measured": summary(evaluation_of(artefact)) if card is not None and card.report else None,
        "studies": {
            study.study: {"question": study.question, "outcome": study.verdict.outcome, "words": study.verdict.words}
            for study in studies_of(artefact)
        },
    }


def entry_of(path: Path, artefact: Artefact) -> Column:
    from tillerman.evaluation.cards import evaluation_of, studies_of
    from tillerman.reports.side_by_side import Column

    return Column(path.stem, evaluation_of(artefact), studies_of(artefact))
