"""What training pairs foretell of a vector, in a finding, a table and sentences. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from tillerman.core.decoding import build
from tillerman.core.finding import Finding
from tillerman.logs.forecast import EffectForecast, ForecastRecord, PlaceForecast
from tillerman.logs.table import Table
from tillerman.reports.numbers import decimal, percent, shown_number
from tillerman.statistics.pair_differences import PairFigures

_SHOWN = 6  # layers of the best reading
_READ = {
    "mean": "the mean over the answer's tokens",
    "last": "the answer's last token",
    "end": "the end of the answer's turn",
    "whole": "the mean over all tokens",
}
_HEAD = ("hook point", "agreement (95 %)", "AUC (95 %)", "d′", "explained, %", "stability")
_NAMES = {"auc_within": "AUC within answers"}
_WITHIN = ("AUC within", "agreement within")


def no_forecast(reason: str) -> Finding:
    return Finding("forecast", "note", f"no forecast from pairs: {reason}")


def forecast_findings(forecast: EffectForecast) -> tuple[Finding, ...]:
    """Whether training pairs are told apart better than with shuffled labels."""
    best = forecast.best
    name, value = _told_by(best.figures)
    _, mean = _told_by(forecast.null)
    _, high = _told_by(forecast.null_high)
    words = (
        f"held-out {name} {decimal(value)} at {best.hook_point}; labels shuffled {decimal(mean)}, at most "
        f"{decimal(high)}"
    )
    if forecast.reached:
        message = (
            f"a vector of the training pairs tells no more apart than with shuffled labels ({forecast.reached} of "
            f"{forecast.draws} draws do as much): {words}"
        )
        return (Finding("forecast", "warning", message, value, high),)
    message = f"a vector of the training pairs tells held-out ones apart, beyond shuffled labels: {words}"
    return (Finding("forecast", "ok", message, value, high),)


def forecast_table(forecast: EffectForecast) -> Table:
    """Some layers of the best reading, the best one among them and strong, and what shuffled labels give."""
    best, within = forecast.best, forecast.best.figures.auc_within is not None
    places = [one for one in forecast.places if one.read == best.read] or [best]
    step = max(1, (len(places) - 1) // (_SHOWN - 1))
    shown = [one for k, one in enumerate(places) if k % step == 0 or one.hook_point == best.hook_point]
    rows = [_place_row(one, within) for one in shown]
    strong = tuple(k for k, one in enumerate(shown) if one.hook_point == best.hook_point)
    rows.append(_row(f"shuffled, mean of {forecast.draws}", forecast.null, within))
    rows.append(_row("shuffled, highest", forecast.null_high, within))
    head = (*_HEAD[:4], *(_WITHIN if within else ()), *_HEAD[4:])
    title = f"Will it work? Differences of {forecast.n} training pairs, read at {_READ.get(best.read, best.read)}"
    return Table(title, head, tuple(rows), strong)


def forecast_words(forecast: EffectForecast) -> tuple[str, ...]:
    """What was looked at, what each figure is, and what the figures are known to say."""
    best = forecast.best
    figures = best.figures
    place = (
        f"Of {forecast.looked_at} places the pairs are told apart best at {best.hook_point}, read at "
        f"{_READ.get(best.read, best.read)}"
    )
    parts = [
        f"differences of pairs agree by {decimal(figures.agreement, 2, signed=True)} (mean cosine; 0: nothing in "
        "common)",
        f"along their vector held-out examples have an AUC of {decimal(figures.auc)}",
    ]
    if figures.auc_within is not None:
        apart = decimal(figures.auc_within)
        kept = decimal(figures.agreement_within, 2, signed=True)
        parts.append(
            f"among examples of the same answer {apart}; without the answers' own direction pairs agree by {kept}"
        )
    parts.append(f"the first direction explains {percent(figures.explained, 0)} of the differences")
    parts.append(f"vectors of resampled pairs have a cosine of {decimal(figures.stability)}")
    return (f"{place}: {'; '.join(parts)}.", *record_words(forecast, records()))


PUBLISHED = (
    "Published: behaviours whose pairs agree and are told apart better are steered more reliably (Braun et al., arXiv "
    "2505.22637)."
)


@cache
def records() -> tuple[ForecastRecord, ...]:
    """What is known of the figures, model by model: written by ``tools/forecast/page.py``."""
    text = files("tillerman.reports").joinpath("forecast_record.json").read_text(encoding="utf-8")
    return tuple(build(ForecastRecord, row) for row in json.loads(text))


def record_words(forecast: EffectForecast, known: Sequence[ForecastRecord]) -> tuple[str, ...]:
    """What the figure foretold where it was measured, and for these pairs only where it foretold something."""
    if not known:
        return (f"{PUBLISHED} How well these figures foretell an effect on this model is not known.",)
    words = [_one_record(forecast.best.figures, one) for one in known]
    return (*words, f"{PUBLISHED} Of other models and data nothing is known; docs/forecast.md has all figures.")


def _one_record(figures: PairFigures, one: ForecastRecord) -> str:
    said = (
        f"On {one.n} {one.of} of {one.model}, {_NAMES.get(one.figure, one.figure)} ranked those with an effect beyond "
        f"the nulls ({one.beyond}) above the others with an AUC of {shown_number(one.area, one.area_interval)}; its "
        f"rank correlation with the change of the log-odds was "
        f"{shown_number(one.correlation, one.correlation_interval, signed=True)}"
    )
    if not one.foretells:
        return f"{said}: that is no forecast."
    value = getattr(figures, one.figure)
    if value is None:
        return f"{said}. These pairs have no such figure."
    return f"{said}. With {decimal(value)}, {percent(one.chance(value), 0)} of such behaviours had one."


def _told_by(figures: PairFigures) -> tuple[str, float]:
    """The figure by which places are compared."""
    if figures.auc_within is None:
        return "AUC", figures.auc
    return "AUC within answers", figures.auc_within


def _place_row(place: PlaceForecast, within: bool) -> tuple[str, ...]:
    agreement = shown_number(place.figures.agreement, place.agreement, signed=True)
    area = shown_number(place.figures.auc, place.auc)
    return _row(place.hook_point, place.figures, within, agreement, area)


def _row(where: str, figures: PairFigures, within: bool, agreement: str = "", area: str = "") -> tuple[str, ...]:
    return (
        where,
        agreement or decimal(figures.agreement, 2, signed=True),
        area or decimal(figures.auc),
        decimal(figures.d_prime),
        *((decimal(figures.auc_within), decimal(figures.agreement_within, 2, signed=True)) if within else ()),
        decimal(100 * figures.explained, 0),
        decimal(figures.stability),
    )
