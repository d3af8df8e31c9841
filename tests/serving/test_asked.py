"""The field ``steering``: every form, and what is none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings, strategies as st

from tillerman.core.named_plan import NamedPart
from tillerman.core.plan import SCOPES
from tillerman.serving.asked import Wanted, read_steering
from tillerman.serving.refusals import Refusal

NAMES = st.text("abcxyz09._-", min_size=1, max_size=12)
DOSES = st.none() | st.floats(-2, 2).map(lambda x: round(x, 3))
PLACES = st.none() | st.sampled_from([name for name in SCOPES if name != "positions"]) | st.just("positions:0,-1")
PARTS = st.builds(NamedPart, NAMES, DOSES, PLACES)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=30)
@given(st.lists(PARTS, min_size=1, max_size=4))
def test_text_list_and_objects_say_the_same_plan(parts: list[NamedPart]) -> None:
    meant = tuple(Wanted(part) for part in parts)
    fields = ("artefact", "dose", "scope")
    objects = [dict(zip(fields, (part.name, part.dose, part.scope), strict=True)) for part in parts]
    assert read_steering("+".join(map(str, parts))) == meant
    assert read_steering([str(part) for part in parts]) == meant
    assert read_steering(json.loads(json.dumps(objects))) == meant


def test_a_strength_stands_in_place_of_a_dose() -> None:
    (one,) = read_steering([{"artefact": "calm", "strength": 2, "scope": "last"}]) or ()
    assert one == Wanted(NamedPart("calm", None, "last"), 2.0)


def test_none_is_not_said_and_an_empty_list_is_none_at_all() -> None:
    assert read_steering(None) is None
    assert read_steering([]) == ()


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("", "expected a name"),
        ("honesty@", "expected a dose"),
        ("honesty@0.4:everywhere", "everywhere"),
        ({"artefact": "honesty"}, "a list of objects"),
        (7, "a list of objects"),
        ([7], "part 1"),
        ([{"artefact": "honesty", "dose": 1, "strength": 1}], "not both"),
        ([{"artefact": "honesty", "dose": float("nan")}], "finite"),
        ([{"artefact": "honesty", "strength": float("inf")}], "finite"),
        ([{"artefact": "honesty", "strength": True}], "strength is a number"),
        ([{"artefact": "honesty", "dose": 10**400}], "int too large"),
        ([{"artefact": "honesty", "strength": 10**400}], "int too large"),
        ([{"artefact": "honesty", "colour": "red"}], "colour"),
        ([{"dose": 0.4}], "artefact"),
        (["honesty@0.4", "calm@x"], "calm@x"),
    ],
)
def test_what_is_no_plan_is_refused_with_the_place(value: object, word: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_steering(value)
    assert refused.value.code == "malformed" and refused.value.param == "steering"
    assert word in str(refused.value)


@settings(max_examples=80)
@given(JSON)
def test_any_json_is_read_or_refused(value: object) -> None:
    try:
        read_steering(value)
    except Refusal as refused:
        assert refused.status == 400 and 0 < len(str(refused)) < 700
