"""Whether every model is steered, and whether cost at equal dose changes with size. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tillerman.logs.study import Chart, Judged, Line, Mark, Trial
from tillerman.logs.table import Table
from tillerman.logs.verdict import Verdict
from tillerman.reports.numbers import compact, decimal
from tillerman.statistics.values import Effect, Interval
from tillerman.studies.scale.options import BYTES, SIZE, STEERED, ScaleOptions, at_dose
from tillerman.studies.trials import (
    KL,
    PERPLEXITY,
    Figure,
    cases_of,
    has,
    in_points,
    mark,
    mean_of,
    null_effect,
    paired,
    pick,
    rate_of,
    said,
    shown,
    shown_figure,
    shown_rate,
    stands,
    values,
)

_FEWEST = 4  # models that a trend over sizes needs
_RESAMPLES = 2000
_NOTES = (
    "Every model but the artefact's own has a vector of its own, by the same method on the same items, at the same "
    "relative depth; its cell is the best of its validation items.",
    "All models read the same neutral text, steered on every token. Nats per byte compare models of different "
    "tokenizers; per token is the models' own unit.",
    "Cost: nats per byte at dose 1, by least squares of cost times the squared dose; intervals are over windows.",
)


@dataclass(frozen=True)
class _Model:
    """What one model shows. ``cost``: nats per byte at dose 1; None where no dose gives finite numbers."""

    name: str
    parameters: float
    family: str
    dose: float
    effect: Effect
    null: tuple[float, Interval] | None
    cost: Figure | None
    doubling: str

    @property
    def works(self) -> bool:
        return stands(self.effect, self.null)


def judge(trials: Sequence[Trial], options: ScaleOptions) -> Judged:
    models = [_model(trials, case) for case in cases_of(trials)]
    tables = (_models_table(trials, models), _doses_table(trials, models, options))
    return Judged(_verdict(models), tables, _charts(trials, models, options), _NOTES)


def _model(trials: Sequence[Trial], case: str) -> _Model:
    size = pick(trials, case, SIZE)
    doses, costs = _curve(trials, case)
    return _Model(
        name=case,
        parameters=size.values[0],
        family=size.texts[0],
        dose=pick(trials, case, STEERED).at or 0.0,
        effect=paired(trials, case),
        null=null_effect(trials, case),
        cost=mean_of(costs @ doses**2 / (doses**4).sum() / _bytes(trials, case)) if len(doses) else None,
        doubling=_doubling(doses, costs),
    )


def _bytes(trials: Sequence[Trial], case: str) -> float:
    return pick(trials, case, BYTES).values[0]


def _curve(trials: Sequence[Trial], case: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Doses, and the log of the perplexity ratio per window ``[w, doses]``; without those that break the model."""
    found = [t for t in trials if t.case == case and t.condition.startswith(f"{PERPLEXITY}, ")]
    return np.array([t.at for t in found]), np.array([values(t) for t in found]).T


def _doubling(doses: NDArray[np.float64], costs: NDArray[np.float64]) -> str:
    """The dose at which perplexity doubles, with an interval over windows; what lies beyond all doses is said so."""
    if not len(doses):
        return "below all doses"
    drawn = np.random.default_rng(0).integers(0, len(costs), (_RESAMPLES, len(costs)))
    low, high = np.quantile([_crossing(doses, costs[rows].mean(0)) for rows in drawn], (0.025, 0.975), method="nearest")
    most = f"beyond {compact(float(doses.max()))}"
    shown = [most if math.isinf(x) else decimal(x, 2) for x in (_crossing(doses, costs.mean(0)), low, high)]
    return most if set(shown) == {most} else f"{shown[0]} ({shown[1]} to {shown[2]})"


def _crossing(doses: NDArray[np.float64], cost: NDArray[np.float64]) -> float:
    """Where the cost first reaches log 2, between two doses by their squares; infinity where it does not."""
    order = np.argsort(doses)
    squares, cost = np.append(0.0, doses[order] ** 2), np.append(0.0, cost[order])
    above = np.flatnonzero(cost >= math.log(2))
    if not len(above):
        return math.inf
    k = int(above[0])
    share = (math.log(2) - cost[k - 1]) / (cost[k] - cost[k - 1])
    return math.sqrt(squares[k - 1] + share * (squares[k] - squares[k - 1]))


def _verdict(models: Sequence[_Model]) -> Verdict:
    home, *others = models
    if not home.works:
        words = f"Nothing to scale: on {home.name} there is no effect beyond the controls, {said(home.effect)}."
        return Verdict("bad", words)
    words = f"On {home.name} the effect is {said(home.effect)}; "
    words += "; ".join(f"on {one.name} {shown(one.effect)} pp{'' if one.works else ', none'}" for one in others) + "."
    trend, worse = _trend(models)
    if not any(one.works for one in others):
        return Verdict(
            "unclear", f"{words} The behaviour is found on one model only, so nothing can be said about size. {trend}"
        )
    return Verdict("good" if all(one.works for one in others) and not worse else "mixed", f"{words} {trend}")


