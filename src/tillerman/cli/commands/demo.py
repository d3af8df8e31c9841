"""``tillerman demo``: the main job on the embedded model and data, small enough for a laptop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tillerman.cli import options as o
from tillerman.cli.output import ERR, OUT, print_json, show_account, watch
from tillerman.core.files import in_turn, make_folder

if TYPE_CHECKING:
    from tillerman.logs.evaluation import EvaluationLog
    from tillerman.pipeline.experiment import Experiment

# Three personas the pilot was trained on (never on these test items) and two it never saw.
BEHAVIOURS = (
    "interest-in-science",
    "conscientiousness",
    "risk-seeking",
    "interest-in-literature",
    "low-discount-rate",
)


def demo(
    out: Annotated[Path, typer.Option(help="folder for report, artefacts and logs")] = Path("demo"),
    method: Annotated[str, typer.Option(help="pas, auto, or any method")] = "pas",
    seed: Annotated[int, typer.Option(min=0, help="random seed of split, option order and nulls")] = 0,
    as_json: o.Json = False,
) -> None:
    """Run the whole job on the embedded model: five behaviours, with controls."""
    from tillerman.reports.overview import account
    from tillerman.reports.summary import summary

    logs = run_demo(out, method, ERR, seed)
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


def run_demo(out: Path, method: str, console: Console, seed: int = 0) -> list[EvaluationLog]:
    """Fit every behaviour and write its artefact into ``out``."""
    from tillerman.core.artefact import save
    from tillerman.data.loading import load_examples
    from tillerman.models.opened import PILOT, open_model
    from tillerman.pipeline.flow import fit

    make_folder(out)
    opened = open_model(PILOT)
    experiment = demo_experiment(method, seed)
    logs = []
    for name in BEHAVIOURS:
        console.print(name, style="bold")
        outcome = fit(experiment, opened, load_examples(f"sample:{name}"), watch=watch(console))
        save(out / f"{name}.safetensors", outcome.artefact)
        logs.append(outcome.log)
    return logs


def write_demo(logs: Sequence[EvaluationLog], out: Path) -> None:
    """Logs and one report page."""
    from tillerman.core.files import write_text
    from tillerman.reports.pages import render_demo_page

    write_text(out / "log.json", json.dumps([log.to_json() for log in logs]))
    write_text(out / "report.html", render_demo_page(logs))
