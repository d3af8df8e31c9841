"""Coarse to fine: few cells are looked at, and on a smooth grid the best of all is among them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, strategies as st

from tillerman.core.cell import Cell
from tillerman.core.hookpoint import HookPoint
from tillerman.selection.choice import Candidate
from tillerman.selection.refine import WHOLE, Look, Seen, coarse_to_fine, together, whole

DOSES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5)


def grid(layers: int, doses: Sequence[float] = DOSES, method: str = "caa") -> list[Candidate]:
    """Strengths are doses here; strength 0 first."""
    none = Candidate(method, Cell((HookPoint(0),), 0.0), 0.0)
    return [none, *(Candidate(method, Cell((HookPoint(i),), d), d) for i in range(layers) for d in doses)]


def looked_at(cells: list[Candidate], score: Callable[[Candidate], float], **options: object) -> Seen:
    search = coarse_to_fine(cells, "smaller-dose", **options)  # type: ignore[arg-type]
    (seen,) = together([search], lambda asked: [Look(score(one)) for one in asked])
    return seen


def place(one: Candidate) -> tuple[int, int]:
    return one.cell.points[0].layer, DOSES.index(one.dose)


@pytest.mark.slow
@given(st.integers(1, 80), st.integers(0, 79), st.integers(0, 7), st.floats(0.05, 1))
def test_on_a_smooth_grid_the_best_cell_is_found_among_few(layers: int, layer: int, dose: int, width: float) -> None:
    layer = min(layer, layers - 1)

    def score(one: Candidate) -> float:
        if not one.dose:
            return -math.inf
        at, k = place(one)
        return -width * abs(at - layer) - abs(k - dose)

    cells = grid(layers)
    seen = looked_at(cells, score)
    assert place(max(seen, key=score)) == (layer, dose)
    assert cells[0] in seen
    assert len(seen) == len(set(seen)) <= (len(cells) if layers * len(DOSES) <= WHOLE else 24 + 8 * 6 + layers)
    assert list(seen) == [one for one in cells if one in seen]


def test_a_small_grid_is_looked_at_whole_and_a_large_one_is_not() -> None:
    small, large = grid(3), grid(32)
    assert list(looked_at(small, lambda one: one.dose)) == small
    assert len(looked_at(large, lambda one: one.dose)) < len(large) / 4


def test_where_a_look_is_dear_few_cells_are_looked_at_from_a_small_dose_on() -> None:
    def score(one: Candidate) -> float:
        return -abs(one.cell.points[0].layer - 12) - abs(one.dose - 0.35) if one.dose else -math.inf

    both = [one for method in ("caa", "pas") for one in grid(32, method=method)]
    first = next(coarse_to_fine(both, "smaller-dose", dear=True))
    assert {one.dose for one in first} == {0.0, 0.2}
    assert len([one for one in first if one.dose]) == 2 * 4
    usual, dear = looked_at(both, score), looked_at(both, score, dear=True)
    assert len(dear) < 0.75 * len(usual)
    assert max(dear, key=score) in usual and max(dear, key=score).dose == 0.35


def test_no_cell_is_looked_at_beyond_a_dose_that_is_known_to_break_the_budget() -> None:
    asked: list[Candidate] = []

    def keeps(one: Candidate) -> bool:
        asked.append(one)
        return one.dose <= 0.2

    cells, known = grid(32), []
    search, broken = coarse_to_fine(cells, "smaller-dose", keeps), set[Candidate]()
    wanted = next(search)
    try:
        while True:
            known.append([one for one in wanted if any(one.line == b.line and one.dose >= b.dose for b in broken)])
            wanted = search.send([Look(-abs(one.cell.points[0].layer - 12) + one.dose) for one in wanted])
            broken = {one for one in asked if one.dose > 0.2}
    except StopIteration as end:
        seen = end.value
    assert broken and not any(known)
    assert any(one.dose == 0.2 and one.cell.points[0].layer == 12 for one in seen)


def test_smaller_doses_are_looked_at_where_the_best_cells_break_the_budget() -> None:
    cells, limit = grid(32), 0.12
    seen = looked_at(cells, lambda one: one.dose, keeps=lambda one: one.dose <= limit)
    kept = [one.dose for one in seen if one.dose <= limit]
    assert max(kept) == 0.1


def test_the_budget_is_asked_of_few_cells() -> None:
    asked: list[Candidate] = []

    def keeps(one: Candidate) -> bool:
        asked.append(one)
        return True

    seen = looked_at(grid(32), lambda one: one.dose - one.cell.points[0].layer / 100, keeps=keeps)
    assert len(set(asked)) < len(seen) / 4


def test_among_equal_scores_the_guide_says_where_to_look_on() -> None:
    cells = grid(32)
    search = coarse_to_fine(cells, "smaller-dose")

    def ask(asked: list[Candidate]) -> list[Look]:
        return [Look(0.5, -float(abs(one.cell.points[0].layer - 17))) for one in asked]

    (seen,) = together([search], ask)
    assert 17 in {one.cell.points[0].layer for one in seen}


def test_no_more_cells_are_looked_at_than_may_be() -> None:
    for most in (3, 10, 40):
        assert len(looked_at(grid(32), lambda one: one.dose, most=most)) <= most
    spread = {one.cell.points[0].layer for one in looked_at(grid(32), lambda one: 0.0, most=12)}
    assert max(spread) - min(spread) >= 16  # fewer cells lie further apart, not all in the first layers


def test_a_second_reading_begins_with_fewer_cells() -> None:
    first, second = grid(32)[1:], grid(32, method="caa, read as mean")[1:]
    asked = next(coarse_to_fine([*first, *second], "first", few=frozenset({"caa, read as mean"})))
    usual = [one for one in asked if one.method == "caa"]
    assert 0 < len(asked) - len(usual) <= len(usual) / 3
    better = looked_at([*first, *second], lambda one: len(one.method) + one.dose, few=frozenset({"caa, read as mean"}))
    assert max(better, key=lambda one: len(one.method) + one.dose).dose == 1.5


def test_searches_in_step_see_what_they_would_see_alone_and_ask_together() -> None:
    grids = [grid(32), grid(12, method="null:random"), grid(2, method="null:shuffled")]
    calls: list[int] = []

    def score(one: Candidate) -> float:
        return math.sin(one.cell.points[0].layer / 4) - abs(one.dose - 0.3)

    def ask(asked: list[Candidate]) -> list[Look]:
        calls.append(len({one.method for one in asked}))
        return [Look(score(one)) for one in asked]

    both = together([coarse_to_fine(cells, "first") for cells in grids], ask)
    assert calls[0] == 3
    assert both == [looked_at_first(cells, score) for cells in grids]


def looked_at_first(cells: list[Candidate], score: Callable[[Candidate], float]) -> Seen:
    (seen,) = together([coarse_to_fine(cells, "first")], lambda asked: [Look(score(one)) for one in asked])
    return seen


def test_the_whole_grid_is_asked_at_once() -> None:
    cells = grid(32)
    calls: list[list[Candidate]] = []

    def ask(asked: list[Candidate]) -> list[Look]:
        calls.append(asked)
        return [Look(0.0)] * len(asked)

    (seen,) = together([whole(cells)], ask)
    assert calls == [cells] == [list(seen)]


@pytest.mark.parametrize("doses", [(-1.0, -0.5, 0.5, 1.0), (0.3,), (4.0, 1.0, 2.0)])
def test_grids_of_any_shape_are_searched(doses: tuple[float, ...]) -> None:
    cells = grid(40, doses)
    seen = looked_at(cells, lambda one: one.dose)
    assert max(one.dose for one in seen) == max(doses)
    assert len(seen) < len(cells)
