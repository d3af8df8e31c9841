"""Effect and cost of each strength, and the largest one within the budget. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tillerman.logs.study import Chart, Judged, Line, Mark, Trial
from tillerman.logs.table import Table
from tillerman.logs.verdict import Verdict
from tillerman.reports.numbers import compact, decimal, nats, points, ratio
from tillerman.statistics.estimates import bootstrap_mean
from tillerman.statistics.values import Effect, Interval
from tillerman.studies.side_effects.options import (
    BEHAVIOUR,
    CHOSEN,
    UNRELATED,
    UNSTEERED,
    SideEffectsOptions,
    case_of_factor,
)
from tillerman.studies.trials import KL, PERPLEXITY, has, mark, paired, pick, shown, values

_UNITS = {
    "fluency": "n-gram entropy, bits (95 %)",
    "distinct:2": "distinct bigrams, share (95 %)",
    "repetition": "repeated runs, share (95 %)",
    "length": "words (95 %)",
}


@dataclass(frozen=True)
class _Cost:
    """A mean over windows with its interval; both as they are shown (perplexity: a ratio)."""

    value: float
    interval: Interval


def _cost(trials: Sequence[Trial], case: str, name: str) -> _Cost | None:
    """None where the steered model gives no finite number."""
    if not has(trials, case, name):
        return None
    per_window: NDArray[np.float64] = values(pick(trials, case, name))
    interval = bootstrap_mean(per_window)
    if case == KL:
        return _Cost(float(per_window.mean()), interval)
    return _Cost(
        _exp(float(per_window.mean())),
        Interval(_exp(interval.low), _exp(interval.high)) if interval.known else interval,
    )


def _exp(x: float) -> float:
    return float(np.exp(min(x, 700.0)))


@dataclass(frozen=True)
class _Level:
    """One strength: what it brings and what it costs."""

    factor: float
    dose: float
    behaviour: Effect
    unrelated: Effect
    perplexity: _Cost | None
    kl: _Cost | None

    def within(self, budget: SideEffectsOptions) -> bool | None:
        """Whether all costs are within the budget: by their intervals, None where these do not tell."""
        if self.perplexity is None or self.kl is None:
            return False
        sure = (
            self.kl.interval.high <= budget.max_kl,
            self.perplexity.interval.high <= budget.max_perplexity_ratio,
            self.unrelated.interval.low >= -budget.max_loss,
        )
        broken = (
            self.kl.interval.low > budget.max_kl,
            self.perplexity.interval.low > budget.max_perplexity_ratio,
            self.unrelated.interval.high < -budget.max_loss,
        )
        return True if all(sure) else False if any(broken) else None


def judge(trials: Sequence[Trial], options: SideEffectsOptions) -> Judged:
    levels = [_level(trials, factor) for factor in sorted(options.factors)]
    texts = _texts_table(trials, (UNSTEERED, *(case_of_factor(level.factor) for level in levels)))
    tables = (_table(levels, options), *((texts,) if len(texts.head) > 1 else ()))
    return Judged(_verdict(levels, options), tables, _charts(levels, options), _notes(options))


def _level(trials: Sequence[Trial], factor: float) -> _Level:
    name = case_of_factor(factor)
    return _Level(
        factor=factor,
        dose=pick(trials, BEHAVIOUR, name).at or 0.0,
        behaviour=paired(trials, BEHAVIOUR, name),
        unrelated=paired(trials, UNRELATED, name),
        perplexity=_cost(trials, PERPLEXITY, name),
        kl=_cost(trials, KL, name),
    )


def _verdict(levels: Sequence[_Level], budget: SideEffectsOptions) -> Verdict:
    chosen = next(level for level in levels if level.factor == CHOSEN)
    if chosen.perplexity is None or chosen.kl is None:
        return Verdict("bad", "At its own strength steering breaks the model: its outputs are not finite numbers.")
    words = (
        f"At its own strength: perplexity {ratio(chosen.perplexity.value)} "
        f"({_span(chosen.perplexity)}), KL {nats(chosen.kl.value)} ({_span(chosen.kl, 3)}), unrelated task "
        f"{points(chosen.unrelated.value)} ({shown(chosen.unrelated)[shown(chosen.unrelated).index('(') + 1 : -1]}, "
        f"n = {chosen.unrelated.n})."
    )
    within = chosen.within(budget)
    said = {True: "within", False: "beyond", None: "not established as within"}[within]
    words += f" That is {said} the budget ({_budget(budget)})."
    largest = _largest(levels, budget)
    words += (
        f" The largest strength up to which all tested ones are within it, intervals included, is "
        f"{case_of_factor(largest.factor)} its own (dose {compact(largest.dose)}), "
        f"with {points(largest.behaviour.value)} on the behaviour."
        if largest is not None
        else " No tested strength is within it with its whole interval."
    )
    return Verdict({True: "good", False: "bad", None: "mixed"}[within], words)


def _largest(levels: Sequence[_Level], budget: SideEffectsOptions) -> _Level | None:
    """The last of the strengths above 0, from the smallest on, that are all within the budget."""
    found = None
    for level in (level for level in levels if level.factor > 0):
        if level.within(budget) is not True:
            break
        found = level
    return found


def _budget(budget: SideEffectsOptions) -> str:
    return (
        f"KL {compact(budget.max_kl)}, perplexity {ratio(budget.max_perplexity_ratio)}, "
        f"{compact(100 * budget.max_loss)} pp lost"
    )


def _span(cost: _Cost, places: int = 2) -> str:
    return f"{decimal(cost.interval.low, places)} to {decimal(cost.interval.high, places)}"


def _table(levels: Sequence[_Level], budget: SideEffectsOptions) -> Table:
    words = {True: "yes", False: "no", None: "not surely"}
    rows = [
        (
            case_of_factor(level.factor),
            compact(level.dose),
            shown(level.behaviour),
            _costs(level.perplexity),
            _costs(level.kl, 3),
            shown(level.unrelated),
            words[level.within(budget)],
        )
        for level in levels
    ]
    head = (
        "strength",
        "dose",
        "behaviour, pp (95 %)",
        "perplexity × (95 %)",
        "KL, nats/token (95 %)",
        "unrelated, pp (95 %)",
        "within budget",
    )
    strong = tuple(i for i, level in enumerate(levels) if level.factor == CHOSEN)
    return Table("Effect and cost of each strength", head, tuple(rows), strong)


def _costs(cost: _Cost | None, places: int = 2) -> str:
    return "not a number" if cost is None else f"{decimal(cost.value, places)} ({_span(cost, places)})"


def _texts_table(trials: Sequence[Trial], conditions: Sequence[str]) -> Table:
    """A row per strength, a column per measure. An empty cell: no text could be measured."""
    names = [name for name in dict.fromkeys(t.scorer for t in trials) if name in _UNITS]
    rows = []
    for condition in conditions:
        mine = {t.scorer: t for t in trials if t.condition == condition and t.scorer in _UNITS}
        rows.append((condition, *(_text_cell(mine[name]) if name in mine else "" for name in names)))
    strong = tuple(i for i, condition in enumerate(conditions) if condition == "unsteered")
    return Table("Free texts", ("strength", *(_UNITS[name] for name in names)), tuple(rows), strong)


def _text_cell(trial: Trial) -> str:
    interval = bootstrap_mean(values(trial))
    return f"{decimal(sum(trial.values) / len(trial.values))} ({decimal(interval.low)} to {decimal(interval.high)})"


def _charts(levels: Sequence[_Level], budget: SideEffectsOptions) -> tuple[Chart, ...]:
    def line(name: str, role: str, marks: Sequence[Mark]) -> Line:
        return Line(name, tuple(marks), role)

    gains = [_none(0.0), *(mark(case_of_factor(level.factor), level.behaviour, level.dose) for level in levels)]
    losses = [_none(0.0), *(mark(case_of_factor(level.factor), level.unrelated, level.dose) for level in levels)]
    kept = [level for level in levels if level.perplexity is not None and level.kl is not None]
    ratios = [_none(1.0), *(_mark(level, level.perplexity) for level in kept if level.perplexity)]
    divergences = [_none(0.0), *(_mark(level, level.kl) for level in kept if level.kl)]
    return (
        Chart(
            "Behaviour and unrelated task",
            "curve",
            "pp",
            (line("behaviour", "steered", gains), line("unrelated task", "cost", losses)),
            "dose",
        ),
        Chart(
            "Perplexity on neutral text, ratio to unsteered",
            "curve",
            "x",
            (line("perplexity", "cost", ratios),),
            "dose",
            budget.max_perplexity_ratio,
        ),
        Chart(
            "KL on neutral text, nats per token",
            "curve",
            "nats",
            (line("KL", "cost", divergences),),
            "dose",
            budget.max_kl,
        ),
    )


def _none(value: float) -> Mark:
    """Where the curves start: no steering."""
    return Mark("unsteered", value, None, 0, 0.0)


def _mark(level: _Level, cost: _Cost) -> Mark:
    return Mark(case_of_factor(level.factor), cost.value, cost.interval, level.behaviour.n, level.dose)


def _notes(budget: SideEffectsOptions) -> tuple[str, ...]:
    return (
        f"The budget is {_budget(budget)}; a cost is within it where its whole 95 % interval is.",
        "Neutral text is steered on every token, the strictest reading; the dashed line of a cost is its budget.",
    )
