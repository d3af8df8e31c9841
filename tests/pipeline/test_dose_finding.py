"""Doses of a search that goes by replies: found by what they cost, whatever model, layer and vector."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import pytest
import torch
from hypothesis import given, strategies as st

import tillerman
from tillerman.core.cell import Cell
from tillerman.core.errors import UsageError
from tillerman.evaluation.side_effects import Windows
from tillerman.methods.base import Fitted
from tillerman.pipeline.costs import PART, Costs, share_of_budget
from tillerman.pipeline.dose_finding import MOST, ROUNDS, SHARES, doses_by_cost, parts_of, places_of, preferred
from tillerman.pipeline.run import Run, Unwatched
from tillerman.pipeline.search import Choice, null_grid, whole_grid
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.side_effects import make_meter
from tillerman.pipeline.together import together
from tillerman.pipeline.vectors import fit_readings
from tillerman.selection.choice import Scored

LIMITS = {"kl": 0.1, "perplexity_ratio": 1.2}
ASKED = tillerman.Experiment(
    method="caa", read="usual", layers=(2, 4, 6), max_train=16, max_validation=6, max_test=6, neutral_tokens=256
)


@pytest.fixture(scope="module")
def run() -> Run:
    data = tillerman.load_examples("sample:interest-in-science", limit=60)
    return set_up(ASKED, tillerman.open_model("pilot"), data, tillerman.Store(None, ""), Unwatched())


@pytest.fixture(scope="module")
def costs(run: Run) -> Costs:
    return Costs(run, make_meter(run))


@pytest.fixture(scope="module")
def fitted(run: Run) -> dict[str, Fitted]:
    (plain,) = fit_readings(run, run.readings).fitted.values()
    several = together(run, plain)
    assert several is not None
    return {"plain": plain, "together": several}


def spent(costs: Costs, one: Fitted, points: tuple[tillerman.HookPoint, ...], dose: float) -> float:
    cell = Cell(points, 1.0, "add").at_dose(dose / parts_of(one, points), one.vector)
    return share_of_budget(costs.first(cell.plan(one.vector), PART), LIMITS)


@pytest.mark.parametrize("harder", [1.0, 0.01], ids=["usual", "a hundredth"])
def test_the_largest_dose_of_every_place_spends_about_the_budget(
    costs: Costs, fitted: dict[str, Fitted], harder: float
) -> None:
    limits = {"kl": harder * LIMITS["kl"], "perplexity_ratio": LIMITS["perplexity_ratio"] ** harder}
    found = doses_by_cost(costs, fitted, limits)
    assert {name: list(doses) for name, doses in found.items()} == {n: places_of(one) for n, one in fitted.items()}
    for name, places in found.items():
        for points, doses in places.items():
            assert list(doses) == sorted(doses) and len(doses) == len(SHARES)
            share = spent(costs, fitted[name], points, doses[-1]) / harder
            assert 0.3 < share < 1.1, (name, points, doses)
            assert spent(costs, fitted[name], points, doses[0]) < 0.6 * share * harder


@dataclass
class _Told:
    """Costs that are known: of each dose, window by window, as shares of a budget of one nat."""

    of: Callable[[float, int], float]
    looks: list[int] = field(default_factory=list)

    def together(self, plans: Sequence[tillerman.Plan], count: int) -> list[Windows]:
        self.looks += [count] * len(plans)
        windows = (1, 4)[count - 1]
        kl = [torch.tensor([self.of(plan[0].strength, k) for k in range(windows)]) for plan in plans]
        return [Windows(torch.zeros(windows), torch.zeros(windows), one) for one in kl]


@given(
    scale=st.floats(0.02, 2.0),
    power=st.floats(1.5, 3.0),
    edge=st.floats(0.1, 3.0),
    steep=st.floats(4.0, 10.0),
    windows=st.lists(st.floats(0.7, 2.0), min_size=4, max_size=4),
)
def test_a_cost_that_leaps_at_some_dose_does_not_leave_a_search_without_doses_that_keep_the_budget(
    fitted: dict[str, Fitted], scale: float, power: float, edge: float, steep: float, windows: list[float]
) -> None:
    """By the rule of squares, about, up to an edge that lies elsewhere on every window, and far steeper beyond it."""

    def cost(strength: float, window: int) -> float:
        dose = strength / unit
        beyond = dose / (scale * edge * windows[window])
        return float((dose / scale) ** power * max(1.0, beyond) ** steep)

    one = replace(fitted["plain"], vector=fitted["plain"].vector.at(fitted["plain"].vector.points[:1]))
    (point,) = one.vector.points
    unit = Cell((point,), 1.0, "add").at_dose(1.0, one.vector).strength
    told = _Told(cost)
    ((*less, largest),) = doses_by_cost(cast(Costs, told), {"plain": one}, {"kl": 1.0})["plain"].values()
    spent_there = sum(cost(largest * unit, k) for k in range(4)) / 4
    nearly = sum(cost(2.0 * largest * unit, k) for k in range(4)) / 4
    assert spent_there < 1.5, (largest, spent_there)
    assert largest == preferred(MOST) or nearly > 0.5, (largest, nearly)  # nor far below what it allows
    share = sum(cost(less[-1] * unit, k) for k in range(4)) / 4 / spent_there
    assert 0.01 < share < 0.8, (less, largest, share)  # two fifths, as near as preferred numbers come to it
    assert [*less, largest] == sorted({*less, largest}) and len(less) == len(SHARES) - 1
    assert len(told.looks) <= 2 * ROUNDS


def test_a_vector_that_costs_nothing_stops_at_the_largest_dose(costs: Costs, fitted: dict[str, Fitted]) -> None:
    found = doses_by_cost(costs, {"plain": fitted["plain"]}, {"kl": 1e9})
    assert {doses[-1] for doses in found["plain"].values()} == {preferred(MOST)}


def test_a_method_with_doses_of_its_own_keeps_them(run: Run, costs: Costs, fitted: dict[str, Fitted]) -> None:
    (ablated,) = fit_readings(
        replace(run, experiment=replace(ASKED, method="ablation", read="mean")), ("mean",)
    ).fitted.values()
    assert doses_by_cost(costs, {"ablation": ablated}, LIMITS) == {}


def test_a_null_is_looked_at_where_the_real_vector_is_and_as_strongly(
    run: Run, costs: Costs, fitted: dict[str, Fitted]
) -> None:
    grid = whole_grid(run, fitted, doses_by_cost(costs, fitted, LIMITS))
    best = next(one for one in grid if one.method == "plain" and one.cell.strength)
    choice = Choice(fitted["plain"], Scored(best, 0.5), (), (), tuple(grid))
    mine = [one.cell for one in grid if one.method == "plain" and one.cell.strength]
    assert [one.cell for one in null_grid("random", fitted["plain"].random(0), choice)] == mine
    less = fitted["plain"].vector.at(fitted["plain"].vector.points[:1])
    assert {one.cell.points for one in null_grid("shuffled", less, choice)} == {less.points}


@given(st.floats(1e-6, 100.0))
def test_preferred_numbers_lie_at_or_a_little_below(dose: float) -> None:
    found = preferred(dose)
    assert dose / 1.27 < found < dose * 1.005
    steps = 10 * math.log10(found)
    assert steps == pytest.approx(round(steps), abs=0.03)


def test_the_budget_is_that_of_the_objective_unless_one_is_given() -> None:
    scored, written = tillerman.Experiment(), tillerman.Experiment(objective="written")
    assert scored.constraints == {"kl": 0.1, "perplexity_ratio": 1.2}
    assert written.constraints == {"kl": 0.3, "perplexity_ratio": 1.4}
    assert replace(written, max_kl=0.1).constraints == {"kl": 0.1, "perplexity_ratio": 1.4}
    assert replace(written, max_kl=None, max_perplexity_ratio=None).constraints == {}
    with pytest.raises(UsageError, match="`max_kl` usual: expected at least 0, auto, or None"):
        tillerman.Experiment(max_kl="usual")


def test_doses_are_found_where_nobody_gave_them_and_there_is_a_budget() -> None:
    written = tillerman.Experiment(objective="written")
    assert written.doses_by_cost and not tillerman.Experiment().doses_by_cost
    assert not replace(written, doses=(0.2,)).doses_by_cost
    assert not replace(written, max_kl=None, max_perplexity_ratio=None).doses_by_cost
