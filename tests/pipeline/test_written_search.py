"""Which cells of a grid answer all prompts: the best that keep the budget, and few that have to be measured."""

from __future__ import annotations

from collections.abc import Sequence

from tillerman.core.cell import Cell
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Scope
from tillerman.pipeline.panel import value_of
from tillerman.pipeline.written import LOOPS
from tillerman.pipeline.written_search import FINALISTS, finalists
from tillerman.selection.choice import Candidate, Constraints, Scored


def grid(doses: Sequence[float], layers: int = 1, method: str = "caa") -> list[Scored]:
    """The cells of a vector: strengths are doses here."""
    cells = [Cell((HookPoint(layer),), dose, "add", Scope("all")) for layer in range(layers) for dose in doses]
    return [Scored(Candidate(method, cell, cell.strength), 0.5) for cell in cells]


def asked_of(limit: float) -> tuple[Constraints, list[float]]:
    """A budget of the dose itself, and the doses it was measured at."""
    seen: list[float] = []

    def measure(candidate: Candidate) -> tuple[float, ...]:
        seen.append(candidate.dose)
        return (abs(candidate.dose),)

    return Constraints(measure, (limit,)), seen


def test_the_best_by_what_they_wrote_go_on_and_strength_0_always() -> None:
    cells = grid([0.0, *(0.1 * k for k in range(1, 13))])
    first = [0.9, *(0.05 * k for k in range(1, 13))]
    marked, kept = finalists(cells, first, None)
    assert kept == [0, *range(12, 12 - FINALISTS, -1)]
    assert marked == cells


def test_cells_that_break_the_budget_are_marked_and_passed_over() -> None:
    cells = grid([0.1, 0.2, 0.3, 0.4])
    limits, _ = asked_of(0.25)
    marked, kept = finalists(cells, [0.1, 0.2, 0.3, 0.4], limits)
    assert kept == [1, 0]
    assert [one.admissible for one in marked] == [True, True, False, False]
    assert marked[1].costs == (0.2,)


def test_what_a_smaller_dose_breaks_is_not_measured_at_a_larger_one() -> None:
    cells = grid([0.3, 0.4, 0.5, 0.6])
    limits, seen = asked_of(0.1)
    marked, kept = finalists(cells, [0.9, 0.5, 0.4, 0.3], limits)
    assert (kept, seen) == ([], [0.3])
    assert not any(one.admissible for one in marked)


def test_another_place_and_the_other_direction_are_measured_for_themselves() -> None:
    cells = [*grid([0.3, -0.4], layers=2), *grid([0.4], method="pas-full")]
    limits, seen = asked_of(0.1)
    finalists(cells, [0.9, 0.8, 0.7, 0.6, 0.5], limits)
    assert seen == [0.3, -0.4, 0.3, -0.4, 0.4]


def test_of_cells_that_wrote_the_same_the_smaller_dose_goes_first() -> None:
    cells = grid([0.5, 0.1, 0.3])
    assert finalists(cells, [0.4, 0.4, 0.4], None)[1] == [1, 2, 0]


def test_a_loop_and_silence_are_worth_nothing_and_a_little_repetition_costs_a_little() -> None:
    assert value_of(0.8, 0.0) == 0.8 and value_of(None, 0.0) == 0.0
    assert value_of(0.8, 0.25) == 0.8 * 0.75
    assert value_of(0.8, LOOPS) > 0 and value_of(1.0, LOOPS + 0.01) == 0.0
