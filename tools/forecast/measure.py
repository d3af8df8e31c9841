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
from tillerman.core.errors import TillermanError
from tillerman.core.plan import Plan
from tillerman.core.store import Store
from tillerman.data.samples import SAMPLES
from tillerman.evaluation.answered import Answered
from tillerman.evaluation.bias import AnswerClasses, answer_classes
from tillerman.models.opened import OpenModel
from tillerman.pipeline.effect_forecast import forecast_of
from tillerman.pipeline.run import Run, Unwatched
from tillerman.pipeline.search import Choice, choose, null_vectors
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.side_effects import make_meter
from tillerman.pipeline.vectors import fit_readings
from tillerman.statistics import detection
from tillerman.statistics.estimates import effect, mean_effect

LIMIT = 200
DEPTHS = (0.33, 0.53, 0.73)
DOSES = {"gemma3": (0.01, 0.02, 0.04, 0.08)}  # at 0.1 it says one word to all
USUAL_DOSES = (0.05, 0.1, 0.2, 0.4)
FIXED = (0.53, -2)  # depth and which of the doses: the cell that is the same for all
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
        layers=tuple(round(layers * share) for share in DEPTHS),
        doses=DOSES.get(model, USUAL_DOSES),
        grid="full",
        zero=False,
        null_draws=DRAWS,
        neutral_tokens=256,
        together="no",
    )


def measure(model: str, opened: OpenModel, behaviour: str, data: str) -> Measured:
    """The forecast of all layers, as ``check`` makes it; then the fit."""
    asked, began = experiment(model, len(opened.parts.blocks)), time.process_time()
    bare = Measured(model, behaviour, "", (0, 0, 0), 0.0, 0.0, 0.0, None, None, None)
    try:
        loaded = tillerman.load_examples(data, limit=LIMIT)
        run = set_up(asked, opened, loaded, Store(None, ""), Unwatched())
        forecast = forecast_of(replace(run, experiment=replace(asked, layers=None)))
        foretold = time.process_time() - began
        classes = answer_classes(run.test.items)
        if classes is None:
            raise TillermanError("its answers have nothing in common that log-odds could be of")
        (plain,) = run.test.answered_under([()], run.store)
        sizes = (len(run.train.items), len(run.validation.items), len(run.test.items))
        return Measured(
            model,
            behaviour,
            run.kind,
            sizes,
            time.process_time() - began,
            foretold,
            float(plain.right.mean()),
            detection.auc(classes.logs(plain.scores), classes.right),
            forecast,
            _outcome(run, choose(run, make_meter(run)), classes, plain),
        )
    except TillermanError as error:
        return replace(bare, refused=str(error), cpu_seconds=time.process_time() - began)


def _outcome(run: Run, choice: Choice, classes: AnswerClasses, plain: Answered) -> Outcome:
    """Everything that is asked of the test items, in one go."""
    cell, vector = choice.cell, choice.fitted.vector
    nulls = {name: null_vectors(run, name, choice) for name in ("random", "shuffled")}
    plans = [cell.scaled(factor).plan(vector) for factor in CURVE]
    plans.append(_fixed(run))
    plans += [cell.for_draw(draw).plan(draw) for draws in nulls.values() for draw in draws]
    answered = run.test.answered_under(plans, run.store)

    def odds(one: Answered) -> np.ndarray:
        return detection.odds(classes.logs(one.scores), classes.right)

    before, rows = odds(plain), [odds(one) for one in answered]
    after, slopes = rows[CURVE.index(1.0)], _slopes(cell.dose(vector), before, rows[: len(CURVE)])
    means = iter([float((row - before).mean()) for row in rows[len(CURVE) + 1 :]])
    return Outcome(
        str(cell.points[0]),
        choice.readings.get(choice.chosen.candidate.method, ("", run.read))[1],
        cell.dose(vector),
        mean_effect(after, before),
        effect(answered[CURVE.index(1.0)].right, plain.right, run.test.groups),
        float((after < before).mean()),
        float(slopes.mean()),
        float((slopes < 0).mean()),
        mean_effect(rows[len(CURVE)], before),
        {name: tuple(next(means) for _ in draws) for name, draws in nulls.items()},
    )


def _fixed(run: Run) -> Plan:
    """The vector read as the mean, added in the middle of the model at a dose of its own."""
    depth, which = FIXED
    vector = fit_readings(run, ("mean",)).fitted[str(run.experiment.methods[0])].vector
    point = next(p for p in run.points() if p.layer == round(len(run.opened.parts.blocks) * depth))
    cell = Cell((point,), 1.0, "add", run.scope(vector.provenance.method))
    return cell.at_dose((run.experiment.doses or ())[which], vector).plan(vector)


def _slopes(dose: float, before: np.ndarray, rows: list[np.ndarray]) -> np.ndarray:
    doses = dose * np.array([*CURVE, 0.0])
    return detection.slopes(doses, np.array([*rows, before]))


if __name__ == "__main__":
    main()
