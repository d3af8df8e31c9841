"""Values of files are checked against their types, and the first that does not fit is named by its place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tillerman.core.decoding import Misfit, build, decoded, take
from tillerman.core.errors import HookPointError
from tillerman.core.hookpoint import HookPoint


@dataclass(frozen=True)
class Inner:
    value: float
    n: int = 0


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    several: tuple[Inner, ...] = ()
    pair: tuple[float, str] = (0.0, "")
    maybe: Inner | None = None
    flag: bool = False
    table: Mapping[str, int] | None = None
    anything: Any = None


WHOLE = Outer("x", Inner(1.5, 2), (Inner(0.0), Inner(-1.0)), (2.0, "s"), Inner(3.0), True, {"a": 1}, [1, None])


def test_a_value_comes_back_from_its_json():
    assert build(Outer, json.loads(json.dumps(asdict(WHOLE)))) == WHOLE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": 7}, "name: expected a text, got a whole number"),
        ({"name": None}, "name: expected a text, got nothing"),
        ({"inner": []}, "inner: expected fields, got a list"),
        ({"inner": {"n": 1}}, "inner.value: missing"),
        ({"inner": {"value": "1"}}, "inner.value: expected a number, got a text"),
        ({"inner": {"value": True}}, "inner.value: expected a number, got true or false"),
        ({"inner": {"value": 1, "n": 1.5}}, "inner.n: expected a whole number, got a number"),
        ({"inner": {"value": 10**400}}, "inner.value: a number of more than 300 digits"),
        ({"several": "ab"}, "several: expected a list, got a text"),
        ({"several": [{"value": 1}, 3]}, "several[1]: expected fields, got a whole number"),
        ({"pair": [1.0]}, "pair: expected 2 values, got 1"),
        ({"maybe": 1}, "maybe: expected fields, got a whole number"),
        ({"flag": 1}, "flag: expected true or false, got a whole number"),
        ({"table": {"a": "b"}}, "table.a: expected a whole number, got a text"),
        ({"table": [1]}, "table: expected fields, got a list"),
    ],
)
def test_what_does_not_fit_is_named_by_its_place(change, said):
    with pytest.raises(Misfit) as refused:
        build(Outer, {**asdict(WHOLE), **change})
    assert str(refused.value) == said


def test_a_whole_number_is_a_number_and_the_other_way_round_where_nothing_is_lost():
    assert (decoded(float, 3), decoded(int, 3.0), decoded(float | None, None)) == (3.0, 3, None)
    assert type(decoded(float, 3)) is float and type(decoded(int, 3.0)) is int


def test_fields_of_a_newer_writer_are_left_out_and_missing_ones_are_named():
    assert build(Inner, {"value": 1.0, "colour": "blue"}) == Inner(1.0)
    with pytest.raises(Misfit, match=r"^strength: missing$"):
        take({}, "strength", float)
    assert take({}, "strength", float, 1.0) == 1.0


def test_what_a_value_itself_refuses_keeps_its_words():
    with pytest.raises(HookPointError, match="layer -1"):
        build(HookPoint, {"layer": -1})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "inner", "value", "n"]), inner)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*asdict(WHOLE)]), JSON))
def test_any_json_is_either_read_or_refused_with_its_place(values):
    try:
        made = build(Outer, {**asdict(WHOLE), **values})
    except Misfit as refused:
        assert str(refused).split(":")[0].split(".")[0].split("[")[0] in asdict(WHOLE)
    else:
        assert isinstance(made.inner, Inner) and isinstance(made.name, str)
