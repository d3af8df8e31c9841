"""Step ``shares``: towards the answers of a group of people (OpinionsQA), on questions held out.

The loss is the cross-entropy to the group's answer shares (COLD-Steer, arXiv 2603.06495, section 5). Distances are
total variation ``1/2 sum |p - q|`` and ``KL(people || model)`` over the options, "Refused" left out, zero shares
skipped; lower is better.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tillerman.core.cell import Cell
from tillerman.core.errors import DataError
from tillerman.core.hookpoint import HookPoint, named
from tillerman.core.plan import Plan, Scope
from tillerman.core.provenance import Provenance
from tillerman.core.steerings.base import Steering
from tillerman.core.store import Store
from tillerman.data.prompts import LETTERS, choice_text
from tillerman.data.splits import hash_fraction
from tillerman.data.writing import make_writer
from tillerman.logs.reproduction import Measured, Piece
from tillerman.methods.base import Context
from tillerman.methods.cold import ColdFd, ColdJvp, ColdKernel
from tillerman.models.gradients import Taught
from tillerman.models.logits import option_logprobs
from tillerman.models.opened import OpenModel
from tillerman.recipes.steps.work import Work, of_interval
from tillerman.statistics.estimates import bootstrap_mean
from tillerman.steering.steer import steer

_METHODS: dict[str, type[ColdKernel | ColdFd | ColdJvp]] = {kind.name: kind for kind in (ColdKernel, ColdFd, ColdJvp)}
_TEST, _CHOOSE = 0.3, 0.44  # 70 / 30 as in the paper; of the 70 a fifth chooses layer and dose
NULL_DRAWS = 4
Distances = NDArray[np.float64]  # [questions, 2]: total variation, KL


@dataclass(frozen=True)
class _Parts:
    fit: list[Taught]
    choose: list[Taught]
    test: list[Taught]


def run_shares(work: Work, shared: Store) -> list[Piece]:
    """One piece: distances before and after, and against equal chances for all options."""
    del shared  # a group's questions are read in a second
    parts = _questions(work)
    steering = _fitted(work, parts.fit)
    doses = work.experiment.doses or (0.05, 0.1, 0.2, 0.35, 0.5, 0.75)
    cells = [(point, dose) for point in steering.points for dose in doses]
    with work.watch.stage("grid", len(cells)) as progress:
        scores = []
        for cell in cells:
            scores.append(_distances(work.opened, parts.choose, _plan(steering, *cell))[:, 1].mean())
            progress(1)
    point, dose = cells[int(np.argmin(scores))]
    before = _distances(work.opened, parts.test, ())
    after = _distances(work.opened, parts.test, _plan(steering, point, dose))
    even = _between(parts.test, [torch.full((len(t.answers),), 1 / len(t.answers)).log() for t in parts.test])
    drawn = [steering.random_like(1000 * work.seed + draw) for draw in range(NULL_DRAWS)]
    nulls = np.mean([_distances(work.opened, parts.test, _plan(one, point, dose)) for one in drawn], axis=0)
    figures = {
        **_figures("", after),
        **_figures("_before", before),
        **_figures("_change", after - before),
        **_figures("_even_change", after - even),
        **_figures("_null_change", nulls - before),
    }
    return [work.piece(figures, cell=f"{named((point,))}, dose {dose:g}")]


def _figures(suffix: str, found: Distances) -> dict[str, Measured]:
    return {
        f"{name}{suffix}": of_interval(float(values.mean()), bootstrap_mean(values), len(values))
        for name, values in (("tv", found[:, 0]), ("kl_people", found[:, 1]))
    }


def _questions(work: Work) -> _Parts:
    """The questions of all waves that the group answered, and which are for what."""
    attribute, _, group = work.source.task.group.partition("/")
    writer, found = make_writer(work.opened.tokenizer, work.experiment.template), {}
    files = sorted(Path(work.source.file).glob(f"American_Trends_Panel_*/{attribute}_data.json"))
    for entry in [one for file in files for one in json.loads(file.read_text(encoding="utf-8")).values()]:
        options = [option for option in entry["MC_options"] if option != "Refused"]
        counts = [float(entry.get(group, {}).get(option, 0.0)) for option in options]
        if sum(counts) > 0 and 2 <= len(options) <= len(LETTERS):
            prompt = writer.encode(writer.prompt_text(choice_text(entry["question_text"], options)))
            letters = tuple(writer.encode(letter)[:1] for letter in LETTERS[: len(options)])
            found[entry["question_text"]] = Taught(prompt, letters, tuple(count / sum(counts) for count in counts))
    longest = work.opened.context or 10**9
    kept = [(question, t) for question, t in sorted(found.items()) if len(t.prompt) < longest][: work.limit]
    if not kept:
        raise DataError(f"no question answered by {attribute} {group!r}", file=work.source.file)
    at = [hash_fraction(question, work.seed) for question, _ in kept]
    both = list(zip(at, (t for _, t in kept), strict=True))
    return _Parts(
        [t for a, t in both if a >= _CHOOSE],
        [t for a, t in both if _TEST <= a < _CHOOSE],
        [t for a, t in both if a < _TEST],
    )


def _fitted(work: Work, examples: Sequence[Taught]) -> Steering:
    opened, e = work.opened, work.experiment
    layers = e.layers if e.layers is not None else tuple(range(opened.layers))
    made = Provenance(
        opened.id,
        opened.fingerprint,
        opened.parts.width,
        opened.layers,
        opened.tokenizer_hash,
        opened.template_hash,
        e.template,
        work.arm.method,
    )
    writer = make_writer(opened.tokenizer, e.template)
    context = Context(opened, (), (), writer, tuple(map(HookPoint, layers)), made)
    return _METHODS[work.arm.method](loss="shares").fit_taught(context, list(examples))


def _plan(steering: Steering, point: HookPoint, dose: float) -> Plan:
    return Cell((point,), steering.strength(point, dose), scope=Scope("prompt")).plan(steering)


def _distances(opened: OpenModel, asked: Sequence[Taught], plan: Plan) -> Distances:
    options = [[answer[0] for answer in t.answers] for t in asked]
    with steer(opened.model, plan) if plan else nullcontext():
        said = option_logprobs(opened, [t.prompt for t in asked], options)
    return _between(asked, [row.double().log_softmax(0) for row in said])


def _between(asked: Sequence[Taught], said: Sequence[torch.Tensor]) -> Distances:
    rows = []
    for t, logprobs in zip(asked, said, strict=True):
        people, model = np.array(t.target, dtype=np.float64), logprobs.double().cpu().numpy()
        known = people > 0
        kl = float((people[known] * (np.log(people[known]) - model[known])).sum())
        rows.append((0.5 * float(np.abs(people - np.exp(model)).sum()), kl))
    return np.array(rows)
