"""Figures of many pieces into one with an interval, and the claims tested against them.

A verdict is computed, never written: an interval that lies on the claimed side of its margin holds, one that lies
on the other side does not hold, one that spans the margin is undecided.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tillerman.logs.reproduction import ClaimVerdict, Measured, Piece, Skipped
from tillerman.recipes.layouts import Where
from tillerman.recipes.metrics import METRICS, Metric
from tillerman.recipes.recipe import Claim, Recipe
from tillerman.statistics.agreement import rank_correlation
from tillerman.statistics.estimates import t_interval
from tillerman.statistics.values import Interval

HOLDS, FAILS, UNDECIDED, UNTESTABLE = "holds", "does not hold", "undecided", "cannot be tested here"
NOT_RUN = "not run"
LEAST_RANKED = 8  # tasks of a rank correlation
_LEAST, _MOST = 1e-300, 700.0  # of a ratio, and of its logarithm
Cells = Mapping[tuple[str, int], Measured]  # task and seed -> figure


@dataclass(frozen=True)
class Pooled:
    """A mean with its 95 % interval over ``n`` of ``unit``; ``tasks`` are those it is the mean of, ``items`` the
    number of different items in it."""

    value: float
    interval: Interval
    n: int
    unit: str
    tasks: tuple[str, ...]
    items: int


@dataclass(frozen=True, eq=False)
class Figures:
    """All pieces of a run, to be asked for figures."""

    recipe: Recipe
    pieces: Sequence[Piece]
    left_out: Sequence[Skipped] = ()

    def cells(self, where: Where) -> dict[tuple[str, int], Measured]:
        tasks = {task.name for task in self.recipe.tasks_of([where.tasks])}
        wanted = (where.step, where.arm, where.layer, where.strength)
        return {
            (piece.task, piece.seed): _scaled(piece.figures[where.metric], where.metric)
            for piece in self.pieces
            if piece.task in tasks
            and (piece.step, piece.arm, piece.layer, piece.strength) == wanted
            and where.metric in piece.figures
        }

    def pooled(self, where: Where, against: Where | None = None) -> Pooled | None:
        """The mean of what is selected, minus that of ``against``; None where nothing was measured. Of two metrics
        that are ranked, their correlation over tasks."""
        if where.ranked:
            return self._correlated(where)
        cells = self.cells(where)
        if against is not None:
            cells = _minus(cells, self.cells(against), same=where.tasks == against.tasks)
        found = pool(cells, self.recipe.step(where.step).unit) if cells else None
        return found if found is None or not METRICS[where.metric].log else _exponential(found)

    def _correlated(self, where: Where) -> Pooled | None:
        """Spearman's, with a percentile bootstrap over tasks; of a task the mean over seeds. None of fewer than
        ``LEAST_RANKED`` tasks."""
        found = [_by(self.cells(replace(where, metric=one, ranked="")), 0) for one in (where.metric, where.ranked)]
        tasks = tuple(task for task in found[0] if task in found[1])
        first, second = ([float(np.mean(one[task])) for task in tasks] for one in found)
        if len(tasks) < LEAST_RANKED or not (np.ptp(first) and np.ptp(second)):
            return None
        rank = rank_correlation(first, second)
        return Pooled(rank.value, rank.interval, len(tasks), "task", tuple(map(str, tasks)), len(tasks))

    def verdicts(self, claim: Claim) -> list[ClaimVerdict]:
        """One for each step the claim is tested in."""
        if claim.untestable:
            return [ClaimVerdict(claim.name, "", UNTESTABLE, claim.untestable)]
        return [self._verdict(claim, step) for step in (claim.select.step, *claim.also)]

    def _verdict(self, claim: Claim, step: str) -> ClaimVerdict:
        select = replace(claim.select, step=step)
        against = None if claim.against is None else select.but(claim.against)
        made = ClaimVerdict(claim.name, step, UNTESTABLE, "", select.shown)
        found = self.pooled(select, against)
        if found is None:
            return replace(made, why=self._absent(select, against))
        found = replace(found, interval=_unspread(found, METRICS[select.shown]))
        made = replace(made, value=found.value, interval=found.interval, n=found.n, unit=found.unit)
        why = self._unfit(claim, select)
        if why:
            return replace(made, why=why)
        # A ratio is above or below 1, not 0.
        interval = _logarithm(found.interval) if METRICS[select.shown].log else found.interval
        return replace(made, outcome=outcome(claim.expect, claim.margin, interval))

    def _unfit(self, claim: Claim, select: Where) -> str:
        """Why the model is no test of the claim, or nothing."""
        if claim.given is None:
            return ""
        where = select.but(claim.given.select)
        base, metric = self.pooled(where), METRICS[where.metric]
        if base is not None and base.interval.low > claim.given.above:
            return ""
        said = "not measured" if base is None else f"{metric.show(base.value)} {metric.unit}"
        return f"{metric.words} ({where.arm}): {said}, not clearly above {metric.show(claim.given.above)}"

    def _absent(self, *wheres: Where | None) -> str:
        reasons = {one.what: one.reason for one in self.left_out}
        for where in wheres:
            if where is not None and not self.cells(where):
                if where.step in reasons:
                    return reasons[where.step]
                tasks = [task.name for task in self.recipe.tasks_of([where.tasks])]
                mine = [p for p in self.pieces if p.task in tasks and (p.step, p.arm) == (where.step, where.arm)]
                known = [f"{p.task}: {p.reason}" for p in mine if p.reason]
                if not mine and all(task in reasons for task in tasks):
                    known = [f"{task}: {reasons[task]}" for task in tasks]
                return known[0] if known else f"{NOT_RUN}: step {where.step}, {where.arm}, {where.tasks}"
        if any(where is not None and where.ranked for where in wheres):
            return f"a rank correlation is of {LEAST_RANKED} tasks at least, that differ in both figures"
        return "the two sides share no task and seed"


def verdicts_on(recipe: Recipe, pieces: Sequence[Piece], left_out: Sequence[Skipped]) -> tuple[ClaimVerdict, ...]:
    """Every claim of a recipe, tested against these figures."""
    measured = Figures(recipe, pieces, left_out)
    return tuple(verdict for claim in recipe.claims for verdict in measured.verdicts(claim))


def _scaled(figure: Measured, metric: str) -> Measured:
    """As it is averaged: ratios by their logarithms."""
    if not METRICS[metric].log:
        return figure
    interval = _logarithm(Interval(figure.low, figure.high))
    return Measured(math.log(max(figure.value, _LEAST)), interval.low, interval.high, figure.n)


def _unspread(found: Pooled, metric: Metric) -> Interval:
    """Where no answer differs there is no spread to judge by: then three over the number of items either way, what
    95 of 100 such samples would show at most."""
    interval = found.interval
    if not metric.is_share or interval.high > interval.low:
        return interval
    return Interval(found.value - 3 / found.items, found.value + 3 / found.items)


def _exponential(found: Pooled) -> Pooled:
    interval = found.interval
    if interval.known:
        interval = Interval(math.exp(min(interval.low, _MOST)), math.exp(min(interval.high, _MOST)))
    return replace(found, value=math.exp(min(found.value, _MOST)), interval=interval)


def _logarithm(interval: Interval) -> Interval:
    if not interval.known:
        return interval
    return Interval(math.log(max(interval.low, _LEAST)), math.log(max(interval.high, _LEAST)))


def outcome(expect: str, margin: float, interval: Interval) -> str:
    """Where the interval lies: ``above`` margin, ``below`` minus margin, or ``within`` both. One that ends at the
    margin is undecided: where an exact test does not refuse "no effect", intervals are widened to 0."""
    low, high = interval.low, interval.high
    if expect == "within":
        return HOLDS if -margin < low and high < margin else FAILS if high < -margin or low > margin else UNDECIDED
    if expect == "below":
        low, high = -high, -low
    fails = high < margin or low == high == margin  # exactly nothing is not above nothing
    return HOLDS if low > margin else FAILS if fails else UNDECIDED


def pool(cells: Cells, unit: str) -> Pooled:
    """The mean over tasks and seeds. Over ``seed`` or ``task`` a t-interval of their means, where there are two at
    least; else, and over ``item``, the intervals of the cells combined, seeds not counted as more items."""
    tasks = tuple(dict.fromkeys(task for task, _ in cells))
    items = sum(max(f.n for (task, _), f in cells.items() if task == one) for one in tasks)
    value = float(np.mean([np.mean(one) for one in _by(cells, 0).values()]))
    for name, place in {"seed": (("seed", 1),), "task": (("task", 0), ("seed", 1))}.get(unit, ()):
        groups = _by(cells, place)
        if len(groups) > 1:
            means = [float(np.mean(group)) for group in groups.values()]
            interval = t_interval(means)[1]
            half = (interval.high - interval.low) / 2 if np.ptp(means) else 0.0  # equal means: the items tell, below
            return Pooled(value, Interval(value - half, value + half), len(groups), name, tasks, items)
    below, above = (_combined(cells, side) for side in (lambda f: f.value - f.low, lambda f: f.high - f.value))
    return Pooled(value, Interval(value - below, value + above), items, "item", tasks, items)


def _combined(cells: Cells, side: Callable[[Measured], float]) -> float:
    """One side of the interval of a mean over tasks; seeds share their items, and so their error."""
    of_task: dict[str, list[float]] = defaultdict(list)
    for (task, _), figure in cells.items():
        of_task[task].append(side(figure))
    return float(np.sqrt(np.sum([np.mean(one) ** 2 for one in of_task.values()])) / len(of_task))


def _by(cells: Cells, place: int) -> dict[str | int, list[float]]:
    groups: dict[str | int, list[float]] = defaultdict(list)
    for key, figure in cells.items():
        groups[key[place]].append(figure.value)
    return groups


def _minus(ones: Cells, others: Cells, *, same: bool) -> dict[tuple[str, int], Measured]:
    """Task by task and seed by seed; groups of different tasks by the mean over their tasks."""
    if not same:
        ones, others = _means(ones), _means(others)
    return {key: _less(figure, others[key]) for key, figure in ones.items() if key in others}


def _means(cells: Cells) -> dict[tuple[str, int], Measured]:
    found = {}
    for seed in dict.fromkeys(seed for _, seed in cells):
        here = {key: figure for key, figure in cells.items() if key[1] == seed}
        one = pool(here, "item")
        found["all", seed] = Measured(one.value, one.interval.low, one.interval.high, one.n)
    return found


def _less(one: Measured, other: Measured) -> Measured:
    """As if the two were independent: wider than the truth where the items are the same."""
    value, half = one.value - other.value, float(np.hypot(one.half, other.half))
    return Measured(value, value - half, value + half, min(one.n, other.n))
