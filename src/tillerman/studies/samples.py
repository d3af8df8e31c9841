"""How many examples a vector needs: effect against the number of fit examples, over repeated draws (CAE, arXiv
2505.03189, finding 2: diminishing returns near 80), and how steady its direction is.

The curve is ``E(n) = top * n / (n + half)``. Its knee is the n at which nine tenths of the effect of all examples
are reached; the interval is of curves fitted to draws taken again with replacement.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tillerman.core.errors import FitError, HookPointError, UsageError
from tillerman.core.steerings.base import Steering, joint_strength
from tillerman.core.steerings.vector import SteeringVector
from tillerman.core.store import Store
from tillerman.logs.study import Chart, Judged, Line, Mark, Trial
from tillerman.logs.table import Table
from tillerman.logs.verdict import Verdict
from tillerman.pipeline.run import Unwatched
from tillerman.pipeline.search import fit_methods
from tillerman.reports.numbers import decimal, points
from tillerman.statistics.estimates import t_interval
from tillerman.statistics.values import Effect, Interval
from tillerman.studies.base import Lab, StudyOptions, trial_of
from tillerman.studies.trials import in_points, paired, pick, right, said, values

ALL = "all examples"
ALIKE = "cosine to the vector of all examples"
BETWEEN = "cosine between draws"
_FEWEST = 1
_NEAR = 0.9  # share of the whole effect that the knee reaches
_STILL_GROWING = 0.8  # of all examples: a knee that may lie beyond is none
_RESAMPLES = 1000
_NOTES = (
    "Every draw is a vector at the artefact's hook points and dose, tested on the same test items; intervals over "
    "draws are t-intervals.",
    "The knee is where the fitted curve reaches nine tenths of its value at all examples.",
)


@dataclass(frozen=True)
class SamplesOptions(StudyOptions):
    """``counts``: numbers of examples; None takes ``steps`` of them, evenly by logarithm from 1 to all."""

    counts: tuple[int, ...] | None = None
    steps: int = 8
    draws: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draws < 2:
            raise UsageError(f"--draws {self.draws}: an interval over draws needs at least two")
        if self.steps < 3:
            raise UsageError(f"--steps {self.steps}: a curve needs at least three numbers of examples")
        if self.counts is not None and (len(self.counts) < 3 or min(self.counts) < 1):
            raise UsageError(f"--counts {self.counts}: give at least three numbers of examples, all above 0")


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
        plain = lab.right("unsteered", exam, {"unsteered": ()}, progress)["unsteered"]
        yield trial_of(ALL, "unsteered", exam, plain, at=float(total))
        yield trial_of(ALL, "steered", exam, whole.right, at=float(total))
    for count in _counts(options, total):
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
    case, places = _case(count), range(len(lab.run.train.items))
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
        plan = lab.with_steering(steering, joint_strength(steering, lab.dose(lab.chosen.strength)))
        right = lab.exam.correct(plan)
        return {"right": torch.from_numpy(right.astype(np.uint8)), "direction": _direction(steering)}

    kept = lab.store.tensors(f"draw {name}", made)
    return _Draw(kept["right"].numpy().astype(bool), kept["direction"]) if len(kept["right"]) else None


def _fitted(lab: Lab, places: Sequence[int]) -> Steering | None:
    points = lab.intervention.steering.points
    layers = tuple(sorted({point.layer for point in points}))
    experiment = replace(lab.run.experiment, layers=layers, null_draws=2)
    train = lab.run.train
    some = replace(train, items=tuple(train.items[i] for i in places), written=tuple(train.written[i] for i in places))
    small = replace(lab.run, experiment=experiment, train=some, store=Store(None, ""), watch=Unwatched())
    try:
        fitted, _ = fit_methods(small)
        return fitted[experiment.method].vector.at(points)
    except (FitError, HookPointError):
        return None


def _direction(steering: Steering) -> Tensor:
    """All hook points' directions, one after the other, each as a share of its stream."""
    if not isinstance(steering, SteeringVector):
        return torch.zeros(0)
    return torch.cat([steering.directions[point] / steering.stream_norms[point] for point in steering.points])


def _counts(options: SamplesOptions, total: int) -> tuple[int, ...]:
    if options.counts is not None:
        if max(options.counts) > total:
            raise UsageError(f"--counts: {max(options.counts)} examples asked for, the training share has {total}")
        return tuple(sorted(set(options.counts)))
    grid = np.geomspace(min(_FEWEST, total), total, options.steps)
    counts = tuple(dict.fromkeys(round(n) for n in grid))
    return counts[:-1] if counts[-1] == total else counts  # all of them cannot be drawn in two ways


def _case(count: int) -> str:
    return f"{count} example" + ("s" if count != 1 else "")


