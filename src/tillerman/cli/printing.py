"""What the commands print of a result; each is handed a console, or gives a table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tillerman.cli.views import NAMES, conditions_table, facts, print_verdict, print_verdicts, table_view
from tillerman.core.artefact import Artefact
from tillerman.core.errors import ArtefactError
from tillerman.evaluation.cards import studies_of
from tillerman.logs.comparison import Comparison
from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.reproduction import ReproductionLog
from tillerman.logs.scores import JudgeAgreement, ScoreLog, ScorerResult
from tillerman.logs.study import StudyLog
from tillerman.recipes.recipe import Recipe
from tillerman.recipes.report import claims_table, run_lines, summary, tables_of
from tillerman.reports.comparison import heading, tables, verdict
from tillerman.reports.side_by_side import Column, beside_tables
from tillerman.reports.study import heading as study_heading
from tillerman.statistics.values import ScoreMean


def print_comparison(console: Console, comparison: Comparison) -> None:
    console.print(heading(comparison), highlight=False, markup=False)
    for table in tables(comparison):
        console.print(table_view(table))
    for one in comparison.left_out:
        console.print(f"left out: {one.method}: {one.reason}", highlight=False, markup=False)
    console.print(verdict(comparison), style="bold", highlight=False, markup=False)


def print_study(console: Console, log: StudyLog) -> None:
    console.print(log.question, style="bold", highlight=False, markup=False)
    console.print(study_heading(log), highlight=False, markup=False)
    for table in log.tables:
        console.print(table_view(table))
    for note in log.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    print_verdict(console, log.study, log.verdict)


def print_reproduction(console: Console, recipe: Recipe, log: ReproductionLog) -> None:
    console.print(f"{recipe.title}: {recipe.paper.replace('*', '')}", highlight=False, markup=False)
    for table in (*tables_of(recipe, log), claims_table(recipe, log)):
        console.print(table_view(table))
    for line in run_lines(recipe, log):
        console.print(line, highlight=False, markup=False)
    console.print(summary(log), style="bold", highlight=False, markup=False)


def stored_log(artefact: Artefact) -> EvaluationLog:
    if artefact.card is None or not artefact.card.report:
        raise ArtefactError("this artefact carries no evaluation; 'tillerman eval' makes one")
    return EvaluationLog.from_json(dict(artefact.card.report))


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


def generations_table(made: dict[str, Any]) -> Table:
    table = Table(title=f"{made['prompt']}  (steered at {made['hook_point']})", show_lines=True)
    for name in ("strength", "dose", "continuation"):
        table.add_column(name, justify="left" if name == "continuation" else "right")
    for row in made["continuations"]:
        text = row["text"].replace("[", "\\[")
        table.add_row(f"{row['strength']:g}", f"{row['dose']:.2f}", text or "(nothing)")
    return table


def score_tables(log: ScoreLog) -> Iterator[Table]:
    """One table per scorer, 80 columns; intervals stand below what they belong to."""
    for one in log.scored:
        table = Table(title=_title(one), box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("condition", no_wrap=True)
        for head in ("dose", "n", "left\nout", "mean", "change"):
            table.add_column(head, justify="right", no_wrap=True)
        places = _places(one)
        for row in one.rows:
            spoken, figure = log.conditions[row.condition], row.figure
            table.add_row(
                NAMES.get(spoken.name, spoken.name),
                f"{spoken.dose:.2f}",
                "0" if figure is None else f"{figure.n}" if figure.of == "prompts" else f"{figure.n} {figure.of}",
                "all" if figure is None else str(figure.missing or ""),
                "" if figure is None else _numbers(figure, f".{places}f"),
                "" if row.change is None else _numbers(row.change, f"+.{places}f"),
            )
        yield table


def _title(one: ScorerResult) -> str:
    bounds = f"{'-inf' if one.low is None else f'{one.low:g}'} to {'inf' if one.high is None else f'{one.high:g}'}"
    better = "" if one.better == "neither" else f", {one.better} is better"
    return f"{one.scorer} ({one.unit}, {bounds}{better})"


def _places(one: ScorerResult) -> int:
    """Decimals that leave the largest figure three digits."""
    largest = max((abs(row.figure.value) for row in one.rows if row.figure is not None), default=1.0)
    return min(4, max(0, 2 - math.floor(math.log10(largest)))) if largest > 0 else 3


def _numbers(figure: ScoreMean, form: str) -> str:
    return f"{figure.value:{form}}\n[dim]{figure.interval.low:{form}} to {figure.interval.high:{form}}"


def score_facts(log: ScoreLog) -> list[str]:
    size = f"{len(log.prompts)} prompts, {log.samples} replies each of at most {log.tokens} tokens"
    system = next((c.detail for c in log.conditions if c.name == "prompt"), "")
    return [
        f"{log.method} at {log.hook_point}, scope {log.scope}, model {log.model_id}; {size}, temperature "
        f"{log.temperature:g}, seed {log.seed}",
        f"prompt baseline: {system}",
        "intervals are over prompts; those of the null over its draws; changes are paired with unsteered",
        *(f"{one.scorer}: {one.note}" for one in log.scored if one.note),
        *(_agreed(one) for one in log.agreements),
        *(f"note: {note}" for note in log.notes),
    ]


def _agreed(one: JudgeAgreement) -> str:
    a = one.agreement
    kappa = "none (all ratings of a side are the same)"
    if a.kappa is not None:
        kappa = f"{a.kappa.value:.2f} ({a.kappa.interval.low:.2f} to {a.kappa.interval.high:.2f})"
    return (
        f"judge's {one.rubric}, rated twice: weighted kappa {kappa}, mean difference {a.difference.value:.2f} "
        f"({a.difference.interval.low:.2f} to {a.difference.interval.high:.2f}), n = {a.n}, left out {a.missing}"
    )
