"""Where to read, from where to steer, at which layers and how strongly: what validation rows say of it, behaviour by
behaviour, at equal cost.

    python tools/real_models/sweep.py OUT.jsonl --model smollm2=FOLDER [--behaviours pirate,extraversion]

Method ``caa``. A setting is a reading, a scope, a place (a layer, or the middle layers together) and a share of the
budget that its dose is to spend, so that settings cost the same on all behaviours. Ways of writing are judged by the
replies to validation prompts, personas by the log-odds of validation items. A line of OUT holds a behaviour; those that
lie there are not run again. ``page.py`` makes the table of learned defaults of ``benchmarks/real_models/sweep.jsonl``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from behaviours import ANSWERED, BEHAVIOURS, LIMITS, WRITTEN, Behaviour

import tillerman
from tillerman.core.cell import Cell
from tillerman.core.plan import Plan
from tillerman.core.store import Store
from tillerman.data.marked_scopes import make_scope
from tillerman.evaluation.grid import scores_under
from tillerman.evaluation.side_effects import drift_over
from tillerman.methods.base import Fitted
from tillerman.models.opened import OpenModel
from tillerman.pipeline.costs import Costs
from tillerman.pipeline.dose_finding import SHARES, Points, doses_by_cost, parts_of
from tillerman.pipeline.run import Run, Unwatched
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.side_effects import make_meter
from tillerman.pipeline.together import TOGETHER, with_layers_together
from tillerman.pipeline.vectors import AS, fit_readings
from tillerman.pipeline.written import prompts_of, repeated, replies_to, scorer_of_labels, values_of

READS, SCOPES, DEPTHS = ("mean", "last", "end"), ("after_instruction", "all"), (0.33, 0.53, 0.73)
ANSWERED_HERE = replace(ANSWERED, shares=(0.3, 0.5, 0.2), max_validation=100, max_kl=0.1, max_perplexity_ratio=1.2)
BARE_SCOPES = ("last", "all")  # of a model without a chat template, whose prompts have no instruction
PROMPTS, TOKENS = 6, 24  # that each setting of a way of writing answers, and how long
MIDDLE = "middle"  # the layers together


@dataclass(frozen=True)
class Setting:
    """``place``: the layer as a share of the depth, or ``middle``. ``share``: of the budget that a dose is to
    spend; in the committed lines of the dose that spends all of it. Either way the larger is the larger dose."""

    read: str
    scope: str
    place: str
    share: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", required=True, metavar="NAME=MODEL")
    parser.add_argument("--behaviours", default=",".join(BEHAVIOURS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    name, _, source = given.model.partition("=")
    opened = tillerman.open_model(source, dtype=torch.bfloat16)
    for behaviour in given.behaviours.split(","):
        lines = given.out.read_text(encoding="utf-8").splitlines() if given.out.exists() else []
        if (name, behaviour) in {(row["model"], row["behaviour"]) for row in map(json.loads, lines)}:
            continue
        row = {"model": name, "behaviour": behaviour} | sweep(opened, BEHAVIOURS[behaviour])
        with given.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{name}, {behaviour}: {len(row['settings'])} settings", flush=True)


def sweep(opened: OpenModel, behaviour: Behaviour) -> dict[str, object]:
    base = WRITTEN if behaviour.kind == "written" else ANSWERED_HERE
    layers = sorted({round(len(opened.parts.blocks) * depth) for depth in (*DEPTHS, 0.2, 0.4, 0.6, 0.8)})
    reads = [read for read in READS if read != "end" or opened.tokenizer.chat_template]  # where turns are closed
    asked = replace(base, method="caa", read=",".join(reads), doses=None, together="auto", layers=tuple(layers))
    asked = replace(asked, objective="written")  # layers together, too, whatever is counted here
    data = tillerman.load_examples(behaviour.data, limit=2 * (LIMITS[behaviour.kind] or 30))
    run = set_up(asked, opened, data, Store(None, ""), Unwatched())
    costs = Costs(run, make_meter(run))
    cells = dict(settings(run, costs, len(opened.parts.blocks)))
    judge = _of_replies if behaviour.kind == "written" else _of_answers
    unsteered, *scores = judge(run, [(), *(plan for plan, _ in cells.values())])
    spent = _spent(costs, cells)
    found = [
        {"read": s.read, "scope": s.scope, "place": s.place, "share": s.share, "dose": dose, "score": round(score, 4)}
        | spent[replace(s, scope="all")]
        for (s, (_, dose)), score in zip(cells.items(), scores, strict=True)
    ]
    return {"unsteered": round(unsteered, 4), "settings": found}


def _spent(costs: Costs, cells: dict[Setting, tuple[Plan, float]]) -> dict[Setting, dict[str, float]]:
    """What a setting costs on the whole of the neutral text, every token of which is steered whatever the scope: the
    dose was found on its first window."""
    every = {setting: plan for setting, (plan, _) in cells.items() if setting.scope == "all"}
    found = costs.together(list(every.values()), costs.batches)
    drifts = [drift_over([one]) for one in found]
    return {
        setting: {"kl": round(drift.kl, 4), "perplexity_ratio": round(drift.perplexity_ratio, 4)}
        for setting, drift in zip(every, drifts, strict=True)
    }


def settings(run: Run, costs: Costs, deep: int) -> Iterator[tuple[Setting, tuple[Plan, float]]]:
    """Every setting's plan and the dose at each of its layers."""
    fitted = with_layers_together(run, fit_readings(run, run.readings)).fitted
    for name, places in doses_by_cost(costs, fitted, run.experiment.constraints).items():
        one, read = fitted[name], name.removesuffix(TOGETHER).partition(AS)[2] or READS[0]
        for points, doses in places.items():
            place = MIDDLE if len(points) > 1 else _depth(points[0].layer, deep)
            if place is None:
                continue
            for share, dose in zip(SHARES, doses, strict=True):
                for scope in SCOPES if run.opened.tokenizer.chat_template else BARE_SCOPES:
                    cell = _cell(run, one, points, dose, scope)
                    yield Setting(read, scope, place, share), (cell.plan(one.vector), dose / parts_of(one, points))


