"""How well a figure foretold an effect over behaviours: rank correlation, area, and a forecast that leaves one out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from measured import Measured, Outcome

from tillerman.logs.forecast import EffectForecast, ForecastRecord
from tillerman.statistics.agreement import Statistic, rank_correlation
from tillerman.statistics.logistic import Calibration, calibrate
from tillerman.statistics.ranking import area, area_interval
from tillerman.statistics.values import Interval

MODELS = {"smollm2": "SmolLM2-135M-Instruct", "gemma3": "Gemma 3 270M", "pilot": "the embedded model"}
LEAST = 12  # behaviours, and 3 of each outcome: of fewer nothing is said
BINS = 3

# Chosen before anything was measured: what places are compared by, and so what ``check`` names first.
FIRST = "auc_within"


def _over_null(name: str) -> Callable[[Measured, EffectForecast], float | None]:
    def found(one: Measured, forecast: EffectForecast) -> float | None:
        del one
        value, null = getattr(forecast.best.figures, name), getattr(forecast.null, name)
        return None if value is None else value - null

    return found


def _figure(name: str) -> Callable[[Measured, EffectForecast], float | None]:
    return lambda one, forecast: getattr(forecast.best.figures, name)


FIGURES: dict[str, Callable[[Measured, EffectForecast], float | None]] = {
    "AUC within answers": _figure(FIRST),
    "the same, above its shuffled mean": _over_null(FIRST),
    "agreement within answers": _figure("agreement_within"),
    "AUC": _figure("auc"),
    "agreement": _figure("agreement"),
    "d′": _figure("d_prime"),
    "explained share": _figure("explained"),
    "stability": _figure("stability"),
    "unsteered accuracy": lambda one, _: one.unsteered,
    "AUC of the unsteered log-odds": lambda one, _: one.unsteered_auc,
}
OUTCOMES: dict[str, Callable[[Outcome], float]] = {
    "change of log-odds": lambda one: one.change.value,
    "at one fixed cell": lambda one: one.fixed.value,
    "slope over doses": lambda one: one.slope,
    "share moved the right way": lambda one: 1 - one.moved_wrong,
}


@dataclass(frozen=True)
class Pair:
    """One behaviour's figure and what came of it."""

    value: float
    outcome: Outcome


def pairs(many: Sequence[Measured], figure: str) -> list[Pair]:
    """Of the behaviours that have the figure and an outcome."""
    found = []
    for one in many:
        if one.forecast is not None and one.outcome is not None:
            value = FIGURES[figure](one, one.forecast)
            if value is not None:
                found.append(Pair(value, one.outcome))
    return found


def correlation(many: Sequence[Pair], outcome: str) -> Statistic:
    return rank_correlation([one.value for one in many], [OUTCOMES[outcome](one.outcome) for one in many])


def beyond(many: Sequence[Pair]) -> Statistic | None:
    """The area by which the figure ranks behaviours with an effect beyond nulls above the others; None without both."""
    yes = [one.value for one in many if one.outcome.beyond_nulls]
    no = [one.value for one in many if not one.outcome.beyond_nulls]
    if not yes or not no:
        return None
    found = area(yes, no)
    return Statistic(found, area_interval(found, len(yes), len(no)))


@dataclass(frozen=True)
class LeftOut:
    """Chances foretold for each behaviour from the others alone, and whether it had an effect beyond nulls."""

    foretold: tuple[float, ...]
    seen: tuple[bool, ...]
    brier: float
    brier_of_rate: float

    def bins(self) -> list[tuple[float, float, int]]:
        """Foretold, seen and how many, from the lowest third to the highest."""
        order = np.argsort(self.foretold, kind="stable")
        chance, seen = np.array(self.foretold), np.array(self.seen)
        return [(float(chance[k].mean()), float(seen[k].mean()), len(k)) for k in np.array_split(order, BINS)]


def left_out(many: Sequence[Pair]) -> LeftOut:
    """A logistic curve of one figure (``calibrate``), fitted to all behaviours but the one that it then foretells.

    Brier score: the mean squared distance of the chance from what was seen; that of the rate is what the share of the
    other behaviours with an effect would score."""
    values = np.array([one.value for one in many])
    seen = np.array([one.outcome.beyond_nulls for one in many])
    chances, rates = [], []
    for k in range(len(many)):
        others = np.arange(len(many)) != k
        curve, centre, spread = _curve(values[others], seen[others])
        chances.append(float(curve(np.array([(values[k] - centre) / spread]))[0]))
        rates.append(float((seen[others].sum() + 1) / (others.sum() + 2)))
    brier, of_rate = (float(np.mean((np.array(found) - seen) ** 2)) for found in (chances, rates))
    return LeftOut(tuple(chances), tuple(seen.tolist()), brier, of_rate)


def _curve(values: np.ndarray, seen: np.ndarray) -> tuple[Calibration, float, float]:
    centre, spread = float(values.mean()), float(values.std()) or 1.0
    return calibrate((values - centre) / spread, seen), centre, spread


def record_of(model: str, many: Sequence[Measured]) -> ForecastRecord | None:
    """What ``check`` says of the figure that places are compared by; None of too few behaviours."""
    name = next(iter(FIGURES))
    mine = pairs(many, name)
    seen = [one.outcome.beyond_nulls for one in mine]
    ranked = beyond(mine)
    if len(mine) < LEAST or ranked is None or min(sum(seen), len(seen) - sum(seen)) < BINS:
        return None
    curve, centre, spread = _curve(np.array([one.value for one in mine]), np.array(seen))
    out, moved = left_out(mine), correlation(mine, "change of log-odds")
    return ForecastRecord(
        model=MODELS[model],
        of="yes/no personas",
        figure=FIRST,
        n=len(mine),
        beyond=sum(seen),
        correlation=_rounded(moved.value),
        correlation_interval=_ends(moved),
        area=_rounded(ranked.value),
        area_interval=_ends(ranked),
        brier=_rounded(out.brier),
        brier_of_rate=_rounded(out.brier_of_rate),
        slope=_rounded(curve.slope / spread),
        shift=_rounded(curve.shift - curve.slope * centre / spread),
        lowest=_rounded(min(one.value for one in mine)),
        highest=_rounded(max(one.value for one in mine)),
    )


def _rounded(value: float) -> float:
    return round(value, 3)


def _ends(one: Statistic) -> Interval:
    return Interval(_rounded(one.interval.low), _rounded(one.interval.high))
