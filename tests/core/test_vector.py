"""Steering vectors: arithmetic, doses, and what they refuse."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import jaxtyping
import pytest
import torch
from hypothesis import given, strategies as st

from tillerman.core.errors import FitError, HookPointError, MismatchError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.steerings.vector import SteeringVector

from .. import tiny

factors = st.floats(-100, 100).filter(lambda x: abs(x) > 1e-3)
P = HookPoint(1)


@given(factors, st.integers(0, 50))
def test_scaling_scales_every_direction_and_its_dose(factor, seed):
    v = tiny.vector(0, 1, seed=seed)
    for scaled in (v.scaled(factor), v * factor, factor * v):
        for point in v.points:
            assert torch.equal(scaled.directions[point], factor * v.directions[point])
            assert scaled.dose(point, 1.0) == pytest.approx(abs(factor) * v.dose(point, 1.0), rel=1e-5)


@given(st.integers(0, 50), st.integers(51, 99))
def test_sum_and_difference_are_taken_point_by_point(one, two):
    a, b = tiny.vector(0, 2, seed=one), tiny.vector(0, 2, seed=two)
    for point in a.points:
        assert torch.equal((a + b).directions[point], a.directions[point] + b.directions[point])
        assert torch.equal((a - b).directions[point], a.directions[point] - b.directions[point])
        assert torch.equal((-a).directions[point], -a.directions[point])


@given(factors, st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_strength_is_the_inverse_of_dose(strength, size, norm):
    v = SteeringVector({P: tiny.vector(1, size=size).directions[P]}, {P: norm}, tiny.provenance())
    assert v.strength(P, v.dose(P, strength)) == pytest.approx(strength, rel=1e-9)


def test_the_dose_is_strength_times_norm_over_the_streams_norm():
    v = SteeringVector({P: torch.tensor([3.0, 4.0])}, {P: 10.0}, tiny.provenance(width=2))
    assert v.norm(P) == 5.0
    assert v.dose(P, 3.0) == 1.5
    assert v.dose(P, -3.0) == -1.5


def test_vectors_of_different_models_do_not_add_and_both_are_named():
    a = tiny.vector(0)
    b = replace(a, provenance=replace(a.provenance, model_id="other", model_fingerprint="0" * 16))
    for combine in (lambda: a + b, lambda: a - b):
        with pytest.raises(MismatchError, match=r"tiny \(by hand\) and other \(0{16}\)"):
            combine()


def test_vectors_over_different_points_do_not_add():
    with pytest.raises(MismatchError, match="same hook points"):
        tiny.vector(0) + tiny.vector(1)


def test_a_vector_at_some_of_its_points_keeps_their_numbers():
    v = tiny.vector(0, 1, 2)
    some = v.at([HookPoint(2), HookPoint(0)])
    assert some.points == (HookPoint(0), HookPoint(2))
    assert torch.equal(some.directions[HookPoint(2)], v.directions[HookPoint(2)])
    assert v.at(HookPoint(1)).points == (HookPoint(1),)


def test_a_point_that_was_not_fitted_is_an_error_that_lists_the_fitted_ones():
    with pytest.raises(HookPointError, match=r"layers\.7\.resid_post: fitted at layers\.0\.resid_post"):
        tiny.vector(0).at(HookPoint(7))


def test_a_vector_keeps_its_own_copy_of_what_it_was_given():
    given_tensor = torch.ones(4)
    directions, norms = {P: given_tensor}, {P: 1.0}
    v = SteeringVector(directions, norms, tiny.provenance(width=4))
    given_tensor.zero_()
    directions.clear()
    norms.clear()
    assert torch.equal(v.directions[P], torch.ones(4))
    assert v.stream_norms[P] == 1.0


def test_a_vector_is_frozen():
    v = tiny.vector(0)
    with pytest.raises(FrozenInstanceError):
        v.directions = {}
    with pytest.raises(TypeError):
        v.directions[P] = torch.ones(4)


def test_directions_are_float32_on_the_cpu_without_gradient():
    v = SteeringVector({P: torch.ones(4, dtype=torch.float64, requires_grad=True)}, {P: 1.0}, tiny.provenance())
    assert v.directions[P].dtype == torch.float32
    assert not v.directions[P].requires_grad


@pytest.mark.parametrize(
    ("directions", "norms", "said"),
    [
        ({}, {}, "at least one hook point"),
        ({P: torch.ones(3)}, {}, "same hook points"),
        ({P: torch.tensor([1.0, float("nan")])}, {P: 1.0}, "finite direction"),
        ({P: torch.tensor([1.0, float("inf")])}, {P: 1.0}, "finite direction"),
        ({P: torch.ones(2)}, {P: float("nan")}, "stream norm"),
        ({P: torch.ones(2)}, {P: 0.0}, "stream norm"),
        ({P: torch.ones(2)}, {P: -1.0}, "stream norm"),
    ],
)
def test_a_vector_that_cannot_steer_is_refused(directions, norms, said):
    with pytest.raises(FitError, match=said):
        SteeringVector(directions, norms, tiny.provenance())


def test_a_matrix_is_no_direction():
    jaxtyping.config.update("jaxtyping_disable", True)  # the message users see, not the tests' shape check
    try:
        with pytest.raises(FitError, match=r"shape \[d\], got \(2, 2\)"):
            SteeringVector({P: torch.ones(2, 2)}, {P: 1.0}, tiny.provenance())
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_a_factor_that_is_not_finite_is_refused():
    with pytest.raises(FitError):
        tiny.vector(0).scaled(float("nan"))
