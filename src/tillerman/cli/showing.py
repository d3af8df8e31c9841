"""``tillerman show`` and ``tillerman generate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tillerman.cli.options import ModelChoice
from tillerman.cli.views import conditions_table, facts, print_verdicts, summary, table_view
from tillerman.core.artefact import Artefact
from tillerman.core.errors import ArtefactError
from tillerman.core.hookpoint import HookPoint, named
from tillerman.core.plan import Intervention
from tillerman.core.steerings.base import joint_dose
from tillerman.data.writing import make_writer
from tillerman.evaluation.cards import studies_of
from tillerman.logs.evaluation import EvaluationLog
from tillerman.reports.side_by_side import Column, beside_tables
from tillerman.steering.generation import Sampling, continuation


def stored_log(artefact: Artefact) -> EvaluationLog:
    if artefact.card is None or not artefact.card.report:
        raise ArtefactError("this artefact carries no evaluation; 'tillerman eval' makes one")
    return EvaluationLog.from_json(dict(artefact.card.report))


def artefact_json(artefact: Artefact) -> dict[str, Any]:
    vector = artefact.steering
    card = artefact.card
    return {
        "provenance": vector.provenance.to_json(),
        "hook_points": {str(p): {"norm": vector.norm(p), "stream_norm": vector.stream_norms[p]} for p in vector.points},
        "chosen": None
        if card is None
        else {
            "hook_point": card.hook_point,
            "strength": card.strength,
            "dose": card.dose,
            "scope": card.scope,
            "operator": card.operator,
        },
        "gate": None if artefact.gate is None else str(artefact.gate),
        "measured": summary(stored_log(artefact)) if card is not None and card.report else None,
        "studies": {
            study.study: {"question": study.question, "outcome": study.verdict.outcome, "words": study.verdict.words}
            for study in studies_of(artefact)
        },
    }


def entry_of(path: Path, artefact: Artefact) -> Column:
    return Column(path.stem, stored_log(artefact), studies_of(artefact))


def print_beside(console: Console, entries: Sequence[Column]) -> None:
    """Several artefacts, a column each, and what every study says of each."""
    for table in beside_tables(entries):
        console.print(table_view(table))
    for entry in entries:
        console.print(entry.name, style="bold", highlight=False, markup=False)
        print_verdicts(console, entry.log, entry.studies)


def print_artefact(console: Console, path: Path, artefact: Artefact) -> None:
    p = artefact.steering.provenance
    lines = [
        f"{path}: {p.method} of {p.data_name}, fitted on {p.model_id} ({p.model_fingerprint}), {p.date}",
        f"width {p.width}, {p.layers} layers; read at {p.read_site} ({p.read_positions}), added at {p.site}; "
        f"template {p.template} ({p.template_hash}); seed {p.seed}",
    ]
    if artefact.gate is not None:
        lines.append(f"gate: steered where {artefact.gate}")
    for line in lines:
        console.print(line, highlight=False, markup=False)
    table = Table(title="vector")
    for name in ("hook point", "norm", "mean activation norm", "dose of strength 1"):
        table.add_column(name, justify="left" if name == "hook point" else "right")
    v = artefact.steering
    for point in v.points:
        table.add_row(str(point), f"{v.norm(point):.3f}", f"{v.stream_norms[point]:.3f}", f"{v.dose(point, 1.0):.3f}")
    console.print(table)
    if artefact.card is not None and artefact.card.report:
        log = stored_log(artefact)
        console.print(conditions_table(log))
        for line in facts(log):
            console.print(line, highlight=False, markup=False)
        print_verdicts(console, log, studies_of(artefact))


def run_generate(
    path: Path,
    model: ModelChoice,
    reading: tuple[str, bool],
    prompt: tuple[str, str | None],
    grid: tuple[tuple[float, ...] | None, tuple[HookPoint, ...] | None],
    sampling: Sampling,
) -> dict[str, Any]:
    """``reading`` is template and allow mismatch; ``prompt`` is user text and system prompt;
    ``grid`` is strengths and hook points, None for the chosen ones."""
    template, allow_mismatch = reading
    opened = model.open()
    artefact, warnings = opened.load_artefact(path, allow_mismatch=allow_mismatch)
    writer = make_writer(opened.tokenizer, template).with_system(prompt[1])
    tokens = writer.encode(writer.prompt_text(prompt[0]) if writer.template == "chat" else prompt[0])
    (chosen,) = artefact.plan()
    points = grid[1] or chosen.steering.points
    vector = artefact.steering.at(points)
    strengths = grid[0] if grid[0] is not None else (chosen.strength,)
    rows = [{"strength": 0.0, "dose": 0.0, "text": continuation(opened, tokens, (), sampling)}]
    for strength in filter(None, strengths):  # 0 is the first row, to the bit
        plan = (Intervention(vector, strength, chosen.operator, artefact.scope, artefact.gate),)
        text = continuation(opened, tokens, plan, sampling)
        rows.append({"strength": strength, "dose": joint_dose(vector, strength), "text": text})
    return {"prompt": prompt[0], "hook_point": named(points), "continuations": rows, "warnings": list(warnings)}


def generations_table(made: dict[str, Any]) -> Table:
    table = Table(title=f"{made['prompt']}  (steered at {made['hook_point']})", show_lines=True)
    for name in ("strength", "dose", "continuation"):
        table.add_column(name, justify="left" if name == "continuation" else "right")
    for row in made["continuations"]:
        text = row["text"].replace("[", "\\[")
        table.add_row(f"{row['strength']:g}", f"{row['dose']:.2f}", text or "(nothing)")
    return table
