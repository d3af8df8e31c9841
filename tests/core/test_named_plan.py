"""Named plans: their text and JSON come back as they were, mistakes are placed, and artefacts make them plans."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, strategies as st

from tillerman.core.artefact import Artefact
from tillerman.core.cell import Cell
from tillerman.core.errors import ArtefactError, UnknownNameError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.named_plan import NamedPart, NamedPlan
from tillerman.core.plan import SCOPES, Scope

from .. import tiny

places = st.lists(st.integers(-999, 999), min_size=1, max_size=5)
scopes = st.sampled_from([None, *(name for name in SCOPES if name != "positions")]) | places.map(
    lambda each: f"positions:{','.join(map(str, each))}"
)
names = st.text(min_size=1) | st.text('ab1 "+@:,./-', min_size=1)
doses = st.none() | st.floats(allow_nan=False, allow_infinity=False)
parts = st.builds(NamedPart, names, doses, scopes)
plans = st.builds(NamedPlan, st.lists(parts, min_size=1, max_size=4).map(tuple))


@given(plans)
def test_what_a_plan_prints_is_read_as_the_same_plan(plan):
    assert NamedPlan.parse(str(plan)) == plan


@given(plans)
def test_a_plan_comes_back_from_json_as_it_was(plan):
    assert NamedPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("science", [NamedPart("science")]),
        ("science@0.3:after_instruction", [NamedPart("science", 0.3, "after_instruction")]),
        ("calm@-0.2", [NamedPart("calm", -0.2)]),
        ("calm:all", [NamedPart("calm", None, "all")]),
        (" runs/a-1.safetensors@1e-2 + b@.5 ", [NamedPart("runs/a-1.safetensors", 0.01), NamedPart("b", 0.5)]),
        ("a:positions:0,5,-1+b@2", [NamedPart("a", None, "positions:0,5,-1"), NamedPart("b", 2.0)]),
        ("a@1e+2+b", [NamedPart("a", 100.0), NamedPart("b")]),
        ('"my ""best"", v2"@1:last', [NamedPart('my "best", v2', 1.0, "last")]),
    ],
)
def test_a_text_says_which_artefacts_at_which_dose_on_which_tokens(text, expected):
    assert NamedPlan.parse(text).parts == tuple(expected)


def test_whole_doses_and_plain_names_are_written_without_ornament():
    assert str(NamedPlan((NamedPart("a", 2.0, "all"), NamedPart("b c", -0.25)))) == 'a@2:all+"b c"@-0.25'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "at its end.*expected a name"),
        ("@0.3", r"character 1 \(at '@0.3'\): expected a name"),
        ("a@", r"character 3 \(at its end\): expected a dose"),
        ("a@strong", r"character 3 \(at 'strong'\): expected a dose, a number"),
        ("a@0.3,b@0.2", r"character 6 \(at ',b@0.2'\): expected '\+' and another artefact"),
        ("a@0.3:", r"character 7 \(at its end\): expected a scope"),
        ("a@0.3:everywhere+b", r"character 7 \(at 'everywhere\+b'\): no scope named 'everywhere'; known: .*all"),
        ("a:positions:0,x", r"character 3 .*write positions as 'positions:0,5,-1'"),
        ("a:positions", "character 3 .*"),
        ("a+", r"character 3 \(at its end\): expected a name"),
        ('"a@1', "the quotes are not closed"),
        ("a@1e999", r"character \d.*expected a finite number"),
    ],
)
def test_a_mistake_is_placed_and_a_right_plan_is_shown(text, words):
    with pytest.raises(UsageError, match=words) as error:
        NamedPlan.parse(text)
    example = str(error.value).rpartition("Write it as '")[2].removesuffix("'")
    assert str(NamedPlan.parse(example)) == example


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ([], UsageError, "at least one artefact"),
        ("science", UsageError, "a list of parts"),
        ({"artefact": "science"}, UsageError, "a list of parts"),
        (["science"], UsageError, "part 1: expected an object"),
        ([{"artefact": "a"}, {"dose": 1}], UsageError, "part 2: artefact and scope are texts"),
        ([{"artefact": "a", "dose": "1"}], UsageError, "dose is a number"),
        ([{"artefact": "a", "dose": True}], UsageError, "dose is a number"),
        ([{"artefact": "a", "strength": 1}], UnknownNameError, "no field of a plan's part 1 named 'strength'"),
        ([{"artefact": "a", "scope": "al"}], UnknownNameError, "Did you mean 'all'"),
    ],
)
def test_json_that_is_no_plan_names_the_part(values, error, words):
    with pytest.raises(error, match=words):
        NamedPlan.from_json(values)


def _artefact(layer: int = 1, scope: Scope = Scope("after_instruction", marker=(4,))) -> Artefact:  # noqa: B008
    return Artefact(tiny.vector(0, layer), Cell((HookPoint(layer),), 3.0, scope=scope))


def test_a_part_changes_dose_and_scope_of_the_artefacts_cell_and_nothing_else():
    artefact = _artefact()
    assert NamedPart("a").cell(artefact) == artefact.cell
    cell = NamedPart("a", 0.3, "positions:0,-1").cell(artefact)
    assert cell.dose(artefact.steering) == pytest.approx(0.3)
    assert cell == Cell((HookPoint(1),), cell.strength, "add", Scope("positions", (0, -1)))


def test_the_artefacts_own_scope_keeps_its_marks_and_another_is_made_by_the_caller():
    made = {name: Scope(name, marker=(7,)) for name in ("after_instruction", "not_in_code")}
    assert NamedPart("a", scope="after_instruction").cell(_artefact(), made.__getitem__).scope.marker == (4,)
    assert NamedPart("a", scope="not_in_code").cell(_artefact(), made.__getitem__).scope == made["not_in_code"]


def test_not_in_code_is_made_anew_after_loading_since_files_cannot_hold_it():
    whole = Scope("not_in_code", marker=(7,), piece=str)
    bare = _artefact(scope=Scope("not_in_code", marker=(7,)))
    assert NamedPart("a").cell(bare, lambda _: whole).scope is whole
    kept = _artefact(scope=whole)
    assert NamedPart("a").cell(kept, lambda _: Scope()).scope is whole


def test_how_an_artefact_is_applied_by_itself_is_a_part():
    artefact = _artefact()
    part = NamedPart.of("a", artefact)
    assert part.scope == "after_instruction" and part.dose == pytest.approx(artefact.dose, rel=1e-4)
    assert part.cell(artefact).strength == pytest.approx(3.0, rel=1e-3)


def test_a_plan_of_several_has_every_artefact_at_its_own_place_in_turn():
    stored = {"a": _artefact(1), "b": _artefact(2)}
    one, other = NamedPlan.parse("b@0.5+a:last").resolve(stored.__getitem__)
    assert (one.steering.points, other.steering.points) == ((HookPoint(2),), (HookPoint(1),))
    assert one.steering.dose(HookPoint(2), one.strength) == pytest.approx(0.5)
    assert (other.strength, other.scope) == (3.0, Scope("last"))


def test_what_load_raises_is_what_the_caller_sees():
    def load(name):
        raise ArtefactError(f"no {name}")

    with pytest.raises(ArtefactError, match="no b"):
        NamedPlan.parse("b").resolve(load)


def test_a_dose_must_be_finite_and_a_name_not_empty():
    with pytest.raises(UsageError, match="finite"):
        NamedPart("a", math.inf)
    with pytest.raises(UsageError, match="empty"):
        NamedPart("")
