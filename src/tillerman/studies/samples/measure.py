"""Vectors fitted to so many training items, drawn so many times, and what each does."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tillerman.core.errors import FitError, HookPointError, UsageError
from tillerman.core.steerings.base import Steering
from tillerman.core.store import Store
from tillerman.logs.study import Trial
from tillerman.pipeline.run import Unwatched
from tillerman.pipeline.vectors import fit_methods
from tillerman.studies.base import Lab, trial_of
from tillerman.studies.samples.options import ALIKE, ALL, BETWEEN, SamplesOptions, case_of_count

_FEWEST = 1


def measure(lab: Lab, options: SamplesOptions) -> Iterator[Trial]:
    """Right or wrong on the test items under vectors fitted to so many training items, drawn so many times, and
    how alike these vectors are."""
    exam, total = lab.exam, len(lab.run.train.items)
    whole = _drawn(lab, range(total), "all")
    if whole is None:
        raise FitError(
            "the method gives no vector at the artefact's hook points from its training items; is this "
            "the data it was fitted on?"
        )
    with lab.stage(ALL, 2 * len(exam.items)) as progress:
        plain = lab.right(exam, {"unsteered": ()}, progress)["unsteered"]
        yield trial_of(ALL, "unsteered", exam, plain, at=float(total))
        yield trial_of(ALL, "steered", exam, whole.right, at=float(total))
    for count in counts_of(options, total):
        yield from _at(lab, options, count, whole)


@dataclass(frozen=True, eq=False)
class _Draw:
    """A vector of some of the examples: what it does to each test item, and its direction (empty: it has none)."""

    right: NDArray[np.bool_]
    direction: Tensor

    def cosine(self, other: _Draw) -> float:
        return float(torch.cosine_similarity(self.direction, other.direction, dim=0))


def _at(lab: Lab, options: SamplesOptions, count: int, whole: _Draw) -> Iterator[Trial]:
    """All draws of one number of examples; one that the method cannot be fitted on is left out."""
    case, places = case_of_count(count), range(len(lab.run.train.items))
    found: dict[int, _Draw] = {}
    with lab.stage(case, options.draws) as progress:
        for k in range(1, options.draws + 1):
            chosen = random.Random(f"{options.seed} {count} {k}").sample(places, count)
            draw = _drawn(lab, sorted(chosen), f"{count} {k}")
            progress(1)
            if draw is not None:
                found[k] = draw
                yield trial_of(case, f"steered {k}", lab.exam, draw.right, at=float(count))
    directed = {k: draw for k, draw in found.items() if len(draw.direction)}
    if directed:
        names = tuple(f"draw {k}" for k in directed)
        alike = tuple(draw.cosine(whole) for draw in directed.values())
        yield Trial(case, ALIKE, names, alike, at=float(count), scorer="cosine")
    if len(directed) > 1:
        pairs = list(combinations(directed, 2))
        names = tuple(f"draws {i} and {j}" for i, j in pairs)
        between = tuple(directed[i].cosine(directed[j]) for i, j in pairs)
        yield Trial(case, BETWEEN, names, between, at=float(count), scorer="cosine")


def _drawn(lab: Lab, places: Sequence[int], name: str) -> _Draw | None:
    """Fit on these training items, at the artefact's hook points and dose, and test. None where they give no vector."""

    def made() -> dict[str, Tensor]:
        steering = _fitted(lab, places)
        if steering is None:
            return {"right": torch.zeros(0, dtype=torch.uint8), "direction": torch.zeros(0)}
        plan = lab.plan_of(steering)
        right = lab.exam.correct(plan)
        return {"right": torch.from_numpy(right.astype(np.uint8)), "direction": _direction(steering)}

    kept = lab.store.tensors(f"draw {name}", made)
    return _Draw(kept["right"].numpy().astype(bool), kept["direction"]) if len(kept["right"]) else None


def _fitted(lab: Lab, places: Sequence[int]) -> Steering | None:
    points = lab.cell.points
    layers = tuple(sorted({point.layer for point in points}))
    experiment = replace(lab.run.experiment, layers=layers, null_draws=2)
    train = lab.run.train
    some = replace(train, items=tuple(train.items[i] for i in places), written=tuple(train.written[i] for i in places))
    small = replace(lab.run, experiment=experiment, train=some, store=Store(None, ""), watch=Unwatched())
    try:
        fitted, _ = fit_methods(small)
        return fitted[experiment.spec].vector.at(points)
    except (FitError, HookPointError):
        return None


def _direction(steering: Steering) -> Tensor:
    """All hook points' directions, one after the other, each as a share of its stream."""
    if not steering.is_constant:
        return torch.zeros(0)
    return torch.cat([steering.directions[point] / steering.stream_norms[point] for point in steering.points])


def counts_of(options: SamplesOptions, total: int) -> tuple[int, ...]:
    """Numbers of examples to draw; ``UsageError`` for more than the training share has."""
    if options.counts is not None:
        if max(options.counts) > total:
            raise UsageError(f"`counts`: {max(options.counts)} examples asked for, the training share has {total}")
        return tuple(sorted(set(options.counts)))
    grid = np.geomspace(min(_FEWEST, total), total, options.steps)
    counts = tuple(dict.fromkeys(round(n) for n in grid))
    return counts[:-1] if counts[-1] == total else counts  # all of them cannot be drawn in two ways
