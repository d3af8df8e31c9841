"""What a vector costs at every strength: perplexity and KL on neutral text (CAE, arXiv 2505.03189, finding 4),
accuracy on an unrelated task, and what becomes of texts: n-gram entropy (STA, arXiv 2505.20322, section 4.1),
repetition, distinct bigrams, length. And the largest strength that stays within a budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tillerman.core.errors import UsageError
from tillerman.core.plan import Plan
from tillerman.data.duplicates import clean_split
from tillerman.data.loading import load_examples
from tillerman.data.presenting import present
from tillerman.evaluation.exam import Exam
from tillerman.evaluation.side_effects import Windows
from tillerman.logs.study import Chart, Judged, Line, Mark, Trial
from tillerman.logs.table import Table
from tillerman.logs.verdict import Verdict
from tillerman.pipeline.held_out import make_meter
from tillerman.reports.numbers import compact, decimal, nats, points, ratio
from tillerman.statistics.estimates import bootstrap_mean
from tillerman.statistics.values import Effect, Interval
from tillerman.studies.base import KL, PERPLEXITY, Lab, StudyOptions, cost_trials, trial_of
from tillerman.studies.texts import texts_table, written
from tillerman.studies.trials import has, mark, paired, pick, shown, values

UNSTEERED = "unsteered"
BEHAVIOUR, UNRELATED = "behaviour", "unrelated task"
CHOSEN = 1.0


@dataclass(frozen=True)
class SideEffectsOptions(StudyOptions):
    """``factors``: multiples of the artefact's strength. The budget: KL in nats per token, perplexity ratio, and
    accuracy lost on the unrelated task, as a share."""

    factors: tuple[float, ...] = (-2.0, -1.0, -0.5, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
    max_kl: float = 0.1
    max_perplexity_ratio: float = 1.1
    max_loss: float = 0.05
    unrelated_items: int = 200
    text_tokens: int = 40  # of each of 32 free texts

    def __post_init__(self) -> None:
        super().__post_init__()
        if not {CHOSEN} <= set(self.factors) or 0.0 in self.factors:
            raise UsageError("--factors: multiples of the artefact's strength; 1 must be among them, 0 is always there")
        if self.max_kl <= 0 or self.max_perplexity_ratio <= 1 or not 0 < self.max_loss < 1:
            raise UsageError("the budget: --max-kl above 0, --max-perplexity-ratio above 1, --max-loss between 0 and 1")


def measure(lab: Lab, options: SideEffectsOptions) -> Iterator[Trial]:
    """The behaviour, an unrelated task and neutral text under every strength. What is not a finite number gives no
    trial: the model is wrecked there, and no mean can say so."""
    factors = sorted(options.factors)
    plans: dict[str, Plan] = {_case(factor): lab.plan(factor) for factor in factors}
    for what, exam in ((BEHAVIOUR, lab.exam), (UNRELATED, _unrelated(lab, options))):
        with lab.stage(what, (1 + len(plans)) * len(exam.items)) as progress:
            found = lab.right(what, exam, {UNSTEERED: (), **plans}, progress)
        for factor in (0.0, *factors):
            name = _case(factor) if factor else UNSTEERED
            yield trial_of(what, name, exam, found[name], at=_dose(lab, factor))
    yield from _neutral(lab, factors, plans)
    doses = {_case(factor): _dose(lab, factor) for factor in factors}
    yield from written(lab, {UNSTEERED: (), **plans}, {UNSTEERED: 0.0, **doses}, options.text_tokens)


def _case(factor: float) -> str:
    return f"{decimal(factor, 2)} ×"


def _dose(lab: Lab, factor: float) -> float:
    return lab.dose(lab.chosen.strength * factor)


def _unrelated(lab: Lab, options: SideEffectsOptions) -> Exam:
    loaded = load_examples(lab.run.experiment.unrelated)
    share = clean_split(loaded.examples, shares=(0.0, 0.0, 1.0), sizes=(None, None, options.unrelated_items)).test
    return lab.exam_of(present(share), lab.run.bare_writer)


def _neutral(lab: Lab, factors: Sequence[float], plans: dict[str, Plan]) -> Iterator[Trial]:
    meter = make_meter(lab.run)

    def windows() -> dict[str, Tensor]:
        with lab.stage("neutral text", len(plans) * meter.passes) as progress:
            found = meter.windows(list(plans.values()), progress)
        kept = {f"{k} {name}": getattr(one, name) for k, one in enumerate(found) for name in ("steered", "kl")}
        return {"unsteered": found[0].unsteered, **kept}

    kept = lab.store.tensors("neutral text", windows)
    for k, factor in enumerate(factors):
        one, name = Windows(kept["unsteered"], kept[f"{k} steered"], kept[f"{k} kl"]), _case(factor)
        found = cost_trials(name, one, at=_dose(lab, factor))
        yield from (replace(trial, case=trial.condition, condition=name) for trial in found)


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
    return _Cost(_exp(float(per_window.mean())), Interval(_exp(interval.low), _exp(interval.high)))


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
    texts = texts_table(trials, (UNSTEERED, *(_case(level.factor) for level in levels)))
    tables = (_table(levels, options), *((texts,) if len(texts.head) > 1 else ()))
    return Judged(_verdict(levels, options), tables, _charts(levels, options), _notes(options))


def _level(trials: Sequence[Trial], factor: float) -> _Level:
    name = _case(factor)
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
        return Verdict("bad", "At its own strength the steered model gives no finite numbers: it is wrecked.")
    words = (
        f"At its own strength: perplexity {ratio(chosen.perplexity.value)} "
        f"({_span(chosen.perplexity)}), KL {nats(chosen.kl.value)} ({_span(chosen.kl, 3)}), unrelated task "
        f"{points(chosen.unrelated.value)} ({shown(chosen.unrelated)[shown(chosen.unrelated).index('(') + 1 : -1]}, "
        f"n = {chosen.unrelated.n})."
    )
    within = chosen.within(budget)
    said = {True: "within", False: "beyond", None: "not surely within"}[within]
    words += f" That is {said} the budget ({_budget(budget)})."
    largest = _largest(levels, budget)
    words += (
        f" The largest strength up to which all tested ones are surely within it is {_case(largest.factor)} its own "
        f"(dose {compact(largest.dose)}), with {points(largest.behaviour.value)} on the behaviour."
        if largest is not None
        else " No strength tested is surely within it."
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
            _case(level.factor),
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
    return Table("What each strength brings and costs", head, tuple(rows), strong)


def _costs(cost: _Cost | None, places: int = 2) -> str:
    return "not a number" if cost is None else f"{decimal(cost.value, places)} ({_span(cost, places)})"


def _charts(levels: Sequence[_Level], budget: SideEffectsOptions) -> tuple[Chart, ...]:
    def line(name: str, role: str, marks: Sequence[Mark]) -> Line:
        return Line(name, tuple(marks), role)

    gains = [_none(0.0), *(mark(_case(level.factor), level.behaviour, level.dose) for level in levels)]
    losses = [_none(0.0), *(mark(_case(level.factor), level.unrelated, level.dose) for level in levels)]
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
    return Mark(_case(level.factor), cost.value, cost.interval, level.behaviour.n, level.dose)


def _notes(budget: SideEffectsOptions) -> tuple[str, ...]:
    return (
        f"The budget is {_budget(budget)}; a cost is within it where its whole 95 % interval is.",
        "Neutral text is steered on every token, the strictest reading; the dashed line of a cost is its budget.",
    )
