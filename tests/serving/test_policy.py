"""Who may steer by what, and how strongly: every refusal, and sums that are sums."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tillerman.core.artefact import Artefact
from tillerman.core.cell import Cell
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Scope
from tillerman.core.steerings.vector import SteeringVector
from tillerman.serving.artefacts import Served
from tillerman.serving.asked import read_steering
from tillerman.serving.doses import total_doses
from tillerman.serving.keys import find_key, hash_of, new_key
from tillerman.serving.plans import ServedPlan, ensure_meets, make_plan
from tillerman.serving.policy import (
    ANONYMOUS,
    Caller,
    caller_of,
    cap_of,
    ensure_admin,
    ensure_few,
    ensure_names,
    ensure_within,
)
from tillerman.serving.rates import Rates
from tillerman.serving.refusals import CODES, Refusal
from tillerman.serving.settings import ArtefactRule, KeySettings, PolicySettings

from .. import tiny

POINT = HookPoint(0)


def served(name: str, one: Artefact) -> Served:
    return Served(name, one, name.encode().hex().ljust(64, "0"), None)


def vector(values: list[float]) -> SteeringVector:
    """In a stream whose norm is 1, so that a length is a dose."""
    return SteeringVector({POINT: torch.tensor(values)}, {POINT: 1.0}, tiny.provenance(width=len(values)))


def one_way(values: list[float], scope: str = "all") -> Artefact:
    made_vector = vector(values)
    return Artefact(made_vector, Cell.of(made_vector, scope=Scope(scope)))


LIBRARY = MappingProxyType(
    {
        name: served(name, one)
        for name, one in {
            "east": one_way([1.0, 0.0]),
            "north": one_way([0.0, 1.0]),
            "also-east": one_way([1.0, 0.0], "prompt"),
            "west": one_way([-1.0, 0.0], "last"),
        }.items()
    }
)


def plan(value: Any) -> ServedPlan:
    return make_plan(read_steering(value) or (), LIBRARY, Scope.parse)


def refusal(value: Any, policy: PolicySettings | None = None, caller: Caller = ANONYMOUS) -> Refusal:
    asked = read_steering(value) or ()
    with pytest.raises(Refusal) as refused:
        ensure_few(asked, policy or PolicySettings())
        ensure_names(asked, caller, LIBRARY)
        ensure_within(make_plan(asked, LIBRARY, Scope.parse), caller, policy or PolicySettings())
    return refused.value


def test_a_dose_over_the_cap_is_refused_and_one_at_it_is_not() -> None:
    for dose in (1.0, -1.0):
        ensure_within(plan(f"east@{dose}"), ANONYMOUS, PolicySettings())
    for dose in (1.001, -1.001, 1e300):
        assert refusal(f"east@{dose}").code == "over_cap"
    assert refusal([{"artefact": "east", "strength": 3.0}]).code == "over_cap"


def test_the_lowest_of_server_key_and_artefact_is_the_cap() -> None:
    policy = PolicySettings(max_dose=0.9, artefacts={"east": ArtefactRule(0.5)})
    assert cap_of("north", ANONYMOUS, policy) == 0.9
    assert cap_of("east", ANONYMOUS, policy) == 0.5
    assert cap_of("east", Caller(max_dose=0.2), policy) == 0.2
    assert refusal("east@0.3", policy, Caller(max_dose=0.2)).code == "over_cap"


def test_two_vectors_of_one_direction_are_as_far_as_their_sum() -> None:
    """0.9 and 0.9 are 1.8; at a right angle they are 1.27."""
    refused = refusal("east@0.9+also-east@0.9")
    assert refused.code == "over_cap" and "dose 1.8 at layers.0.resid_post" in str(refused)
    ensure_within(plan("east@0.9+north@0.9"), ANONYMOUS, PolicySettings())


def test_what_cancels_counts_as_cancelled_only_where_it_always_meets() -> None:
    """``west`` acts on the last token alone: before it, ``east`` and ``also-east`` add up."""
    assert total_doses(plan("east@0.9+east@-0.9").plan)[POINT] == pytest.approx(0)
    assert refusal("east@0.9+also-east@0.9+west@0.9").code == "over_cap"


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(-2, 2), st.sampled_from(["all", "prompt", "last"])),
        min_size=1,
        max_size=5,
    )
)
def test_no_token_gets_more_than_the_total_says(parts: list[tuple[float, float, float, str]]) -> None:
    """Against a token of the prompt, the last one, and one that was made, each added up by hand."""
    usable = [(x, y, k, scope) for x, y, k, scope in parts if abs(x) + abs(y) > 0.01]
    interventions = [
        Cell.of(v := vector([x, y]), strength=k, scope=Scope(scope)).plan(v)[0] for x, y, k, scope in usable
    ]
    if not interventions:
        return
    total = total_doses(tuple(interventions))[POINT]
    for there in ({"all", "prompt"}, {"all", "prompt", "last"}, {"all"}):
        x = sum(k * a for a, _, k, scope in usable if scope in there)
        y = sum(k * b for _, b, k, scope in usable if scope in there)
        assert (x * x + y * y) ** 0.5 <= total + 1e-4


def test_names_out_of_the_allow_list_are_forbidden_and_unknown_ones_unknown() -> None:
    alice = Caller("alice", ("east",))
    assert refusal("north@0.1", caller=alice).code == "forbidden"
    unknown = refusal("nord@0.1", caller=alice)
    assert unknown.code == "unknown_artefact" and unknown.status == 400
    ensure_names(read_steering("east@0.1") or (), alice, LIBRARY)


def test_an_artefact_may_be_kept_to_some_scopes() -> None:
    policy = PolicySettings(artefacts={"east": ArtefactRule(scopes=("generated",))})
    assert refusal("east@0.1", policy).code == "forbidden"
    ensure_within(plan("east@0.1:generated"), ANONYMOUS, policy)


def test_too_many_parts_are_refused() -> None:
    assert refusal(["east@0.01"] * 9).code == "over_cap"


def test_a_scope_that_meets_no_token_is_refused() -> None:
    def ask(scope: Scope) -> None:
        one = Artefact(vector([1.0, 0.0]), Cell((POINT,), 0.1, "add", scope))
        library = {"it": served("it", one)}
        ensure_meets(make_plan(read_steering("it") or (), library, Scope.parse), (5, 6, 7), 4)

    ask(Scope("after_instruction", marker=(6, 7)))
    ask(Scope("positions", (-3, 6)))
    for scope in (Scope("after_instruction", marker=(7, 6)), Scope("positions", (7,)), Scope("positions", (0, 10**30))):
        with pytest.raises(Refusal) as refused:
            ask(scope)
        assert refused.value.code == "no_token"


def test_a_fingerprint_tells_what_is_done_and_not_what_it_is_called() -> None:
    same = {"other-name": Served("other-name", LIBRARY["east"].artefact, LIBRARY["east"].sha256, None)}
    renamed = make_plan(read_steering("other-name@0.3") or (), same, Scope.parse)
    assert renamed.fingerprint == plan("east@0.3").fingerprint
    told = {
        plan(value).fingerprint for value in ([], "east@0.3", "east@0.31", "east@0.3:last", "north@0.3", "east+north")
    }
    assert len(told) == 6 and all(len(one) == 16 for one in told)


def test_keys_are_found_by_their_hash_and_nothing_else_opens() -> None:
    key = new_key()
    keys = (KeySettings("bob", "0" * 64), KeySettings("alice", hash_of(key), ("east",), 0.5, 3, True))
    assert find_key(key, keys) == keys[1] and find_key(keys[1].sha256, keys) is None
    alice = caller_of(f"Bearer {key}", keys)
    assert alice == Caller("alice", ("east",), 0.5, 3, True)
    for header in (None, "", key, f"Basic {key}", f"Bearer {key}x", "Bearer ", "Bearer \udc80"):
        with pytest.raises(Refusal) as refused:
            caller_of(header, keys)
        assert refused.value.status == 401 and key not in str(refused.value)
    assert caller_of(None, ()) == ANONYMOUS


def test_only_an_admin_key_is_admin() -> None:
    ensure_admin(Caller("root", admin=True))
    with pytest.raises(Refusal, match="admin"):
        ensure_admin(ANONYMOUS)


def test_a_key_may_ask_so_often_a_minute_and_then_waits() -> None:
    now = [0.0]
    rates, alice = Rates(lambda: now[0]), Caller("alice", requests_per_minute=2)
    rates.take(alice)
    rates.take(alice)
    with pytest.raises(Refusal) as refused:
        rates.take(alice)
    assert refused.value.status == 429 and refused.value.retry_after == pytest.approx(30)
    rates.take(Caller("bob", requests_per_minute=2))
    now[0] = 30.0
    rates.take(alice)
    for _ in range(100):
        rates.take(ANONYMOUS)


def test_every_code_is_a_clients_or_a_servers_fault() -> None:
    assert all(400 <= status < 600 and status != 500 for status, _ in CODES.values())
