"""``tillerman demo``: the main job on embedded data, small enough for a laptop; on the embedded model or any other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tillerman.cli import options as o
from tillerman.cli.output import ERR, OUT, print_json, show_account, watch
from tillerman.core.files import in_turn, make_folder
from tillerman.core.opening import AS_USUAL, Opening

if TYPE_CHECKING:
    from tillerman.logs.evaluation import EvaluationLog
    from tillerman.pipeline.experiment import Experiment

PILOT = "pilot"
_PILOT = o.ModelChoice(PILOT)

# Three personas the pilot was trained on (never on these test items) and two it never saw.
BEHAVIOURS = (
    "interest-in-science",
    "conscientiousness",
    "risk-seeking",
    "interest-in-literature",
    "low-discount-rate",
)


@dataclass(frozen=True)
class Programme:
    """Which embedded samples are shown, and how each is fitted."""

    behaviours: tuple[str, ...]
    experiment: Experiment


def demo(
    model: o.Model = PILOT,
    out: Annotated[Path, typer.Option(help="folder for report, artefacts and logs")] = Path("demo"),
    method: Annotated[
        str | None, typer.Option(help="pas, auto, or any method; if not given, pas on the pilot and auto elsewhere")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="random seed of split, option order and nulls")] = 0,
    opening: Opening = AS_USUAL,
    as_json: o.Json = False,
) -> None:
    """Run the whole job on embedded data, with controls.

    Five personas on the embedded model, seven ways of writing on any other."""
    from tillerman.reports.overview import account
    from tillerman.reports.summary import summary

    logs = run_demo(out, programme(model, method, seed), ERR, o.ModelChoice(model, opening))
    in_turn(
        lambda: print_json([summary(log) for log in logs]) if as_json else show_account(account(logs)),
        lambda: write_demo(logs, out),
    )
    if not as_json:
        OUT.print(f"report: {out / 'report.html'}")


def demo_experiment(method: str = "auto", seed: int = 0) -> Experiment:
    """A small grid on few items: all five behaviours take a laptop some minutes."""
    from tillerman.pipeline.experiment import Experiment

    return Experiment(
        method=method,
        seed=seed,
        max_train=300,
        max_validation=100,
        doses=(0.05, 0.1, 0.2, 0.3, 0.4),
        layers=(2, 3, 4, 5),
        read="usual",
        neutral="sample:tinystories",
        neutral_tokens=2048,
        unrelated_items=60,
    )


def writing_experiment(method: str = "auto", seed: int = 0) -> Experiment:
    """The search goes by what the model writes; there is little neutral text, so that seven behaviours take minutes."""
    from tillerman.pipeline.experiment import Experiment

    return Experiment(
        method=method,
        seed=seed,
        objective="written",
        null_draws=4,
        neutral_tokens=1024,
        unrelated_items=24,
        written_tokens=32,
        generations=(),
    )


def programme(model: str = PILOT, method: str | None = None, seed: int = 0) -> Programme:
    """Personas on the pilot, which was trained on some; ways of writing, which any model may show, elsewhere."""
    from tillerman.data.samples import WAYS_OF_WRITING

    if model == PILOT:
        return Programme(BEHAVIOURS, demo_experiment(method or "pas", seed))
    return Programme(WAYS_OF_WRITING, writing_experiment(method or "auto", seed))


def run_demo(out: Path, shown: Programme, console: Console, model: o.ModelChoice = _PILOT) -> list[EvaluationLog]:
    """Fit every behaviour and write its artefact into ``out``. A behaviour that cannot be fitted is said and left out;
    an error only if none can."""
    from tillerman.core.artefact import save
    from tillerman.core.errors import FitError
    from tillerman.data.loading import load_examples
    from tillerman.pipeline.flow import fit

    make_folder(out)
    opened = model.open()
    logs, refused = [], None
    for name in shown.behaviours:
        console.print(name, style="bold")
        try:
            outcome = fit(shown.experiment, opened, load_examples(f"sample:{name}"), watch=watch(console))
        except FitError as error:
            console.print(f"{name} left out: {error}", soft_wrap=True)
            refused = error
            continue
        save(out / f"{name}.safetensors", outcome.artefact)
        logs.append(outcome.log)
    if not logs and refused is not None:
        raise refused
    return logs


def write_demo(logs: Sequence[EvaluationLog], out: Path) -> None:
    """Logs and one report page."""
    from tillerman.core.files import write_text
    from tillerman.reports.pages import render_demo_page

    write_text(out / "log.json", json.dumps([log.to_json() for log in logs]))
    write_text(out / "report.html", render_demo_page(logs))
