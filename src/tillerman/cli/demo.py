"""``tillerman demo``: the main job on the embedded model and data, small enough for a laptop."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from tillerman.cli.watch import BarWatch
from tillerman.core.artefact import save
from tillerman.core.files import write_text
from tillerman.data.loading import load_examples
from tillerman.logs.evaluation import EvaluationLog
from tillerman.models.opened import PILOT, open_model
from tillerman.pipeline.experiment import Experiment
from tillerman.pipeline.flow import fit
from tillerman.reports.pages import render_demo_page

# Three personas the pilot was trained on (never on these test items) and two it never saw.
BEHAVIOURS = (
    "interest-in-science",
    "conscientiousness",
    "risk-seeking",
    "interest-in-literature",
    "low-discount-rate",
)
EXPERIMENT = Experiment(
    max_train=300,
    max_validation=100,
    doses=(0.05, 0.1, 0.2, 0.3, 0.4),
    layers=(2, 3, 4, 5),
    neutral="sample:tinystories",
    neutral_tokens=2048,
    unrelated_items=60,
)


def run_demo(out: Path, method: str, console: Console) -> list[EvaluationLog]:
    """Fit every behaviour; write artefacts, logs and one report page into ``out``."""
    from dataclasses import replace

    out.mkdir(parents=True, exist_ok=True)
    opened = open_model(PILOT)
    experiment = replace(EXPERIMENT, method=method)
    logs = []
    for name in BEHAVIOURS:
        console.print(f"[bold]{name}[/bold]")
        outcome = fit(experiment, opened, load_examples(f"sample:{name}"), watch=BarWatch(console))
        save(out / f"{name}.safetensors", outcome.artefact)
        logs.append(outcome.log)
    write_text(out / "log.json", json.dumps([log.to_json() for log in logs]))
    write_text(out / "report.html", render_demo_page(logs))
    return logs
