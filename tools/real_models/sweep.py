"""Where to read, from where to steer, at which layers and doses: what replies to validation prompts say of it.

    python tools/real_models/sweep.py OUT.jsonl --model smollm2=FOLDER [--behaviours gloomy] [--layers 10,16,22]

Every cell of ``caa`` answers the same four validation prompts; a line of OUT holds one cell. Cells that lie there are
not run again. ``page.py`` makes the table of learned defaults from ``benchmarks/real_models/sweep.jsonl``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from behaviours import BEHAVIOURS

import tillerman
from tillerman.core.store import Store
from tillerman.data.marked_scopes import make_scope
from tillerman.data.thoughts import Reply
from tillerman.evaluation.exam import Exam
from tillerman.evaluation.perplexity import perplexity_of
from tillerman.evaluation.scorers.labels import LabelScorer
from tillerman.evaluation.side_effects import drift_over
from tillerman.models.opened import OpenModel
from tillerman.pipeline.costs import Costs
from tillerman.pipeline.run import Run, Unwatched
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.side_effects import make_meter
from tillerman.pipeline.vectors import fit_readings
from tillerman.pipeline.written import prompts_of, repeated, replies_to, scorer_of_labels, shows, values_of

LOOKED = 3  # batches of neutral text, eight of its windows
READS, SCOPES, DOSES, PROMPTS = ("mean", "last", "end"), ("after_instruction", "all"), (0.25, 0.4), 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", required=True, metavar="NAME=MODEL")
    parser.add_argument("--behaviours", default="pirate,gloomy,courteous")
    parser.add_argument("--layers", default="10,16,22")
    parser.add_argument("--reads", default=",".join(READS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    name, _, source = given.model.partition("=")
    opened = tillerman.open_model(source, dtype=torch.bfloat16)
    layers = tuple(map(int, given.layers.split(",")))
    for behaviour in given.behaviours.split(","):
        for read in given.reads.split(","):
            sweep(given.out, name, opened, behaviour, read, layers)


def sweep(out: Path, model: str, opened: OpenModel, behaviour: str, read: str, layers: Sequence[int]) -> None:
    """One reading of a behaviour: all scopes, layers and doses in one go."""
    lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    known = {(row["model"], row["behaviour"], row["read"], row["layer"]) for row in map(json.loads, lines)}
    left = tuple(layer for layer in layers if (model, behaviour, read, layer) not in known)
    if not left:
        return
    asked = tillerman.Experiment(method="caa", read=read, layers=left, written_prompts=PROMPTS, written_tokens=32)
    data = tillerman.load_examples(BEHAVIOURS[behaviour].data)
    run = set_up(asked, opened, data, Store(None, ""), Unwatched())
    scorer, _ = scorer_of_labels(run, run.validation)
    assert scorer is not None
    (fitted,) = fit_readings(run, (read,)).fitted.values()
    prompts, costs = prompts_of(run, run.validation), Costs(run, make_meter(run))
    cells = [
        (scope, point.layer, dose, cell.at_dose(dose, fitted.vector).plan(fitted.vector))
        for scope in SCOPES
        for point in fitted.vector.points
        for dose in DOSES
        for cell in [tillerman.Cell((point,), 1.0, "add", make_scope(opened.tokenizer, scope))]
    ]
    said = replies_to(run, prompts, [(), *(plan for *_, plan in cells)], "of every cell")
    looked = min(LOOKED, costs.batches)
    drifts = {
        (layer, dose): drift_over([costs.first(plan, looked)]).kl
        for scope, layer, dose, plan in cells
        if scope == "all"
    }
    rows = [
        {"scope": scope, "layer": layer, "dose": dose, "kl": drifts[layer, dose]}
        | figures(run, prompts, scorer, replies)
        for (scope, layer, dose, _), replies in zip(cells, said[1:], strict=True)
    ]
    plain = figures(run, prompts, scorer, said[0])
    with out.open("a", encoding="utf-8") as file:
        for row in rows:
            file.write(
                json.dumps({"model": model, "behaviour": behaviour, "read": read, "unsteered": plain} | row) + "\n"
            )


def figures(run: Run, prompts: Exam, scorer: LabelScorer, said: Sequence[Reply]) -> dict[str, object]:
    texts = [(written.prompt, reply.tokens) for written, reply in zip(prompts.written, said, strict=True)]
    return {
        "score": round(float(np.mean([value or 0.0 for value in values_of(scorer, said)])), 4),
        "repeated": round(float(np.mean([value or 0.0 for value in repeated(said)])), 4),
        "shown": float(np.mean(shows(scorer, said))),
        "perplexity": round(perplexity_of(run.opened, texts) or 0.0, 3),
        "text": (said[0].answer or "")[:160],
    }


if __name__ == "__main__":
    main()
