"""Doses by what they cost: at each place of each vector the dose that spends the budget of a search, and shares of it.

A dose is a share of the norm of activations. What it costs differs by model, layer and vector by factors of a hundred
(SmolLM2 pays 0.15 nats for a dose of 0.2 of ``caa``, Gemma 3 0.7 for 0.02 of ``cold-kernel``), so that no grid of doses
suits them all. KL on neutral text grows with the square of a small dose: a few passes over one window of the text find
the dose that costs what the budget allows. The search keeps to the budget on the whole text, as ever.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from tillerman.core.cell import Cell
from tillerman.core.hookpoint import HookPoint
from tillerman.core.steerings.base import Steering
from tillerman.methods.base import Fitted
from tillerman.pipeline.costs import Costs, share_of_budget

Points = tuple[HookPoint, ...]
SHARES = (0.4, 0.63, 1.0)  # of the dose that spends it: a sixth, two fifths and all of the budget
START, MOST = 0.1, 4.0  # of all hook points together
ROUNDS = 4
NEAR = (0.5, 1.4)  # shares of the budget from which the rule of squares goes on
STRIDE = (1 / 16, 4.0)  # how far one look may move a dose
_STEPS = 10  # preferred numbers (ISO 3, R10) in a decade


def doses_by_cost(
    costs: Costs, fitted: Mapping[str, Fitted], limits: Mapping[str, float]
) -> dict[str, dict[Points, tuple[float, ...]]]:
    """Of each vector without doses of its own, at each place: the doses of a search, the largest of which spends about
    the budget on the first window of neutral text; at ``MOST`` where it never does. Preferred numbers, so that places
    share them."""
    places = [(name, points) for name, one in fitted.items() if one.habits.doses is None for points in places_of(one)]
    doses = dict.fromkeys(places, START)
    left = list(places)
    for _ in range(ROUNDS):
        if not left:
            break
        plans = [_cell(fitted[name], points, doses[name, points]).plan(fitted[name].vector) for name, points in left]
        looks = costs.together(plans, 1)
        spent = {place: share_of_budget(one, limits) for place, one in zip(left, looks, strict=True)}
        for place, share in spent.items():
            doses[place] = min(MOST, doses[place] * _stride(share))
        left = [place for place, share in spent.items() if not _settled(share, doses[place])]
    found: dict[str, dict[Points, tuple[float, ...]]] = {}
    for (name, points), dose in doses.items():
        found.setdefault(name, {})[points] = tuple(dict.fromkeys(preferred(share * dose) for share in SHARES))
    return found


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


def _stride(share: float) -> float:
    """By how much a dose that spends this share has to grow, where costs go with its square."""
    least, most = STRIDE
    if not math.isfinite(share):
        return least
    return most if share <= 0 else min(most, max(least, math.sqrt(1 / share)))


def _settled(share: float, dose: float) -> bool:
    return NEAR[0] <= share <= NEAR[1] or (dose == MOST and share < 1)
