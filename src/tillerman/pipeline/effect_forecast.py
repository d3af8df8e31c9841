"""What the training pairs foretell of a vector, from one pass over them, before any fit.

The pairs are those of ``caa``: every item's prompt with the wanted answer and with another. A method that reads other
rows is forecast by these too; the calibration is of ``caa``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tillerman.core.errors import FitError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import ContrastSet
from tillerman.core.store import Store
from tillerman.data import pairings
from tillerman.data.loading import LoadedData, Source
from tillerman.data.presenting import Item
from tillerman.logs.forecast import EffectForecast, PlaceForecast
from tillerman.models.capture import capture
from tillerman.models.opened import OpenModel
from tillerman.pipeline.experiment import Experiment
from tillerman.pipeline.run import Run, Unwatched, Watch
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.vectors import read_as
from tillerman.statistics.pair_differences import LEAST_PAIRS, Shuffled, highest_figures, mean_figures, pair_figures
from tillerman.statistics.ranking import area_interval

MOST = 128  # pairs that are read: more change the figures little
DRAWS = 19  # of the null: none of them as high is p = 0.05


def effect_forecast(
    experiment: Experiment, opened: OpenModel, data: LoadedData | Source, *, watch: Watch | None = None
) -> EffectForecast:
    """Of the training share of this experiment's split; validation and test items are not looked at.

    ``FitError`` where there are no pairs (open questions) or fewer than ten."""
    return forecast_of(set_up(experiment, opened, data, Store(None, ""), watch or Unwatched(), needed=("train",)))


def forecast_of(run: Run) -> EffectForecast:
    """At every layer and in every reading that a fit would search, read from the same pass."""
    items, points = run.train.items[:MOST], run.points()
    if len(items) < LEAST_PAIRS:
        raise FitError(f"{len(items)} training pairs; a forecast needs at least {LEAST_PAIRS}: provide more data")
    pairs: dict[ContrastSet, str] = {}
    for read in run.readings:
        here = run.reading(read)
        pairs.setdefault(read_as(pairings.caa(items, here.contrast_writer), read), read)
    rows = [row for one in pairs for row in (*one.positive, *one.negative)]
    site = run.experiment.read_site or run.experiment.site
    sources = {point: HookPoint(point.layer, site) for point in points}
    with run.watch.stage("pairs, forecast", len(rows)) as progress:
        got = capture(run.opened, rows, sorted(set(sources.values())), read="mean", progress=progress)
    answers, count = _answers(items), 2 * len(items)
    found: list[tuple[str, str, Shuffled]] = []
    for k, read in enumerate(pairs.values()):
        for point in points:
            sides = got[sources[point]][count * k : count * (k + 1)].to(torch.float64)
            gram = (sides @ sides.T).numpy()
            if np.isfinite(gram).all():
                found.append((str(point), read, pair_figures(gram, answers, DRAWS, run.experiment.seed)))
    if not found:
        raise FitError("the activations of the training pairs are no finite numbers; open the model in another --dtype")
    return _summary(len(items), found)


def foretold(run: Run) -> EffectForecast | None:
    """For the log of a fit: None where there are no pairs, and where a fit is to be fast."""
    try:
        return None if run.experiment.fast else forecast_of(run)
    except FitError:
        return None


def _answers(items: Sequence[Item]) -> list[str] | None:
    """What every example answers, the wanted ones first; None of texts of their own."""
    if any(item.example.kind not in ("choice", "yes_no") for item in items):
        return None
    given = [item.answers[item.right] for item in items] + [item.answers[pairings.another(item)] for item in items]
    return [answer.strip().casefold() for answer in given]


def _summary(n: int, found: list[tuple[str, str, Shuffled]]) -> EffectForecast:
    places = [
        PlaceForecast(point, read, one.figures, one.agreement, area_interval(one.figures.auc, n, n))
        for point, read, one in found
    ]
    best = max(places, key=lambda place: place.figures.rank)
    draws = [max((one.null[k] for _, _, one in found), key=lambda f: f.rank) for k in range(DRAWS)]
    reached = sum(one.rank >= best.figures.rank for one in draws)
    null, high = mean_figures(draws), highest_figures(draws)
    return EffectForecast(n, best, null, high, DRAWS, reached, len(places), tuple(places))