def judge(trials: Sequence[Trial], options: SamplesOptions) -> Judged:
    del options  # all that matters is in the trials
    whole = paired(trials, ALL)
    base = right(pick(trials, ALL, "unsteered")).astype(float)
    total = pick(trials, ALL, "steered").at or 0.0
    effects: dict[float, list[float]] = {}
    for trial in trials:
        if trial.condition.startswith("steered "):
            effects.setdefault(trial.at or 0.0, []).append(float((values(trial) - base).mean()))
    counts = np.array([n for n, found in effects.items() for _ in found])
    reached = np.array([value for found in effects.values() for value in found])
    curve = _curve(np.append(counts, total), np.append(reached, whole.value))
    knee = _knee(effects, whole.value, total)
    table, marks = _rows(trials, effects)
    line = Line("mean over draws", tuple(marks))
    grid = np.geomspace(min(effects), total, 24)
    fitted = Line("fitted curve", tuple(Mark("", float(curve(n)), None, 0, float(n)) for n in grid), "prompt")
    charts = [
        Chart("Effect against number of examples", "curve", "pp", (line, fitted), "examples", log_axis=True),
        *_steadiness(trials),
    ]
    return Judged(_verdict(whole, knee, effects, total), (table,), tuple(charts), _NOTES)


def _curve(counts: NDArray[np.float64], effects: NDArray[np.float64]) -> Callable[[float], float]:
    top, half = _saturating(counts, effects)
    return lambda n: top * n / (n + half)


def _saturating(counts: NDArray[np.float64], effects: NDArray[np.float64]) -> tuple[float, float]:
    """Least squares of ``top * n / (n + half)``: for each half, evenly spaced by logarithm, top has a closed form."""
    halves = np.geomspace(0.01, 10 * counts.max(), 400)[:, None]
    shape = counts / (counts + halves)
    top = (shape * effects).sum(1) / (shape**2).sum(1)
    error = ((effects - top[:, None] * shape) ** 2).sum(1)
    best = int(error.argmin())
    return float(top[best]), float(halves[best, 0])


@dataclass(frozen=True)
class Knee:
    """Where the curve has nine tenths of the effect of all examples, with its 95 % interval."""

    value: float
    interval: Interval


def _knee(effects: Mapping[float, Sequence[float]], whole: float, total: float) -> Knee:
    """The interval: the curve fitted again to draws taken with replacement among those of each number."""

    def place(found: Sequence[tuple[float, float]]) -> float:
        counts, reached = np.array([*found, (total, whole)]).T
        _, half = _saturating(counts, reached)
        return _NEAR * total * half / ((1 - _NEAR) * total + half)

    rng = np.random.default_rng(0)
    again = [
        place([(n, value) for n, some in effects.items() for value in rng.choice(some, len(some))])
        for _ in range(_RESAMPLES)
    ]
    low, high = np.quantile(again, (0.025, 0.975))
    return Knee(place([(n, value) for n, some in effects.items() for value in some]), Interval(float(low), float(high)))


def _rows(trials: Sequence[Trial], effects: Mapping[float, Sequence[float]]) -> tuple[Table, list[Mark]]:
    rows, marks = [], []
    for n, found in effects.items():
        mean, interval = float(np.mean(found)), None
        if len(found) > 1:
            _, interval, _ = t_interval(found)
        marks.append(Mark(_case(int(n)), mean, interval, len(found), n))
        cosines = [_mean_of(trials, n, name) for name in (ALIKE, BETWEEN)]
        cell = points(mean).removesuffix(" pp") if interval is None else in_points(mean, interval)
        extremes = f"{points(min(found)).removesuffix(' pp')} to {points(max(found)).removesuffix(' pp')}"
        rows.append((f"{n:g}", str(len(found)), cell, extremes, *cosines))
    head = ("examples", "draws", "effect, pp (95 %)", "range over draws", "cosine to all", "between draws")
    return Table("Effect and direction by number of examples", head, tuple(rows)), marks


def _mean_of(trials: Sequence[Trial], n: float, condition: str) -> str:
    found = [trial for trial in trials if trial.at == n and trial.condition == condition]
    return decimal(float(values(found[0]).mean()), 2) if found else ""


def _steadiness(trials: Sequence[Trial]) -> list[Chart]:
    lines = []
    for condition, role in ((ALIKE, "steered"), (BETWEEN, "null")):
        of = [trial for trial in trials if trial.condition == condition]
        marks = tuple(Mark(t.case, float(values(t).mean()), _spread(t), len(t.items), t.at) for t in of)
        if marks:
            lines.append(Line(condition, marks, role))
    return [Chart("Is it the same direction?", "curve", "", tuple(lines), "examples", None, True)] if lines else []


def _spread(trial: Trial) -> Interval | None:
    """Of the cosines to the whole vector; those between draws share draws, and have none."""
    return t_interval(trial.values)[1] if trial.condition == ALIKE and len(trial.values) > 1 else None


def _verdict(whole: Effect, knee: Knee, effects: Mapping[float, Sequence[float]], total: float) -> Verdict:
    if not whole.found:
        return Verdict("bad", f"All {total:g} examples together give {said(whole)}: no effect, so no number is enough.")
    interval = f"95 % interval {max(1.0, knee.interval.low):.0f} to {knee.interval.high:.0f}"
    where = f"{_case(max(1, round(knee.value)))} ({interval})"
    words = f"All {total:g} examples give {said(whole)}; nine tenths of it are reached with {where}."
    if knee.interval.high <= min(effects):
        words = f"All {total:g} examples give {said(whole)}; {_case(int(min(effects)))} gives as much."
    if knee.interval.high > _STILL_GROWING * total:
        return Verdict("unclear", f"{words} The curve has not settled: more examples may give a stronger vector.")
    return Verdict("good", f"{words} More examples than that hardly help.")
