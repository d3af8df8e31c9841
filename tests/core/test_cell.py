"""A cell says how a steering is applied; doses, plans and JSON follow from it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, strategies as st

from tillerman.core.cell import Cell
from tillerman.core.errors import HookPointError, UnknownNameError, UsageError
from tillerman.core.gates import SimilarityGate
from tillerman.core.hookpoint import SITES, HookPoint
from tillerman.core.operators import OPERATORS
from tillerman.core.plan import Intervention, Scope

from .. import tiny

ids = st.lists(st.integers(0, 99), max_size=3).map(tuple)
scopes = st.one_of(
    st.sampled_from([Scope(), Scope("last"), Scope("generated"), Scope("prompt")]),
    st.lists(st.integers(-9, 9), min_size=1).map(lambda places: Scope("positions", tuple(places))),
    st.builds(lambda marker: Scope("after_instruction", marker=marker), ids),
    st.builds(lambda marker: Scope("assistant_turns", marker=marker, closing=(100,)), ids),
    st.builds(lambda m, o, c: Scope("thinking", marker=m, opening=o, closing=c), ids, ids, ids),
    st.builds(lambda marker: Scope("not_in_code", marker=marker), ids),
)
points = st.lists(st.builds(HookPoint, st.integers(0, 30), st.sampled_from(SITES)), min_size=1, max_size=5).map(tuple)
cells = st.builds(Cell, points, st.floats(0, 1), st.sampled_from(sorted(OPERATORS)), scopes) | st.builds(
    Cell, points, st.floats(allow_nan=False, allow_infinity=False), st.just("add"), scopes
)


@given(cells)
def test_a_cell_comes_back_from_json_as_it_was(cell):
    assert Cell.from_json(json.loads(json.dumps(cell.to_json()))) == cell


def test_the_pieces_of_not_in_code_belong_to_a_tokenizer_and_are_left_out():
    cell = Cell((HookPoint(0),), scope=Scope("not_in_code", marker=(4,), piece=str))
    assert Cell.from_json(cell.to_json()) == replace(cell, scope=Scope("not_in_code", marker=(4,)))


def test_the_order_of_hook_points_makes_no_other_cell():
    ordered = Cell((HookPoint(0), HookPoint(1)))
    assert Cell((HookPoint(1), HookPoint(0), HookPoint(1))) == ordered
    assert hash(Cell((HookPoint(1), HookPoint(0)))) == hash(ordered)


def test_its_plan_is_the_steering_at_its_points_under_the_gate():
    vector = tiny.vector(0, 1, 2)
    gate = SimilarityGate(torch.ones(tiny.WIDTH), HookPoint(0), 0.1)
    cell = Cell((HookPoint(1),), 0.5, "ablate", Scope("last"))
    (item,) = cell.plan(vector, gate)
    assert isinstance(item, Intervention) and item.steering.points == (HookPoint(1),)
    assert (item.strength, item.operator, item.scope, item.gate) == (0.5, "ablate", Scope("last"), gate)


def test_its_dose_is_the_mean_over_its_hook_points_and_is_inverted_by_a_strength():
    norms = {HookPoint(0): 2.0, HookPoint(1): 8.0}
    vector = replace(tiny.vector(0, 1), directions=dict.fromkeys(norms, torch.eye(tiny.WIDTH)[0]), stream_norms=norms)
    cell = Cell(tuple(norms), 4.0)
    assert cell.dose(vector) == pytest.approx((4 / 2 + 4 / 8) / 2)
    assert cell.at_dose(0.3, vector).dose(vector) == pytest.approx(0.3)
    assert cell.at_dose(-0.3, vector).strength < 0
    assert cell.scaled(-0.5).strength == -2.0
    assert cell.at(7.0) == replace(cell, strength=7.0)


def test_a_clamped_atom_is_replaced_by_an_added_direction_and_nothing_else_is():
    draw = tiny.vector(0)
    assert Cell((HookPoint(0),), operator="clamp_atom").for_draw(draw).operator == "add"
    assert Cell((HookPoint(0),), operator="ablate").for_draw(draw).operator == "ablate"


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Cell(()), UsageError, "at least one hook point"),
        (lambda: Cell((HookPoint(0),), float("inf")), UsageError, "expected a finite number"),
        (lambda: Cell((HookPoint(0),), operator="ad"), UnknownNameError, "Did you mean 'add'"),
        (lambda: Cell((HookPoint(0),), 2.0, "replace"), UsageError, "expected 0 to 1"),
        (lambda: Cell((HookPoint(5),)).dose(tiny.vector(0)), HookPointError, r"layers\.5\.resid_post: fitted at"),
        (lambda: Cell((HookPoint(5),)).plan(tiny.vector(0)), HookPointError, r"layers\.5\.resid_post: fitted at"),
    ],
)
def test_a_cell_that_cannot_be_says_why(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_cell_reads_as_one_line():
    assert str(Cell((HookPoint(1), HookPoint(2)), 0.25)) == "layers.1-2.resid_post, strength 0.25, scope all"
    told = str(Cell((HookPoint(1),), 1.0, "ablate", Scope("last")))
    assert told == "layers.1.resid_post, strength 1, operator ablate, scope last"
