"""Names and small values: hook points, scopes, interventions, registries, errors."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from tillerman.core.errors import DataError, HookPointError, TillermanError, UnknownNameError, UsageError
from tillerman.core.hookpoint import SITES, HookPoint, named, parse_points
from tillerman.core.plan import SCOPES, Intervention, Scope
from tillerman.core.registry import Registry

from .. import tiny


@given(st.integers(0, 10_000), st.sampled_from(SITES))
def test_a_hook_point_is_read_back_from_its_print(layer, site):
    point = HookPoint(layer, site)
    assert HookPoint.parse(str(point)) == point
    assert HookPoint.parse(f" {point} ") == point


def test_a_bare_number_is_the_output_of_that_block():
    assert HookPoint.parse("12") == HookPoint(12, "resid_post")


@pytest.mark.parametrize("text", ["", "layer.1.resid_post", "layers.x.resid_post", "-1", "layers.1", "1.5"])
def test_what_is_no_hook_point_is_refused_with_the_form(text):
    with pytest.raises(HookPointError, match=r"layers\.12\.resid_post"):
        HookPoint.parse(text)


def test_an_unknown_site_lists_the_sites_and_suggests_one():
    with pytest.raises(UnknownNameError, match=r"no site named 'resid_pos'; known: .*Did you mean 'resid_post'\?"):
        HookPoint(0, "resid_pos")


def test_a_negative_layer_is_refused():
    with pytest.raises(HookPointError, match="count from 0"):
        HookPoint(-1)


def test_hook_points_are_ordered_by_layer():
    assert sorted([HookPoint(10), HookPoint(2), HookPoint(0)]) == [HookPoint(0), HookPoint(2), HookPoint(10)]


@given(st.sets(st.builds(HookPoint, st.integers(0, 60), st.sampled_from(SITES)), min_size=1))
def test_several_hook_points_are_read_back_from_their_name(points):
    assert set(parse_points(named(tuple(points)))) == points


def test_the_name_of_several_hook_points_joins_runs_of_layers():
    points = [HookPoint(layer, "heads") for layer in (0, 1, 2, 5)] + [HookPoint(1)]
    assert named(points) == "layers.0-2,5.heads+layers.1.resid_post"
    assert named([HookPoint(3)]) == "layers.3.resid_post"
    assert parse_points("3") == (HookPoint(3),)
    with pytest.raises(HookPointError, match="not a hook point"):
        parse_points("layers.1-.heads")


scopes = st.one_of(
    st.sampled_from([Scope(s) for s in SCOPES if s != "positions"]),
    st.builds(lambda p: Scope("positions", tuple(p)), st.lists(st.integers(-500, 500), min_size=1)),
)


@given(scopes)
def test_a_scope_is_read_back_from_its_print(scope):
    assert Scope.parse(str(scope)) == scope


@pytest.mark.parametrize("text", ["positions", "positions:", "positions:1,x", "all:3", "last:x"])
def test_a_scope_with_wrong_positions_is_refused(text):
    with pytest.raises(UsageError):
        Scope.parse(text)


def test_an_unknown_scope_suggests_one():
    with pytest.raises(UnknownNameError, match="Did you mean 'generated'"):
        Scope.parse("generatd")


def test_a_scope_without_marks_takes_no_marker():
    with pytest.raises(UsageError, match="marker"):
        Scope("last", marker=(1,))
    assert Scope("after_instruction", marker=(1,)).marker == (1,)


def test_what_ends_an_answer_is_not_in_what_opens_it():
    with pytest.raises(UsageError, match="may not stand in the marker"):
        Scope("assistant_turns", marker=(1, 2), closing=(2,))
    with pytest.raises(UsageError, match="only it and 'assistant_turns' a closing one"):
        Scope("after_instruction", marker=(1,), closing=(2,))


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), -float("inf")])
def test_a_strength_that_is_no_number_is_refused(strength):
    with pytest.raises(UsageError, match="finite"):
        Intervention(tiny.vector(0), strength)


def test_an_unknown_operator_is_refused_with_the_known_ones():
    with pytest.raises(
        UnknownNameError,
        match="no operator named 'ad'; known: ablate, add, aim, clamp, clamp_atom, replace, reweigh, rotate, scale",
    ):
        Intervention(tiny.vector(0), 1.0, "ad")


def test_a_registry_lists_its_names_and_suggests_the_closest():
    table = Registry("method", {"pca": 1, "probe": 2})
    assert table["pca"] == 1
    assert list(table) == ["pca", "probe"]
    assert "pca" in table
    assert "pcaa" not in table
    with pytest.raises(UnknownNameError, match=r"^no method named 'pcaa'; known: pca, probe. Did you mean 'pca'\?$"):
        table["pcaa"]


def test_a_registry_suggests_nothing_where_nothing_is_close():
    with pytest.raises(UnknownNameError, match=r"known: pca\.$"):
        _ = Registry("method", {"pca": 1})["zzzzzz"]


def test_a_registry_does_not_follow_later_changes_of_what_it_was_made_from():
    entries = {"a": 1}
    table = Registry("thing", entries)
    entries["b"] = 2
    assert len(table) == 1


def test_a_data_error_says_where():
    error = DataError("wrong", file="a.csv", line=3, field="label")
    assert str(error) == "a.csv:3, field 'label': wrong"
    assert (error.file, error.line, error.field) == ("a.csv", 3, "label")
    assert str(DataError("wrong")) == "wrong"


def test_usage_errors_end_a_program_with_2_and_others_with_1():
    assert UsageError("x").exit_code == 2
    assert TillermanError("x").exit_code == 1
