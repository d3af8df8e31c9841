"""Plans as lanes agree with the scopes of ``steer``, whatever the prompt and however it is cut."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from tillerman.core.errors import UsageError
from tillerman.core.gates import ProbeGate
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.models.batches import padded
from tillerman.serving.lane_rows import LaneRows
from tillerman.serving.lanes import SCOPES, LanePlan, lane_plan, problem, treatment
from tillerman.serving.pulls import in_order
from tillerman.steering.scopes import meant_after, meant_in

from .. import tiny

POINTS = (HookPoint(1), HookPoint(2), HookPoint(2, "resid_pre"))
VECTORS = tuple(tiny.vector(point, size=1 + i) for i, point in enumerate(POINTS))
DIGESTS = ("aa", "bb", "cc")
TOKENS = st.integers(3, 6)  # few, so that markers occur
prompts = st.lists(TOKENS, min_size=1, max_size=12).map(tuple)


@st.composite
def scopes(draw):
    name = draw(st.sampled_from(SCOPES))
    if name == "positions":
        return Scope(name, positions=tuple(draw(st.lists(st.integers(-6, 9), min_size=1, max_size=3))))
    if name == "assistant_turns":
        closing, *marker = draw(st.lists(TOKENS, min_size=2, max_size=3, unique=True))
        return Scope(name, marker=tuple(marker), closing=(closing,))
    marker = tuple(draw(st.lists(TOKENS, min_size=1, max_size=2))) if name == "after_instruction" else ()
    return Scope(name, marker=marker)


@st.composite
def plans(draw, operators=("add",)):
    """A lane plan over the three vectors, with equal strengths among them."""
    items, digests = [], []
    for _ in range(draw(st.integers(1, 4))):
        which = draw(st.integers(0, len(VECTORS) - 1))
        strength = draw(st.sampled_from((0.0, 0.5, -1.0, 2.0)))
        operator = draw(st.sampled_from(operators))
        items.append(Intervention(VECTORS[which], strength, operator, draw(scopes())))
        digests.append(DIGESTS[which])
    return tuple(items), tuple(digests)


def _meant(scope, prompt, steps):
    batch = padded([prompt], pad=0)
    return [*meant_in(scope, batch)[0].tolist(), *meant_after(scope, batch, steps)[0].tolist()]


@settings(max_examples=60)
@given(prompts, scopes(), st.integers(1, 6))
def test_the_spans_of_a_scope_are_the_tokens_that_steer_means(prompt, scope, steps):
    (step,) = lane_plan((Intervention(VECTORS[0], 1.0, scope=scope),), ("aa",)).steps
    spans = step.spans(prompt)
    found = [any(a <= at and (b is None or at < b) for a, b in spans) for at in range(len(prompt) + steps)]
    assert found == _meant(scope, prompt, steps)


@settings(max_examples=60)
@given(prompts, plans(), st.integers(1, 6))
def test_lanes_hold_at_every_position_the_sum_of_what_is_active_there(prompt, plan, steps):
    items, digests = plan
    whole = lane_plan(items, digests)
    lanes = whole.lanes(prompt)
    assert lanes[0].start == 0
    assert all(one.start < other.start and one.pulls != other.pulls for one, other in pairwise(lanes))
    meant = [_meant(item.scope, prompt, steps) for item in items]
    for at in range(len(prompt) + steps):
        pulls = [lane.pulls for lane in lanes if lane.start <= at][-1]
        total = {}
        for item, digest, here in zip(items, digests, meant, strict=True):
            if here[at]:
                total[digest] = total.get(digest, 0.0) + item.strength
        assert {pull.digest: pull.strength for pull in pulls} == {d: s for d, s in total.items() if s}
        assert pulls == in_order(pulls)
    assert whole.touched(prompt, len(prompt) + steps) == tuple(map(sum, meant))


@settings(max_examples=60)
@given(prompts, plans(), st.data())
def test_the_rows_of_chunks_are_those_of_the_whole_and_every_row_comes_back(prompt, plan, data):
    table = {}
    rows = LaneRows(12, lambda row, pulls: table.__setitem__(row, pulls))
    lanes = lane_plan(*plan).lanes(prompt)
    rows.acquire("mine", lanes)
    rows.acquire("other", lanes)  # shares every row
    assert rows.in_use == len({lane.pulls for lane in lanes if lane.pulls})
    length = len(prompt) + 5
    whole, pieces = np.full(length, -1), np.full(length + 3, -1)
    assert rows.fill(whole, ["mine"], [length], [0]) == length
    at = 0
    while at < length:
        size = data.draw(st.integers(1, length - at))
        # An unsteered neighbour stands before it in every step.
        assert rows.fill(pieces, ["plain", "mine"], [3, size], [7, at]) == size + 3
        assert pieces[:3].tolist() == [0, 0, 0]
        assert pieces[3 : 3 + size].tolist() == whole[at : at + size].tolist()
        at += size
    expected = [[lane.pulls for lane in lanes if lane.start <= at][-1] for at in range(length)]
    assert [table.get(row, ()) for row in whole.tolist()] == expected
    rows.release("mine")
    assert rows.in_use == len({lane.pulls for lane in lanes if lane.pulls})
    rows.release("other")
    assert (rows.in_use, rows.requests) == (0, frozenset())


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.tuples(prompts, plans())), max_size=20))
def test_rows_are_held_by_those_who_run_only_whatever_the_order(steps):
    held, rows = {}, LaneRows(60, lambda row, pulls: None)
    for request, asked in steps:
        if asked is None:
            rows.release(request)
            held.pop(request, None)
        else:
            prompt, plan = asked
            held[request] = lane_plan(*plan).lanes(prompt)
            rows.acquire(request, held[request])
        assert rows.in_use == len({lane.pulls for lanes in held.values() for lane in lanes if lane.pulls})
        assert rows.requests == set(held)


def test_a_table_without_room_refuses_a_request_and_keeps_what_it_has():
    rows = LaneRows(1, lambda row, pulls: None)
    one = lane_plan((Intervention(VECTORS[0], 1.0),), ("aa",)).lanes((3, 4))
    two = lane_plan((Intervention(VECTORS[0], 2.0, scope=Scope("last")),), ("aa",)).lanes((3, 4))
    rows.acquire("a", one)
    with pytest.raises(UsageError, match="1 rows of steering are needed and 0 of 1 are free"):
        rows.acquire("b", two)
    assert (rows.in_use, rows.requests) == (1, {"a"})
    rows.release("a")
    rows.acquire("b", two)


def test_a_row_that_cannot_be_written_is_free_again():
    def fails(row, pulls):
        raise UsageError("no such artefact")

    rows = LaneRows(2, fails)
    with pytest.raises(UsageError, match="no such artefact"):
        rows.acquire("a", lane_plan((Intervention(VECTORS[0], 1.0),), ("aa",)).lanes((3, 4)))
    assert (rows.in_use, rows.requests) == (0, frozenset())


@settings(max_examples=60)
@given(prompts, plans(operators=("add", "ablate")), plans(operators=("add", "ablate")), st.integers(1, 4))
def test_two_requests_share_a_cached_block_only_if_all_of_it_was_treated_alike(prompt, one, other, size):
    a, b = (lane_plan(*plan).lanes(prompt) for plan in (one, other))
    for start in range(0, len(prompt), size):
        end = start + size
        at = range(start, end)
        alike = [[lane.pulls for lane in a if lane.start <= p][-1] for p in at] == [
            [lane.pulls for lane in b if lane.start <= p][-1] for p in at
        ]
        assert (treatment(a, start, end) == treatment(b, start, end)) == alike


def test_an_answer_of_one_turn_is_not_the_same_when_it_comes_back_as_a_prompt():
    plan = lane_plan((Intervention(VECTORS[0], 1.0, scope=Scope("generated")),), ("aa",))
    first, second = plan.lanes(tuple(range(8))), plan.lanes(tuple(range(16)))
    assert treatment(first, 0, 4) == treatment(second, 0, 4) == ""  # the beginning is shared with everybody
    assert treatment(first, 8, 12) != treatment(second, 8, 12)


def test_an_earlier_answer_of_assistant_turns_is_treated_alike_when_it_comes_back_as_a_prompt():
    scope = Scope("assistant_turns", marker=(3,), closing=(4,))
    plan = lane_plan((Intervention(VECTORS[0], 1.0, scope=scope),), ("aa",))
    first, second = plan.lanes((5, 5, 5, 3)), plan.lanes((5, 5, 5, 3, 6, 6, 6, 6, 4, 5, 5, 3))
    for start in (0, 4):  # the prompt, and the answer that was made after it
        assert treatment(first, start, start + 4) == treatment(second, start, start + 4) != ""
    assert [(lane.start, len(lane.pulls)) for lane in second] == [(0, 0), (3, 1), (8, 0), (11, 1)]


@given(plans(operators=("add", "ablate", "clamp")))
def test_a_plan_comes_back_from_its_text(plan):
    made = lane_plan(*plan)
    assert LanePlan.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    "bad",
    [
        "all",
        [{}],
        [{"scope": {"name": "thinking", "positions": [], "marker": []}, "pulls": []}],
        [{"scope": Scope().to_json(), "pulls": [[1, "aa", "layers.2.resid_post", 1.0, "add"]]}],
        [{"scope": Scope().to_json(), "pulls": [[1, "aa", "layers.1.resid_post", float("nan"), "add"]]}],
        [{"scope": Scope().to_json(), "pulls": [[1, 2, "layers.1.resid_post", 1.0, "add"]]}],
        [{"scope": Scope().to_json(), "pulls": [[1, "aa", "layers.1.resid_post", 1.0]]}],
        [{"scope": Scope().to_json(), "pulls": [[1, "aa", "layers.1.resid_post", 1.0, "rotate"]]}],
        [{"scope": Scope().to_json(), "pulls": [], "more": 1}],
    ],
)
def test_what_is_no_plan_of_lanes_is_refused(bad):
    with pytest.raises((UsageError, ValueError)):
        LanePlan.from_json(bad)


PLAIN = Intervention(VECTORS[0], 1.0)


@pytest.mark.parametrize(
    ("item", "why"),
    [
        (replace(PLAIN, operator="rotate"), "operator 'rotate'"),
        (replace(PLAIN, scope=Scope("not_in_code")), "scope 'not_in_code'"),
        (replace(PLAIN, scope=Scope("after_instruction")), "has no marker"),
        (replace(PLAIN, scope=Scope("assistant_turns")), "has no marker"),
        (Intervention(tiny.vector(HookPoint(1, "mlp_out"))), r"layers\.1\.mlp_out"),
        (Intervention(tiny.vector(HookPoint(0, "resid_pre"))), r"layers\.0\.resid_pre"),
        (replace(PLAIN, gate=ProbeGate(torch.ones(tiny.WIDTH), 0.0, HookPoint(0))), "a gate"),
    ],
)
def test_a_plan_that_no_lanes_can_hold_says_why(item, why):
    with pytest.raises(UsageError, match=why):
        lane_plan((item,), ("aa",))
    assert problem((PLAIN,)) is None
