"""Measure how well the figures of ``tillerman check --model`` foretell what a vector does.

    python tools/forecast/measure.py OUT --model smollm2=FOLDER --data FOLDER [--minutes 60] [--behaviours pirate]

OUT gets one file for each model and behaviour; what lies there is not measured again, so that an interrupted run goes
on. Behaviours are the embedded samples with wanted answers and the files of every ``--data`` (a folder of them, or a
file; one called generate_dataset is named after its folder), in an order drawn by hash: what is measured before the
time is over is no selection. ``python tools/forecast/page.py --add OUT`` takes the files into the repository.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from measured import Measured, Outcome, path_of, write

import tillerman
from tillerman.core.cell import Cell
from tillerman.core.errors import FitError, TillermanError
from tillerman.core.plan import Plan
from tillerman.core.steerings.base import Steering
from tillerman.core.store import Store
from tillerman.data.samples import SAMPLES
from tillerman.evaluation.answered import Answered
from tillerman.evaluation.bias import AnswerClasses, answer_classes
from tillerman.methods.base import Fitted
from tillerman.models.opened import OpenModel
from tillerman.pipeline.effect_forecast import forecast_of
from tillerman.pipeline.run import Run, Unwatched
from tillerman.pipeline.search import candidates
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.vectors import fit_readings
from tillerman.statistics import detection
from tillerman.statistics.estimates import effect, mean_effect

LIMIT = 100
DEPTHS = (0.33, 0.53, 0.73)
DOSES = {
    "gemma3": (0.01, 0.02, 0.04),  # at 0.1 it says one word to all
    "pilot": (0.1, 0.25, 0.5),
}
USUAL_DOSES = (0.05, 0.1, 0.2)  # so small that no budget is needed
FIXED = (0.53, -1)  # depth and which of the doses: the cell that is the same for all
CURVE = (-1.0, -0.5, 0.5, 1.0)
DRAWS = 4  # of each null
OTHERS = ("mmlu", "sums", "thoughts", "tinystories", "wikitext")  # samples that are no behaviour
GENERIC = ("generate_dataset", "test_dataset_ab")  # names of files that say nothing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", required=True, metavar="NAME=MODEL")
    parser.add_argument("--data", type=Path, action="append", default=[], metavar="FOLDER")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--minutes", type=float, help="begin nothing after so many minutes")
    parser.add_argument("--behaviours", help="names with commas; all if none is named")
    given = parser.parse_args()
    torch.set_num_threads(1)
    name, _, source = given.model.partition("=")
    opened = tillerman.open_model(source, dtype=getattr(torch, given.dtype))
    given.out.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + 60 * (given.minutes or float("inf"))
    for behaviour, data in behaviours(given.data, given.behaviours).items():
        if time.monotonic() > ends:
            sys.exit("the time is over; the same command goes on from here")
        if path_of(given.out, (name, behaviour)).exists():
            continue
        one = measure(name, opened, behaviour, data)
        write(given.out, one)
        told = one.refused or (one.outcome and f"{one.outcome.change.value:+.2f} nats")
        print(f"{behaviour}: {one.cpu_seconds:.0f} CPU s, {told}", flush=True)


def behaviours(folders: list[Path], asked: str | None = None) -> dict[str, str]:
    """Name and data of each, in the order in which they are measured. A file goes before a sample of its name."""
    found = {name: f"sample:{name}" for name in SAMPLES if name not in OTHERS}
    for folder in folders:
        paths = sorted(p for p in folder.rglob("*.json*") if p.is_file()) if folder.is_dir() else [folder]
        for path in paths:
            stem = path.name.split(".")[0]
            found[path.parent.name if stem in GENERIC else stem] = str(path)
    names = asked.split(",") if asked else sorted(found, key=lambda one: hashlib.blake2b(one.encode()).digest())
    unknown = [name for name in names if name not in found]
    if unknown:
        sys.exit(f"no behaviour named {unknown[0]!r}; known: {', '.join(sorted(found))}")
    return {name: found[name] for name in names}


def experiment(model: str, layers: int) -> tillerman.Experiment:
    return tillerman.Experiment(
        method="caa",
        shares=(0.4, 0.2, 0.4),
        read="mean",
        layers=tuple(round(layers * share) for share in DEPTHS),
        doses=DOSES.get(model, USUAL_DOSES),
        null_draws=DRAWS,
    )


def measure(model: str, opened: OpenModel, behaviour: str, data: str) -> Measured:
    """The forecast of all layers, as ``check`` makes it; then the vector."""
    asked, began = experiment(model, len(opened.parts.blocks)), time.process_time()
    bare = Measured(model, behaviour, "", (0, 0, 0), 0.0, 0.0, 0.0, None, None, None)
    try:
        loaded = tillerman.load_examples(data, limit=LIMIT)
        run = set_up(asked, opened, loaded, Store(None, ""), Unwatched())
        shares = (run.train.items, run.validation.items, run.test.items)
        classes = answer_classes(run.test.items)
        if classes is None:
            raise FitError("its answers have nothing in common that log-odds could be of")
        forecast = forecast_of(replace(run, experiment=replace(asked, layers=None)))
        foretold = time.process_time() - began
        plain, outcome = _outcome(run, classes)
        return replace(
            bare,
            kind=run.kind,
            items=tuple(map(len, shares)),
            forecast_seconds=foretold,
            unsteered=float(plain.right.mean()),
            unsteered_auc=detection.auc(classes.logs(plain.scores), classes.right),
            forecast=forecast,
            outcome=outcome,
            cpu_seconds=time.process_time() - began,
        )
    except TillermanError as error:
        return replace(bare, refused=str(error), cpu_seconds=time.process_time() - began)


def _outcome(run: Run, classes: AnswerClasses) -> tuple[Answered, Outcome]:
    """What is answered unsteered, and what a vector does: everything is asked of the test items in one go."""
    (fitted,) = fit_readings(run, run.readings).fitted.values()
    vector, cell = fitted.vector, _chosen(run, fitted)
    nulls = {
        "random": [fitted.random(seed) for seed in run.experiment.null_seeds],
        "shuffled": [fitted.shuffled(seed) for seed in run.experiment.null_seeds],
    }
    plans: list[Plan] = [(), *(cell.scaled(factor).plan(vector) for factor in CURVE), _fixed(run, vector)]
    plans += [cell.for_draw(draw).plan(draw) for draws in nulls.values() for draw in draws]
    answered = run.test.answered_under(plans, run.store)
    before, *rows = [detection.odds(classes.logs(one.scores), classes.right) for one in answered]
    curve, fixed, draws = rows[: len(CURVE)], rows[len(CURVE)], iter(rows[len(CURVE) + 1 :])
    after, doses = curve[CURVE.index(1.0)], cell.dose(vector) * np.array([0.0, *CURVE])
    slopes = detection.slopes(doses, np.array([before, *curve]))
    outcome = Outcome(
        str(cell.points[0]),
        cell.dose(vector),
        mean_effect(after, before),
        effect(answered[1 + CURVE.index(1.0)].right, answered[0].right, run.test.groups),
        float((after < before).mean()),
        float(slopes.mean()),
        float((slopes < 0).mean()),
        mean_effect(fixed, before),
        {name: tuple(float((next(draws) - before).mean()) for _ in made) for name, made in nulls.items()},
    )
    return answered[0], outcome


def _chosen(run: Run, fitted: Fitted) -> Cell:
    """That under which the validation items' right answers have the highest log-odds: accuracy has many ties where
    little moves."""
    cells = [one.cell for one in candidates(run, "caa", fitted, zero=False)]
    exam, classes = run.validation, answer_classes(run.validation.items)
    if classes is None:
        raise FitError("the answers of the validation items have nothing in common")
    scores = exam.scores_under([cell.plan(fitted.vector) for cell in cells], run.store)
    means = [float(detection.odds(classes.logs(one), classes.right).mean()) for one in scores]
    return cells[int(np.argmax(means))]


def _fixed(run: Run, vector: Steering) -> Plan:
    """The same place and dose for every behaviour."""
    depth, which = FIXED
    layer = round(len(run.opened.parts.blocks) * depth)
    cell = Cell(
        (next(p for p in run.points() if p.layer == layer),), 1.0, "add", run.scope(str(run.experiment.methods[0]))
    )
    return cell.at_dose((run.experiment.doses or ())[which], vector).plan(vector)


if __name__ == "__main__":
    main()