def _trend(models: Sequence[_Model]) -> tuple[str, bool]:
    """Whether cost at equal dose changes with size, in words, and whether larger models surely pay more."""
    costs = {one: one.cost for one in models if one.cost is not None and one.cost.value > 0}
    sizes = ", ".join(f"{_count(one.parameters)}: {shown_figure(c, signed=False)}" for one, c in costs.items())
    words = f"Cost in nats per byte at dose 1, by parameters: {sizes}." if costs else "No cost is above 0."
    if len(costs) < _FEWEST or len({one.parameters for one in costs}) < _FEWEST:
        return (
            f"{words} Whether larger models resist degradation cannot be decided from {len(costs)} models; that "
            f"takes {_FEWEST} sizes of one family."
        ), False
    x = np.log10([one.parameters for one in costs])
    fitted = stats.linregress(x, np.log10([cost.value for cost in costs.values()]))
    half = float(stats.t.ppf(0.975, len(x) - 2)) * float(fitted.stderr)
    low, slope, high = (10 ** float(fitted.slope + by) for by in (-half, 0.0, half))
    rho = float(stats.spearmanr(x, [cost.value for cost in costs.values()]).statistic)
    words += f" Ten times the size multiplies it by {compact(slope)} (95 % interval {compact(low)} to {compact(high)}, "
    words += f"rank correlation {decimal(rho, 2, True)}, {len(x)} models)."
    families = sorted({one.family for one in costs})
    if len(families) > 1:
        named = ", ".join(families)
        return (
            f"{words} Whether size is the cause cannot be decided: the models are of different families ({named}), "
            "which differ in more than size.",
            False,
        )
    if high < 1:
        return f"{words} Larger models resist degradation.", False
    if low > 1:
        return f"{words} Larger models degrade more.", True
    return f"{words} No trend with size is found.", False


def _count(parameters: float) -> str:
    """``3.2 M``."""
    for name, unit in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if parameters >= unit:
            return f"{compact(parameters / unit)} {name}"
    return f"{parameters:.0f}"


def _models_table(trials: Sequence[Trial], models: Sequence[_Model]) -> Table:
    head = (
        "model",
        "family",
        "parameters",
        "n",
        "unsteered, % (95 %)",
        "its dose",
        "effect, pp (95 %)",
        "random null, pp (95 %)",
        "cost, nats/byte at dose 1 (95 %)",
        "dose that doubles perplexity (95 %)",
        "bytes/token",
    )
    rows = [
        (
            one.name,
            one.family,
            _count(one.parameters),
            str(one.effect.n),
            shown_rate(rate_of(pick(trials, one.name, "unsteered"))),
            compact(one.dose),
            shown(one.effect),
            "" if one.null is None else in_points(*one.null),
            "not a number" if one.cost is None else shown_figure(one.cost, 3, signed=False),
            one.doubling,
            decimal(_bytes(trials, one.name), 2),
        )
        for one in models
    ]
    strong = tuple(i for i, one in enumerate(models) if one.works)
    return Table("The models, each with its vector at its own dose", head, tuple(rows), strong)


def _doses_table(trials: Sequence[Trial], models: Sequence[_Model], options: ScaleOptions) -> Table:
    rows = []
    for dose in sorted(options.doses):
        for one in models:
            length = _bytes(trials, one.name)
            costs = [_cost(trials, one.name, case, dose) for case in (PERPLEXITY, KL)]
            cells = ["not a number" if c is None else shown_figure(mean_of(c), 3, signed=False) for c in costs]
            cells += ["not a number" if c is None else decimal(float(c.mean()) / length, 3) for c in costs]
            rows.append((f"{dose:g}", one.name, shown(paired(trials, one.name, at_dose(dose))), *cells))
    head = (
        "dose",
        "model",
        "effect, pp (95 %)",
        "log perplexity ratio, nats/token (95 %)",
        "KL, nats/token (95 %)",
        "log perplexity ratio, nats/byte",
        "KL, nats/byte",
    )
    return Table("The same dose in every model", head, tuple(rows))


def _cost(trials: Sequence[Trial], case: str, what: str, dose: float) -> NDArray[np.float64] | None:
    condition = f"{what}, {at_dose(dose)}"
    return values(pick(trials, case, condition)) if has(trials, case, condition) else None


def _charts(trials: Sequence[Trial], models: Sequence[_Model], options: ScaleOptions) -> tuple[Chart, ...]:
    effects, costs = [], []
    for k, one in enumerate(models):
        role = ("steered", "prompt", "cost", "null")[k % 4]
        marks = [mark(f"{at_dose(d)}", paired(trials, one.name, at_dose(d)), d) for d in options.doses]
        effects.append(Line(one.name, tuple(marks), role))
        length = _bytes(trials, one.name)
        kept = [
            (d, found / length) for d in options.doses if (found := _cost(trials, one.name, PERPLEXITY, d)) is not None
        ]
        spots = [Mark(at_dose(d), float(c.mean()), mean_of(c).interval, len(c), d) for d, c in kept]
        costs.append(Line(one.name, tuple(spots), role))
    sized = [Mark(one.name, one.cost.value, one.cost.interval, 0, one.parameters) for one in models if one.cost]
    return (
        Chart("Effect at every dose", "curve", "pp", tuple(effects), "dose"),
        Chart("Log of the perplexity ratio, nats per byte", "curve", "", tuple(costs), "dose"),
        Chart(
            "Cost at equal dose against size",
            "curve",
            "",
            (Line("nats per byte at dose 1", tuple(sized)),),
            "parameters",
            log_axis=True,
        ),
    )
