"""Vectors as strong as a gate makes them: the formula of every rule, and files of the kind that came before."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tillerman.core.errors import FitError, UnknownNameError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.steerings.files import put_together, taken_apart
from tillerman.core.steerings.gated import RULES, GatedSteering

from .. import tiny

P = HookPoint(1)
D = 6


def gated(rule: str, readers: int = 3, seed: int = 0, scale: float = 1.0) -> GatedSteering:
    drawn = torch.Generator().manual_seed(seed)
    values = torch.randn(1 if rule == "within" else readers, D, generator=drawn)
    keys, offsets = scale * torch.randn(readers, D, generator=drawn), torch.randn(readers, generator=drawn)
    return GatedSteering({P: 1.0}, {P: 2.0}, tiny.provenance(width=D), {P: keys}, {P: offsets}, {P: values}, rule)


def _by_hand(steering: GatedSteering, h: torch.Tensor) -> torch.Tensor:
    keys, offsets, values = (getattr(steering, name)[P].double() for name in ("keys", "offsets", "values"))
    read = [float(k @ h.double() + b) for k, b in zip(keys, offsets, strict=True)]
    gate = {
        "linear": lambda r: r,
        "relu": lambda r: max(r, 0.0),
        "logistic": lambda r: 1 / (1 + 2.718281828459045**-r),
    }[steering.rule]
    return sum(gate(r) * v for r, v in zip(read, values, strict=True))


@pytest.mark.parametrize("rule", sorted(set(RULES) - {"within"}))
def test_a_rule_that_reads_keys_alone_is_its_formula(rule):
    steering = gated(rule)
    for h in torch.randn(5, D, generator=torch.Generator().manual_seed(1)):
        torch.testing.assert_close(steering.change(P, h).double(), _by_hand(steering, h), rtol=1e-4, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([0.05, 0.3, 1.0]))
def test_within_goes_as_far_as_the_bound_and_no_step_further(seed, scale):
    """The claim of in-distribution steering: no larger strength keeps the distance at or below the bound."""
    steering = gated("within", seed=seed, scale=scale)
    keys, offsets, v = steering.keys[P].double(), steering.offsets[P].double(), steering.values[P][0].double()
    for h in torch.randn(4, D, generator=torch.Generator().manual_seed(seed)).double():
        far = float(steering.weights(P, h.float()))

        def distance(strength: float, h: torch.Tensor = h) -> float:
            return float((keys @ (h + strength * v) + offsets).norm())

        if far > 0:
            assert distance(far) == pytest.approx(1, abs=1e-3)
        tried = [distance(far + step) for step in (1e-2, 0.1, 1.0, 10.0)]
        assert min(tried) > 1 - 1e-3 and (tried == sorted(tried) or far == 0)


def test_a_token_far_from_the_region_in_every_direction_of_the_vector_is_left_alone():
    steering = gated("within", scale=0.3)
    step = steering.keys[P] @ steering.values[P][0]
    aside = torch.linalg.svd(step[None])[2][1]  # readings that no strength changes
    away = torch.linalg.lstsq(steering.keys[P], 50 * aside[:, None] - steering.offsets[P][:, None]).solution[:, 0]
    assert float(steering.weights(P, away)) == 0
    assert torch.equal(steering.change(P, away), torch.zeros(D))


@pytest.mark.parametrize("rule", RULES)
def test_a_token_is_changed_alike_alone_and_in_a_batch(rule):
    steering, h = gated(rule, scale=0.3), torch.randn(2, 5, D, generator=torch.Generator().manual_seed(2))
    whole = steering.change(P, h)
    alone = torch.stack([torch.stack([steering.change(P, token[None])[0] for token in row]) for row in h])
    torch.testing.assert_close(whole, alone, rtol=1e-5, atol=1e-6)
    assert steering.change(P, h.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("rule", ["relu", "logistic", "linear"])
def test_the_random_null_is_as_strong_at_every_token(rule):
    steering = gated(rule, readers=1)
    null, h = steering.random_like(3), torch.randn(20, D, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(null.change(P, h).norm(dim=1), steering.change(P, h).norm(dim=1))
    cosine = torch.cosine_similarity(null.values[P], steering.values[P])
    assert float(cosine.abs()) < 0.95


def test_a_dose_is_that_of_the_activations_it_was_measured_on():
    h = torch.randn(20, D, generator=torch.Generator().manual_seed(4))
    steering = gated("relu").measured({P: h})
    assert steering.norm(P) == pytest.approx(float(steering.change(P, h).norm(dim=1).mean()))
    assert steering.dose(P, 3.0) == pytest.approx(3 * steering.norm(P) / 2)
    shut = replace(steering, offsets={P: torch.full((3,), -1e6)})
    with pytest.raises(FitError, match=r"layers\.1\.resid_post: expected change norms above 0"):
        shut.measured({P: h})


def test_tables_that_do_not_fit_are_refused_by_name():
    one = gated("within")
    with pytest.raises(UnknownNameError, match="no rule of a gate named 'tanh'; known: linear, logistic"):
        replace(one, rule="tanh")
    with pytest.raises(FitError, match="keys must cover the hook points"):
        replace(one, keys={})
    for wrong in ({"offsets": {P: torch.zeros(2)}}, {"values": {P: torch.zeros(2, D)}}, {"rule": "relu"}):
        with pytest.raises(FitError, match="must be of one width and number"):
            replace(one, **wrong)
    with pytest.raises(FitError, match="nothing bounds its strength"):
        replace(one, keys={P: torch.zeros(3, D)})
    with pytest.raises(FitError, match=r"expected a finite table of shape \[n\], got \(3,\)"):
        replace(one, offsets={P: torch.full((3,), float("inf"))})


@pytest.mark.parametrize("projected", [False, True])
def test_a_file_of_the_former_kernel_steering_is_the_same_change(projected):
    drawn = torch.Generator().manual_seed(7)
    h, g, r = (torch.randn(n, D, generator=drawn) for n in (4, 4, 3))
    tensors = {f"activations {P}": h, f"gradients {P}": g} | ({f"projections {P}": r} if projected else {})
    head = taken_apart(gated("linear"))[1]
    del head["rule"]
    steering = put_together(tensors, head | {"kind": "KernelSteering"})
    x = torch.randn(5, D, generator=drawn)
    metric = r.T @ r if projected else torch.eye(D)
    torch.testing.assert_close(steering.change(P, x), -(x @ metric @ h.T) @ g / 4, rtol=1e-4, atol=1e-5)
    with pytest.raises(FitError, match="must cover the same hook points"):
        put_together({f"activations {P}": h}, head | {"kind": "KernelSteering"})
