"""Steering towards what a group of people answers: OpinionsQA, before and after, on questions held out.

    python benchmarks/pluralistic.py --data ../shared/data/opinions_qa

The loss is the cross-entropy to the group's answer shares (COLD-Steer, arXiv 2603.06495, section 5). Of every
wave's questions 70 % are for the fit, a fifth of these to choose hook point and dose, 30 % for the test, by a hash
of the question. Lower is better: total variation ``1/2 sum |p - q|`` and ``KL(people || model)`` in nats, over the
options of each question, "Refused" left out. Two controls: the same chance for every option, and random directions
at the chosen cell. The embedded pilot knows nothing of these questions.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

import tillerman
from tillerman.core.plan import Intervention, Plan, Scope
from tillerman.core.steerings.base import Steering
from tillerman.data.prompts import LETTERS, choice_text
from tillerman.data.writing import make_writer
from tillerman.methods.base import Context
from tillerman.methods.cold import ColdFd, ColdKernel
from tillerman.models.gradients import Taught
from tillerman.models.logits import option_logprobs
from tillerman.models.opened import OpenModel

GROUPS = {"POLPARTY": ("Democrat", "Republican"), "AGE": ("18-29", "65+")}
DOSES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75)
METHODS = {"cold-kernel": ColdKernel(loss="shares"), "cold-fd": ColdFd(loss="shares")}
DRAWS = 4


@dataclass(frozen=True)
class Asked:
    """A question as the model gets it, with the shares of a group; ``part`` is fit, choose or test."""

    taught: Taught
    part: str


def read(opened: OpenModel, folder: Path, attribute: str, group: str) -> list[Asked]:
    """The questions of all waves that this group answered."""
    writer, found = make_writer(opened.tokenizer), {}
    for file in sorted(folder.glob(f"American_Trends_Panel_*/{attribute}_data.json")):
        for entry in json.loads(file.read_text(encoding="utf-8")).values():
            options = [o for o in entry["MC_options"] if o != "Refused"]
            counts = [float(entry.get(group, {}).get(o, 0.0)) for o in options]
            if sum(counts) > 0 and 2 <= len(options) <= len(LETTERS):
                prompt = writer.encode(writer.prompt_text(choice_text(entry["question_text"], options)))
                letters = tuple(writer.encode(letter)[:1] for letter in LETTERS[: len(options)])
                shares = tuple(c / sum(counts) for c in counts)
                found[entry["question_text"]] = Asked(Taught(prompt, letters, shares), _part(entry["question_text"]))
    longest = opened.context or 10**9
    return [asked for asked in found.values() if len(asked.taught.prompt) < longest]


def _part(question: str) -> str:
    drawn = int(hashlib.blake2b(question.encode(), digest_size=4).hexdigest(), 16) / 2**32
    return "test" if drawn < 0.3 else "choose" if drawn < 0.44 else "fit"


def distances(opened: OpenModel, asked: list[Taught], plan: Plan) -> tuple[float, float]:
    """Mean total variation and KL(people || model) under a plan."""
    options = [[answer[0] for answer in t.answers] for t in asked]
    with tillerman.steer(opened.model, plan) if plan else nullcontext():
        said = option_logprobs(opened, [t.prompt for t in asked], options)
    return _mean_distances(asked, [row.double().log_softmax(0) for row in said])


def _mean_distances(asked: list[Taught], said: list[torch.Tensor]) -> tuple[float, float]:
    variation, divergence = [], []
    for t, logprobs in zip(asked, said, strict=True):
        people = torch.tensor(t.target, dtype=torch.float64)
        variation.append(float((people - logprobs.exp()).abs().sum()) / 2)
        some = people > 0
        divergence.append(float((people[some] * (people[some].log() - logprobs[some])).sum()))
    return sum(variation) / len(asked), sum(divergence) / len(asked)


def plan_of(steering: Steering, layer: int, dose: float) -> Plan:
    """On all tokens of the prompt, as the paper has it."""
    point = steering.points[layer]
    return (Intervention(steering.at(point), steering.strength(point, dose), scope=Scope("prompt")),)


def run(opened: OpenModel, asked: list[Asked], method: str, layers: list[int]) -> dict[str, tuple[float, float]]:
    parts = {part: [a.taught for a in asked if a.part == part] for part in ("fit", "choose", "test")}
    points = tuple(opened.points()[i] for i in layers)
    made = tillerman.Provenance(
        opened.id,
        opened.fingerprint,
        opened.parts.width,
        opened.layers,
        opened.tokenizer_hash,
        opened.template_hash,
        "auto",
        method,
    )
    context = Context(opened, (), (), make_writer(opened.tokenizer), points, made)
    steering = METHODS[method].fit_taught(context, parts["fit"])
    cells = [(i, dose) for i in range(len(points)) for dose in DOSES]
    best = min(cells, key=lambda cell: distances(opened, parts["choose"], plan_of(steering, *cell))[1])
    nulls = [distances(opened, parts["test"], plan_of(steering.random_like(k), *best)) for k in range(DRAWS)]
    even = [torch.full((len(t.answers),), 1 / len(t.answers)).double().log() for t in parts["test"]]
    return {
        "before": distances(opened, parts["test"], ()),
        "after": distances(opened, parts["test"], plan_of(steering, *best)),
        "random": (sum(n[0] for n in nulls) / DRAWS, sum(n[1] for n in nulls) / DRAWS),
        "even": _mean_distances(parts["test"], even),
        "cell": (float(points[best[0]].layer), best[1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="pilot")
    parser.add_argument("--layers", default="1,3,5")
    parser.add_argument("--method", choices=METHODS, action="append")
    args = parser.parse_args()
    opened = tillerman.open_model(args.model)
    layers = [int(layer) for layer in args.layers.split(",")]
    print(
        "| group | method | fit, choose, test | TV before, after | KL before, after | random at that cell, TV, KL | "
        "all options alike, TV, KL | layer, dose |\n" + "|---" * 8 + "|"
    )
    for attribute, groups in GROUPS.items():
        for group in groups:
            asked = read(opened, args.data, attribute, group)
            if not asked:
                raise SystemExit(f"{args.data}: no question answered by {attribute} {group}")
            sizes = ", ".join(str(sum(a.part == part for a in asked)) for part in ("fit", "choose", "test"))
            for method in args.method or METHODS:
                r = run(opened, asked, method, layers)
                print(
                    f"| {group} | {method} | {sizes} | {r['before'][0]:.3f}, {r['after'][0]:.3f} "
                    f"| {r['before'][1]:.3f}, {r['after'][1]:.3f} | {r['random'][0]:.3f}, {r['random'][1]:.3f} "
                    f"| {r['even'][0]:.3f}, {r['even'][1]:.3f} | {r['cell'][0]:.0f}, {r['cell'][1]:g} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
