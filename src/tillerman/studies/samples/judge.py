"""The curve of effect against number of examples, and its knee. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tillerman.logs.study import Chart, Judged, Line, Mark, Trial
from tillerman.logs.table import Table
from tillerman.logs.verdict import Verdict
from tillerman.reports.numbers import decimal, points
from tillerman.statistics.estimates import t_interval
from tillerman.statistics.values import Effect, Interval
from tillerman.studies.samples.options import ALIKE, ALL, BETWEEN, SamplesOptions, case_of_count
from tillerman.studies.trials import in_points, paired, pick, right, said, values

_NEAR = 0.9  # share of the whole effect that the knee reaches
_STILL_GROWING = 0.8  # of all examples: a knee that may lie beyond is none
_RESAMPLES = 1000
_NOTES = (
    "Every draw is a vector at the artefact's hook points and dose, tested on the same test items; intervals over "
    "draws are t-intervals.",
    "The knee is where the fitted curve reaches nine tenths of its value at all examples.",
)


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
        marks.append(Mark(case_of_count(int(n)), mean, interval, len(found), n))
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
        return Verdict(
            "bad", f"All {total:g} examples together give {said(whole)}: no effect, so no smaller number can suffice."
        )
    interval = f"95 % interval {max(1.0, knee.interval.low):.0f} to {knee.interval.high:.0f}"
    where = f"{case_of_count(max(1, round(knee.value)))} ({interval})"
    words = f"All {total:g} examples give {said(whole)}; nine tenths of it are reached with {where}."
    if knee.interval.high <= min(effects):
        words = f"All {total:g} examples give {said(whole)}; {case_of_count(int(min(effects)))} gives as much."
    if knee.interval.high > _STILL_GROWING * total:
        return Verdict("unclear", f"{words} The curve has not settled: more examples may give a stronger vector.")
    return Verdict("good", f"{words} More examples than that barely help.")
