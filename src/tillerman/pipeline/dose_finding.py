"""Doses by what they cost: at each place of each vector the dose that spends the budget of a search, and shares of it.

A dose is a share of the norm of activations. What it costs differs by model, layer and vector by factors of a hundred
(SmolLM2 pays 0.15 nats for a dose of 0.2 of ``caa``, Gemma 3 0.7 for 0.02 of ``cold-kernel``), so that no grid of doses
suits them all. KL on neutral text grows with the square of a small dose: a few passes over one window of the text find
about the dose that costs what the budget allows. Beyond small doses it can grow much faster, and on other windows at
other doses (Gemma 3 turned to French pays 0.03 nats at one dose and 4.7 at two and a half times as much), so that this
dose is looked at on a larger part of the text, and set right there. The search keeps to the budget on the whole text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tillerman.core.cell import Cell
from tillerman.core.hookpoint import HookPoint
from tillerman.core.steerings.base import Steering
from tillerman.methods.base import Fitted
from tillerman.pipeline.costs import PART, Costs, share_of_budget

Points = tuple[HookPoint, ...]
_Place = tuple[str, Points]
SHARES = (0.16, 0.4, 1.0)  # of the budget; 0.4, 0.63 and 1 of a dose where costs go with its square
START, MOST = 0.1, 4.0  # of all hook points together
ROUNDS = 4  # of looks, on each part of the text
PARTS = (1, PART)  # batches of the text: its first window, and as much as tells a search where to look on
NEAR = (0.5, 1.4)  # shares of the budget from which the rule of squares goes on
STRIDE = 4.0  # how far one look may move a dose
STEEP = (2.0, 10.0)  # powers of a dose that its cost may go with
EDGE = 0.2  # of what lies between two doses, at either end, is not looked at: one of them would hardly move
_STEPS = 10  # preferred numbers (ISO 3, R10) in a decade


def doses_by_cost(
    costs: Costs, fitted: Mapping[str, Fitted], limits: Mapping[str, float]
) -> dict[str, dict[Points, tuple[float, ...]]]:
    """Of each vector without doses of its own, at each place: the doses of a search, the largest of which spends about
    the budget on the first windows of neutral text; ``MOST`` where it never does. Preferred numbers, so that places
    share them."""
    places = [(name, points) for name, one in fitted.items() if one.habits.doses is None for points in places_of(one)]
    doses = dict.fromkeys(places, START)

    def spent(asked: Sequence[_Place], count: int) -> dict[_Place, float]:
        plans = [_cell(fitted[name], points, doses[name, points]).plan(fitted[name].vector) for name, points in asked]
        looks = costs.together(plans, count)
        return {place: share_of_budget(one, limits) for place, one in zip(asked, looks, strict=True)}

    for count in PARTS:
        known, left = {place: _Known() for place in places}, list(places)
        for _ in range(ROUNDS):
            if not left:
                break
            shares = spent(left, count)
            for place, share in shares.items():
                known[place].add(doses[place], share)
                if count == 1 or not NEAR[0] <= share <= 1:  # what keeps the budget on the larger part is not raised
                    doses[place] = known[place].next(doses[place], share)
            left = [place for place, share in shares.items() if not _settled(share, doses[place])]
    doses |= {place: known[place].keeps[0] for place in left if known[place].keeps[0]}  # rather than one not looked at
    found: dict[str, dict[Points, tuple[float, ...]]] = {}
    for (name, points), dose in doses.items():
        found.setdefault(name, {})[points] = _spending(dose, known[name, points].power(dose))
    return found


def _spending(dose: float, power: float) -> tuple[float, ...]:
    """Doses that spend ``SHARES`` of what this one does, where costs go with such a power: preferred numbers, none of
    them twice."""
    doses: list[float] = []
    for share in sorted(SHARES, reverse=True):
        one = preferred(share ** (1 / power) * dose)
        doses.append(one if not doses else min(one, preferred(doses[-1] / 1.1)))
    return tuple(reversed(doses))


def places_of(fitted: Fitted) -> list[Points]:
    """Where a vector may be added: at all of its hook points, or at one of them."""
    points = fitted.vector.points
    return [points] if fitted.habits.joint else [(point,) for point in points]


def parts_of(fitted: Fitted, points: Points) -> int:
    """Among how many hook points a dose is shared out."""
    return len(points) if fitted.habits.shared else 1


def preferred(dose: float) -> float:
    """The nearest preferred number at or below: 0.1, 0.126, 0.158, 0.2, ..."""
    return float(f"{10 ** (math.floor(_STEPS * math.log10(dose) + 1e-9) / _STEPS):.3g}")


def _cell(fitted: Fitted, points: Points, dose: float) -> Cell:
    vector: Steering = fitted.vector
    return Cell(points, 1.0, vector.operator).at_dose(dose / parts_of(fitted, points), vector)


@dataclass
class _Known:
    """Of a place: doses with the share of the budget that each spends; among them the largest that is known to keep
    it, and the smallest that breaks it."""

    seen: list[tuple[float, float]] = field(default_factory=list)
    keeps: tuple[float, float] = (0.0, 0.0)
    breaks: tuple[float, float] = (math.inf, math.inf)

    def add(self, dose: float, share: float) -> None:
        self.seen.append((dose, share))
        if share <= 1:
            self.keeps = max(self.keeps, (dose, share))
        else:
            self.breaks = min(self.breaks, (dose, share))

    def power(self, dose: float) -> float:
        """Of the dose, that its cost goes with about there: by the two looks next to it; 2 where there is only one."""
        told = sorted(self.seen, key=lambda one: abs(math.log(one[0] / dose)))
        told = [one for one in told if 0 < one[1] < math.inf][:2]
        if len({one for one, _ in told}) < 2:
            return STEEP[0]
        (dose, less), (other, more) = told
        return min(STEEP[1], max(STEEP[0], math.log(more / less) / math.log(other / dose)))

    def next(self, dose: float, share: float) -> float:
        """Where to look after a dose that spends such a share: by the rule of squares until doses on both sides of the
        budget are known, and then between these, on a straight line of logarithms."""
        (low, less), (high, more) = self.keeps, self.breaks
        if low == 0 or not low < high < math.inf:
            return min(MOST, dose * _stride(share))
        line = math.log(1 / less) / math.log(more / less) if less > 0 and more < math.inf else 0.5
        return float(low * (high / low) ** min(1 - EDGE, max(EDGE, line)))


def _stride(share: float) -> float:
    """By how much a dose that spends this share has to grow, where costs go with its square."""
    if not math.isfinite(share):
        return 1 / STRIDE
    return STRIDE if share <= 0 else min(STRIDE, max(1 / STRIDE, math.sqrt(1 / share)))


def _settled(share: float, dose: float) -> bool:
    return NEAR[0] <= share <= NEAR[1] or (dose == MOST and share < 1)
