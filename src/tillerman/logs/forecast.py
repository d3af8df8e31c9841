"""What labelled pairs foretell of a vector before one is fitted: typed, so that it can be held against the effect."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tillerman.statistics.pair_differences import PairFigures
from tillerman.statistics.values import Interval


@dataclass(frozen=True)
class PlaceForecast:
    """The figures at a hook point, read in one way (last, end, mean, whole), with 95 % intervals of two of them."""

    hook_point: str
    read: str
    figures: PairFigures
    agreement: Interval
    auc: Interval


@dataclass(frozen=True)
class EffectForecast:
    """Of ``n`` training pairs. ``best`` is the place with the highest d′ of ``looked_at``. ``null``: the mean over
    ``draws`` in which the sides of each pair were swapped by a coin, each at its own best place; ``null_high`` the
    highest of each figure; ``reached``: in how many draws d′ was as high as at ``best``. ``places`` are all that were
    looked at, empty in an artefact's card."""

    n: int
    best: PlaceForecast
    null: PairFigures
    null_high: PairFigures
    draws: int
    reached: int
    looked_at: int
    places: tuple[PlaceForecast, ...] = ()

    def for_card(self) -> EffectForecast:
        return replace(self, places=())


@dataclass(frozen=True)
class ForecastRecord:
    """How well the figures foretold an effect on ``n`` behaviours of a model (tools/forecast). ``figure``: the field of
    ``PairFigures`` that was chosen for it beforehand; ``beyond``: how many behaviours had an effect beyond the nulls.

    ``correlation``: rank correlation of the figure with the change of the log-odds; ``area``: by which it ranks those
    with an effect above the others; ``brier``: mean squared distance of a chance that was foretold from the other
    behaviours, ``brier_of_rate`` that of their share with an effect. The chance of an effect is
    ``1 / (1 + exp(-(slope * figure + shift)))``, for figures between ``lowest`` and ``highest``."""

    model: str
    of: str
    figure: str
    n: int
    beyond: int
    correlation: float
    correlation_interval: Interval
    area: float
    area_interval: Interval
    brier: float
    brier_of_rate: float
    slope: float
    shift: float
    lowest: float
    highest: float

    @property
    def foretells(self) -> bool:
        """Whether the figure did better than chance: the area's interval lies above one half, and a chance that is
        foretold is nearer to what happens than the share of all."""
        return self.area_interval.low > 0.5 and self.brier < self.brier_of_rate

    def chance(self, figure: float) -> float:
        """Of an effect beyond the nulls; of a figure beyond those measured, that of the nearest one."""
        inside = min(max(figure, self.lowest), self.highest)
        return 1 / (1 + math.exp(-(self.slope * inside + self.shift)))