def _depth(layer: int, deep: int) -> str | None:
    return next((f"{depth:.2f}" for depth in DEPTHS if round(deep * depth) == layer), None)


def _cell(run: Run, one: Fitted, points: Points, dose: float, scope: str) -> Cell:
    cell = Cell(points, 1.0, one.vector.operator, make_scope(run.opened.tokenizer, scope))
    return cell.at_dose(dose / parts_of(one, points), one.vector)


def _of_replies(run: Run, plans: Sequence[Plan]) -> list[float]:
    """The mean score of validation replies, each as far as it is no loop."""
    scorer, _ = scorer_of_labels(run, run.validation)
    assert scorer is not None
    asked = prompts_of(run, run.validation)
    said = replies_to(
        run,
        replace(asked, items=asked.items[:PROMPTS], written=asked.written[:PROMPTS], limit=TOKENS),
        plans,
        "of every setting",
    )
    return [
        float(
            np.mean(
                [
                    (v or 0.0) * (1 - (again or 0.0))
                    for v, again in zip(values_of(scorer, of), repeated(of), strict=True)
                ]
            )
        )
        for of in said
    ]


def _of_answers(run: Run, plans: Sequence[Plan]) -> list[float]:
    """The mean log-odds of the right answer against all others, in nats: a small model has one word for nearly every
    item, so that its right answers do not change where their odds do. As many items want either word, so that a lean
    to one of them moves no mean."""
    exam, rows = run.validation, []
    for of in scores_under(run.opened, exam.written, list(plans), store=run.store):
        odds = [scores[i.right] - _total(scores, i.right) for scores, i in zip(of, exam.items, strict=True)]
        rows.append(
            float(
                np.mean(
                    [
                        np.mean([o for o, g in zip(odds, exam.groups, strict=True) if g == group])
                        for group in sorted(set(exam.groups))
                    ]
                )
            )
        )
    return rows


def _total(scores: Sequence[float], right: int) -> float:
    """The log of the summed probability of all answers but one."""
    return float(np.logaddexp.reduce([score for k, score in enumerate(scores) if k != right]))


if __name__ == "__main__":
    main()
