"""The search takes the best admissible cell, and abstains where nothing helps."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from tillerman.core.cell import Cell
from tillerman.core.errors import UnknownNameError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.selection.choice import TIES, Candidate, Constraints, search

cells = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.integers(-8000, 8000).map(lambda n: n / 1000), st.floats(0, 1)
    ),
    min_size=1,
    max_size=12,
)


def _candidates(values):
    return [
        Candidate("caa", Cell((HookPoint(i),), strength), strength / 2) for i, (_, strength, _) in enumerate(values)
    ]


def _zero():
    return Candidate("", Cell((HookPoint(0),), 0.0), 0.0)


@given(cells, st.sampled_from(TIES), st.floats(0, 1))
def test_the_chosen_cell_has_the_highest_score_of_the_admissible_ones(values, ties, limit):
    candidates = [*_candidates(values), _zero()]
    score = dict(zip(candidates, [*(s for s, _, _ in values), 0.5], strict=True))
    cost = dict(zip(candidates, [*(c for _, _, c in values), 0.0], strict=True))
    measured = []

    def measure(candidate):
        measured.append(candidate)
        return (cost[candidate], 0.0)

    found = search(candidates, score.__getitem__, Constraints(measure, (limit, 0.0)), ties)
    admissible = [c for c in candidates if c.cell.strength == 0 or cost[c] <= limit]
    assert found.chosen.candidate in admissible
    assert found.chosen.score == max(score[c] for c in admissible)
    best = [c for c in admissible if score[c] == found.chosen.score]
    deepest = max(best, key=lambda c: c.cell.points[0].layer)
    expected = {"first": best[0], "deepest": deepest, "smaller-dose": min(best, key=lambda c: abs(c.dose))}[ties]
    assert found.chosen.candidate == expected
    # every cell is reported, in order; costs were measured once, and for no cell worse than the chosen
    assert [c.candidate for c in found.scored] == candidates
    assert [c.score for c in found.scored] == [score[c] for c in candidates]
    assert len(measured) == len(set(measured))
    assert all(score[c] >= found.chosen.score for c in measured)
    for cell in found.scored:
        assert (cell.costs is not None) == (cell.candidate in measured)
        assert cell.admissible == (cell.costs is None or cell.costs[0] <= limit)


@given(cells, st.sampled_from(TIES))
def test_without_constraints_the_objective_is_asked_once_per_cell(values, ties):
    candidates, asked = _candidates(values), []

    def objective(candidate):
        asked.append(candidate)
        return values[candidates.index(candidate)][0]

    found = search(candidates, objective, None, ties)
    assert asked == candidates
    assert found.chosen.score == max(s for s, _, _ in values)


def test_it_abstains_where_steering_is_no_better_than_none():
    for first in (True, False):
        others = _candidates([(0.5, 2.0, 0), (0.5, -1.0, 0)])
        grid = [_zero(), *others] if first else [*others, _zero()]
        assert search(grid, lambda _: 0.5).chosen.candidate.cell.strength == 0


def test_a_tie_goes_to_the_smaller_dose_whatever_its_sign_or_to_the_first_as_in_pas():
    grid = _candidates([(1, 4.0, 0), (1, -1.0, 0), (1, 2.0, 0)])
    assert search(grid, lambda _: 1.0).chosen.candidate.cell.strength == -1.0
    assert search(grid, lambda _: 1.0, ties="first").chosen.candidate.cell.strength == 4.0


@pytest.mark.parametrize("second", [0.25 * (1 - 1e-7), 0.25 * (1 + 1e-7)])
def test_doses_that_differ_in_rounding_only_are_a_tie_that_goes_to_the_first(second):
    doses = (0.5, 0.25, second)
    candidates = [Candidate(f"m{k}", Cell((HookPoint(k),), dose), dose) for k, dose in enumerate(doses)]
    assert search(candidates, lambda _: 1.0).chosen.candidate == candidates[1]


def test_a_cost_that_is_not_a_number_is_not_within_any_limit():
    grid = [*_candidates([(1, 4.0, 0)]), _zero()]
    found = search(grid, lambda c: c.cell.strength, Constraints(lambda _: (math.nan,), (math.inf,)))
    assert found.chosen.candidate.cell.strength == 0
    assert not found.scored[0].admissible


@pytest.mark.parametrize("at", [0, 1, 2])
def test_an_objective_that_is_not_a_number_is_refused_and_its_cell_named(at):
    grid = _candidates([(1, 4.0, 0), (1, 2.0, 0), (1, 1.0, 0)])
    with pytest.raises(UsageError, match=rf"caa at layers\.{at}\.resid_post.*not a number"):
        search(grid, lambda c: math.nan if c is grid[at] else 0.5)


def test_a_grid_without_0_in_which_nothing_is_admissible_says_what_to_do():
    with pytest.raises(UsageError, match="no cell keeps to the budget; keep strength 0 in the grid"):
        search(_candidates([(1, 4.0, 0)]), lambda _: 1.0, Constraints(lambda _: (9.0,), (1.0,)))


def test_an_empty_grid_is_refused():
    with pytest.raises(UsageError, match="nothing to choose from"):
        search([], lambda _: 1.0)


def test_an_unknown_tie_rule_is_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'first'"):
        search([_zero()], lambda _: 1.0, ties="frist")


def test_costs_and_limits_of_different_number_are_a_mistake():
    with pytest.raises(ValueError, match="argument"):
        search(_candidates([(1, 4.0, 0)]), lambda _: 1.0, Constraints(lambda _: (1.0, 2.0), (1.0,)))
