"""``tillerman generate``: continue a prompt unsteered and steered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tillerman.cli import options as o
from tillerman.cli.output import ERR, OUT, print_json

if TYPE_CHECKING:
    from tillerman.core.hookpoint import HookPoint
    from tillerman.steering.generation import Sampling


def generate(
    prompt: Annotated[
        str, typer.Argument(help="user message (plain text for a model without a chat template)", metavar="PROMPT")
    ],
    artefact: Annotated[Path, typer.Option("--artefact", "-a", help="a file that 'fit' wrote")],
    model: o.Model = "pilot",
    strengths: Annotated[
        str | None, typer.Option(help="strengths, in multiples of the vector; the chosen one if not given")
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", help="another fitted hook point, e.g. 3 or layers.3.resid_post")
    ] = None,
    system: Annotated[str | None, typer.Option(help="system prompt")] = None,
    tokens: Annotated[int, typer.Option(min=1, help="maximum new tokens")] = 60,
    temperature: Annotated[float, typer.Option(min=0, help="sampling temperature; 0 is greedy")] = 0.7,
    seed: Annotated[int, typer.Option(help="random seed of sampling, the same for every strength")] = 0,
    template: o.Template = "auto",
    allow_mismatch: o.AllowMismatch = False,
    device: o.Device = "cpu",
    guess_layout: o.GuessLayout = False,
    as_json: o.Json = False,
) -> None:
    """Continue a prompt unsteered and steered, side by side."""
    from tillerman.cli.render import print_table
    from tillerman.reports.artefact import generations_table
    from tillerman.steering.generation import Sampling

    made = run_generate(
        artefact,
        o.ModelChoice(model, device, guess_layout),
        (template, allow_mismatch),
        (prompt, system),
        (o.numbers(strengths, "--strengths"), o.points_of(at)),
        Sampling(tokens, temperature, seed),
    )
    if as_json:
        print_json(made)
    else:
        for warning in made["warnings"]:
            ERR.print(f"warning: {warning}", style="yellow", highlight=False)
        rows = [(row["strength"], row["dose"], row["text"]) for row in made["continuations"]]
        print_table(OUT, generations_table(made["prompt"], made["hook_point"], rows))


def run_generate(
    path: Path,
    model: o.ModelChoice,
    reading: tuple[str, bool],
    prompt: tuple[str, str | None],
    grid: tuple[tuple[float, ...] | None, tuple[HookPoint, ...] | None],
    sampling: Sampling,
) -> dict[str, Any]:
    """``reading`` is template and allow mismatch; ``prompt`` is user text and system prompt;
    ``grid`` is strengths and hook points, None for the chosen ones."""
    from tillerman.core.hookpoint import named
    from tillerman.data.writing import make_writer
    from tillerman.steering.generation import continuation

    template, allow_mismatch = reading
    opened = model.open()
    artefact, warnings = opened.load_artefact(path, allow_mismatch=allow_mismatch)
    writer = make_writer(opened.tokenizer, template).with_system(prompt[1])
    tokens = writer.encode(writer.prompt_text(prompt[0]) if writer.template == "chat" else prompt[0])
    chosen = artefact.cell if grid[1] is None else replace(artefact.cell, points=grid[1])
    strengths = grid[0] if grid[0] is not None else (chosen.strength,)
    rows = [{"strength": 0.0, "dose": 0.0, "text": continuation(opened, tokens, (), sampling)}]
    for strength in filter(None, strengths):  # 0 is the first row, to the bit
        cell = chosen.at(strength)
        text = continuation(opened, tokens, cell.plan(artefact.steering, artefact.gate), sampling)
        rows.append({"strength": strength, "dose": cell.dose(artefact.steering), "text": text})
    return {"prompt": prompt[0], "hook_point": named(chosen.points), "continuations": rows, "warnings": list(warnings)}
