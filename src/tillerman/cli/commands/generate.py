"""``tillerman generate``: continue a prompt unsteered and steered, and under monitors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tillerman.cli import options as o, values
from tillerman.cli.monitored import MonitorChoice, answer
from tillerman.cli.output import ERR, OUT, print_json
from tillerman.core.errors import UsageError
from tillerman.core.opening import AS_USUAL, Opening

if TYPE_CHECKING:
    from tillerman.core.hookpoint import HookPoint
    from tillerman.core.plan import Intervention
    from tillerman.models.opened import OpenModel
    from tillerman.steering.generation import Sampling


def generate(
    prompt: Annotated[
        str, typer.Argument(help="user message (plain text for a model without a chat template)", metavar="PROMPT")
    ],
    artefact: Annotated[Path | None, typer.Option("--artefact", "-a", help="a file that 'fit' wrote")] = None,
    plan: Annotated[
        list[str] | None,
        typer.Option(
            help="artefacts by name, dose and scope, e.g. science@0.3:after_instruction+calm@-0.2; may be repeated",
            show_default=False,
        ),
    ] = None,
    model: o.OwnModel = None,
    strengths: Annotated[
        str | None, typer.Option(help="strengths, in multiples of the vector; the chosen one if not given")
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", help="another fitted hook point, e.g. 3 or layers.3.resid_post")
    ] = None,
    monitor: Annotated[
        list[Path] | None,
        typer.Option(
            help="an artefact whose monitor follows every answer ('tillerman monitor' calibrates one); may be repeated",
            show_default=False,
        ),
    ] = None,
    on_crossing: Annotated[
        str, typer.Option(help="what a crossing does: warn, abort (end the answer) or steer (switch a plan on)")
    ] = "warn",
    switch_on: Annotated[
        str | None, typer.Option(help="with --on-crossing steer: the plan, as --plan writes it", metavar="PLAN")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="of the monitor, in the units of the stream; the calibrated one if not given")
    ] = None,
    system: Annotated[str | None, typer.Option(help="system prompt")] = None,
    tokens: Annotated[int, typer.Option(min=1, help="maximum new tokens")] = 60,
    temperature: Annotated[float, typer.Option(min=0, help="sampling temperature; 0 is greedy")] = 0.7,
    seed: Annotated[int, typer.Option(help="random seed of sampling, the same for every strength")] = 0,
    template: o.Template = "auto",
    template_args: o.TemplateArgs = None,
    allow_mismatch: o.AllowMismatch = False,
    opening: Opening = AS_USUAL,
    as_json: o.Json = False,
) -> None:
    """Continue a prompt unsteered and steered, side by side.

    With --monitor every one of them is followed by the monitor, and its crossings are told."""
    from tillerman.cli.render import print_line, print_table
    from tillerman.reports.artefact import generations_table, plans_table
    from tillerman.reports.monitor import crossing_words
    from tillerman.steering.generation import Sampling

    watched = MonitorChoice(tuple(monitor or ()), on_crossing, switch_on, threshold)
    if artefact is not None and plan is not None:
        raise UsageError("--artefact and --plan are two ways to steer; give one of them")
    if artefact is None and plan is None and not watched.files:
        raise UsageError("give --artefact FILE, or --plan 'science@0.3' with the names of artefacts, or --monitor FILE")
    if artefact is None and (strengths is not None or at is not None):
        raise UsageError("--strengths and --at are about --artefact; a --plan has doses of its own")
    choice = o.ModelChoice(model, opening)
    reading = _Reading(template, values.arguments_of(template_args), allow_mismatch, watched)
    sampling = Sampling(tokens, temperature, seed)
    if artefact is None:
        made = run_plans(plan or [], choice, reading, (prompt, system), sampling)
    else:
        grid = (values.numbers(strengths, "--strengths"), values.points_of(at))
        made = run_generate(artefact, choice, reading, (prompt, system), grid, sampling)
    if as_json:
        print_json(made)
        return
    for warning in made["warnings"]:
        ERR.print(f"warning: {warning}", style="yellow", highlight=False)
    said = made["continuations"]
    if artefact is None:
        table = plans_table(made["prompt"], [(row["plan"], row["text"]) for row in said])
    else:
        rows = [(row["strength"], row["dose"], row["text"]) for row in said]
        table = generations_table(made["prompt"], made["hook_point"] if any(row[0] for row in rows) else None, rows)
    print_table(OUT, table)
    for row in said:
        name = (row["plan"] or "unsteered") if artefact is None else f"strength {row['strength']:g}"
        for line in crossing_words(name, row["crossings"]) if watched.files else ():
            print_line(OUT, line)


@dataclass(frozen=True)
class _Reading:
    """How the prompt is written, the artefact read and the answer followed."""

    template: str
    arguments: Mapping[str, Any]
    allow_mismatch: bool
    watched: MonitorChoice


def run_plans(
    plans: Sequence[str],
    model: o.ModelChoice,
    reading: _Reading,
    prompt: tuple[str, str | None],
    sampling: Sampling,
) -> dict[str, Any]:
    """Unsteered and under each named plan; ``reading`` and ``prompt`` as for ``run_generate``."""
    from tillerman.core.named_plan import NamedPlan
    from tillerman.steering.named import find_artefact, open_plan

    named = [NamedPlan.parse(text) for text in plans]  # a mistake is told before the model is opened
    first = find_artefact(named[0].parts[0].name, Path()) if named else reading.watched.files[0]
    opened = model.of(first).open()
    made = [open_plan(plan, opened, allow_mismatch=reading.allow_mismatch) for plan in named]
    alarms, told = reading.watched.opened(opened, allow_mismatch=reading.allow_mismatch)
    tokens = _tokens(opened, reading, prompt, sampling.max_new_tokens)
    rows: list[dict[str, Any]] = [{"plan": "", "applied": [], **answer(opened, tokens, (), sampling, alarms)}]
    for name, (plan, _) in zip(named, made, strict=True):
        applied = [_applied(item) for item in plan]
        rows.append({"plan": str(name), "applied": applied, **answer(opened, tokens, plan, sampling, alarms)})
    warnings = dict.fromkeys([*(text for _, allowed in made for text in allowed), *told])
    return {"prompt": prompt[0], "continuations": rows, "warnings": list(warnings)}


def run_generate(
    path: Path,
    model: o.ModelChoice,
    reading: _Reading,
    prompt: tuple[str, str | None],
    grid: tuple[tuple[float, ...] | None, tuple[HookPoint, ...] | None],
    sampling: Sampling,
) -> dict[str, Any]:
    """``prompt`` is user text and system prompt; ``grid`` is strengths and hook points, None for the chosen ones."""
    from tillerman.core.artefact import ABSTAINS
    from tillerman.core.hookpoint import named

    opened = model.of(path).open()
    artefact, warnings = opened.load_artefact(path, allow_mismatch=reading.allow_mismatch)
    alarms, told = reading.watched.opened(opened, allow_mismatch=reading.allow_mismatch)
    warnings = (*warnings, *told)
    tokens = _tokens(opened, reading, prompt, sampling.max_new_tokens)
    chosen = artefact.cell if grid[1] is None else replace(artefact.cell, points=grid[1])
    strengths = grid[0] if grid[0] is not None else (chosen.strength,)
    if not any(strengths):
        warnings = (*warnings, f"{path}: {ABSTAINS}; --strengths steers all the same")
    rows = [{"strength": 0.0, "dose": 0.0, **answer(opened, tokens, (), sampling, alarms)}]
    for strength in filter(None, strengths):  # 0 is the first row, to the bit
        cell = chosen.at(strength)
        made = answer(opened, tokens, cell.plan(artefact.steering, artefact.gate), sampling, alarms)
        rows.append({"strength": strength, "dose": cell.dose(artefact.steering), **made})
    return {"prompt": prompt[0], "hook_point": named(chosen.points), "continuations": rows, "warnings": list(warnings)}


def _tokens(opened: OpenModel, reading: _Reading, prompt: tuple[str, str | None], new: int) -> tuple[int, ...]:
    from tillerman.data.writing import make_writer

    writer = make_writer(opened.tokenizer, reading.template, reading.arguments).with_system(prompt[1])
    tokens = writer.encode(writer.reply_text(prompt[0]) if writer.template == "chat" else prompt[0])
    if opened.context is not None and len(tokens) + new > opened.context:
        raise UsageError(
            f"the prompt has {len(tokens)} tokens, and --tokens allows {new} more, but {opened.id} reads "
            f"{opened.context} in all; shorten the prompt, or give fewer --tokens"
        )
    return tokens


def _applied(item: Intervention) -> dict[str, Any]:
    """The cell of an intervention, its dose, and the method of its vector."""
    from tillerman.core.cell import Cell

    cell = Cell(item.steering.points, item.strength, item.operator, item.scope)
    facts = {"method": item.steering.provenance.method, "dose": cell.dose(item.steering)}
    return {**facts, **cell.to_json(), "scope": str(cell.scope)}
