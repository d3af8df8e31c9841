"""What labelled pairs foretell of a vector before one is fitted: typed, so that it can be held against the effect."""

from __future__ import annotations

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
