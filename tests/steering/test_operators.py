"""Operators do what their formula says, and strength 0 of every one of them is no steering at all."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tillerman.core.errors import UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.operators import OPERATORS, RELATIVE
from tillerman.core.plan import Intervention
from tillerman.steering.steer import steer

from .. import tiny
from .watch import Watch, equal_bits

POINT = HookPoint(1)
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
any_operator = pytest.mark.parametrize("operator", tiny.DIRECTED)


def _taken(operator, v):
    """What the operator takes, of a direction and nothing else."""
    return torch.cat([v, torch.zeros_like(v), v.new_zeros(*v.shape[:-1], 3)], -1) if operator == "slerp" else v


def _by_hand(operator, h, v, s):
    """One vector at a time, in float64, written another way than the operators."""
    h, v = h.double(), v.double()
    u = v / v.norm()
    coefficient = h @ u
    rest = h - coefficient * u
    if operator == "add":
        return h + s * v
    if operator == "ablate":
        return rest + (1 - s) * coefficient * u
    if operator == "clamp":
        return rest + s * v
    if operator == "replace":
        return h + s * (v - h)
    if operator == "scale":
        return h + s * (h * v)
    if operator == "aim":  # by the angle: h' lies at acos(s) from u, as far from its line as h, unless h is nearer
        angle = math.acos(min(s, 0.999))
        aimed = rest + rest.norm() / math.tan(angle) * u
        return h if coefficient / h.norm() >= math.cos(angle) else aimed
    if operator == "slerp":
        angle = math.acos(coefficient / h.norm())
        return (math.sin((1 - s) * angle) * h + math.sin(s * angle) * h.norm() * u) / math.sin(angle)
    assert operator == "rotate", f"write the formula of {operator} here"
    e1 = h / h.norm()
    e2 = v - (v @ e1) * e1
    e2 = e2 / e2.norm()
    angle = s * math.pi / 2
    return h.norm() * (math.cos(angle) * e1 + math.sin(angle) * e2)


@any_operator
@settings(max_examples=25)
@given(st.integers(0, 10_000), st.floats(0.01, 1.0), st.floats(0.1, 50.0))
def test_an_operator_follows_its_formula(operator, seed, strength, size):
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(2, 3, 8, generator=generator)
    v = torch.randn(8, generator=generator) * size
    got = OPERATORS[operator](h, _taken(operator, v), strength)
    wanted = torch.stack([_by_hand(operator, row, v, strength) for row in h.reshape(-1, 8)]).reshape(h.shape)
    assert torch.allclose(got.double(), wanted, rtol=1e-4, atol=1e-4 * size)


@any_operator
def test_rows_may_have_directions_and_strengths_of_their_own(operator):
    generator = torch.Generator().manual_seed(0)
    h, v = torch.randn(3, 4, 8, generator=generator), torch.randn(3, 1, 8, generator=generator)
    strengths = torch.tensor([0.2, 0.5, 1.0])[:, None, None]
    taken = _taken(operator, v)
    together = OPERATORS[operator](h, taken, strengths)
    alone = torch.stack([OPERATORS[operator](h[i], taken[i, 0], float(strengths[i])) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-6)


@given(st.integers(0, 10_000), st.floats(-4.0, 4.0))
def test_rotation_keeps_the_norm_and_turns_by_the_angle(seed, strength):
    generator = torch.Generator().manual_seed(seed)
    h, v = torch.randn(8, generator=generator), torch.randn(8, generator=generator)
    turned = OPERATORS["rotate"](h, v, strength)
    assert float(turned.norm()) == pytest.approx(float(h.norm()), rel=1e-4)
    cosine = float(torch.cosine_similarity(turned.double(), h.double(), dim=0))
    assert cosine == pytest.approx(math.cos(strength * math.pi / 2), abs=1e-4)


def test_rotation_goes_towards_v_and_not_away():
    h, v = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 5.0])
    assert torch.allclose(OPERATORS["rotate"](h, v, 1.0), torch.tensor([0.0, 1.0]), atol=1e-6)


@given(st.integers(0, 10_000), st.floats(-1.0, 1.0).filter(lambda s: abs(s) > 1e-3))
def test_what_is_aimed_has_the_cosine_or_had_more_of_it(seed, strength):
    generator = torch.Generator().manual_seed(seed)
    h, v = torch.randn(6, 8, generator=generator), torch.randn(8, generator=generator)
    aimed = OPERATORS["aim"](h, v, strength)
    before, after = (torch.cosine_similarity(x.double(), v.double(), dim=-1) for x in (h, aimed))
    wanted = max(-0.999, min(0.999, strength))
    there = before >= wanted if strength > 0 else before <= wanted
    assert torch.equal(aimed[there], h[there])
    assert torch.allclose(after[~there], torch.full_like(after[~there], wanted), atol=1e-4)
    assert torch.allclose(aimed - h, ((aimed - h) @ v / (v @ v))[:, None] * v, atol=1e-4)  # along v and nothing else


@pytest.mark.parametrize("h", [torch.zeros(4), torch.tensor([2.0, 0, 0, 0]), torch.tensor([-2.0, 0, 0, 0])], ids=str)
def test_an_activation_that_spans_no_plane_with_v_is_not_rotated(h):
    v = torch.tensor([1.0, 0, 0, 0])
    assert torch.equal(OPERATORS["rotate"](h, v, 0.5), h)


@settings(max_examples=40)
@given(st.integers(0, 1000), st.floats(-0.9, 500))
def test_reweighed_coordinates_keep_their_sum_and_their_ratios(seed, strength):
    generator = torch.Generator().manual_seed(seed)
    h = torch.rand(3, 5, generator=generator) + 0.01
    h[0, 2] = 0.0
    v = (torch.rand(5, generator=generator) < 0.5).float()
    got, louder = OPERATORS["reweigh"](h, v, strength), OPERATORS["scale"](h, v, strength)
    torch.testing.assert_close(got.sum(-1), h.sum(-1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        got * louder.sum(-1, keepdim=True), louder * h.sum(-1, keepdim=True), rtol=1e-3, atol=1e-3
    )
    assert got[0, 2] == 0
    assert torch.equal(OPERATORS["reweigh"](torch.zeros(2, 5), v, strength), torch.zeros(2, 5))


@any_operator
def test_half_precision_stays_half_precision(operator):
    h = torch.randn(2, 3, 8).to(torch.bfloat16)
    assert OPERATORS[operator](h, _taken(operator, h[0, 0]), 0.5).dtype == torch.bfloat16


@any_operator
def test_a_half_precision_model_runs_under_every_operator(operator):
    model = tiny.new_model().to(torch.bfloat16)
    with torch.no_grad(), steer(model, Intervention(tiny.vector(1), 0.5, operator)):
        assert model(input_ids=IDS).logits.dtype == torch.bfloat16


@any_operator
def test_an_operator_on_a_model_equals_a_hand_made_hook(operator, family):
    model, vector = tiny.model(family), tiny.vector(POINT)
    with torch.no_grad(), steer(model, Intervention(vector, 0.7, operator)) as steered:
        ours = model(input_ids=IDS).logits
    direction = vector.directions[POINT]

    def change(h):
        rows = [_by_hand(operator, row, direction, 0.7) for row in h.reshape(-1, h.shape[-1])]
        return torch.stack(rows).reshape(h.shape).float()

    handle = tiny.hook(model, family, POINT, change)
    with torch.no_grad():
        theirs = model(input_ids=IDS).logits
    handle.remove()
    assert torch.allclose(ours, theirs, atol=2e-3, rtol=1e-3)
    assert steered.receipt.applied[0].operator == operator
    assert bool(steered.receipt.applied[0].doses) == (operator not in RELATIVE)


@any_operator
def test_strength_0_of_every_operator_is_bit_equal_to_no_steering(operator, family):
    model = tiny.model(family)
    with torch.no_grad():
        plain = model(input_ids=IDS).logits
        with steer(model, Intervention(tiny.vector(0, 1, size=1e30), 0.0, operator)) as steered:
            same = model(input_ids=IDS).logits
    assert equal_bits(plain, same)
    assert steered.receipt.applied[0].tokens == {"layers.0.resid_post": 8, "layers.1.resid_post": 8}


def test_operators_on_one_point_compose_in_the_order_of_the_plan():
    model, first, second = tiny.model(), tiny.vector(POINT, seed=1), tiny.vector(POINT, seed=2)
    plan = (
        Intervention(first, 1.0, "clamp"),
        Intervention(second, 0.5, "rotate"),
        Intervention(first, 1.0, "ablate"),
        Intervention(second, 2.0),
    )
    outputs = []
    for order in (plan, plan[::-1]):
        watch = Watch(tiny.blocks(model, "llama")[1])
        with torch.no_grad(), watch.outside(), steer(model, order), watch.inside():
            model(input_ids=IDS)
        expected = watch.before[0]
        for item in order:
            v = item.steering.directions[POINT]
            flat = [_by_hand(item.operator, row, v, item.strength) for row in expected.reshape(-1, tiny.WIDTH)]
            expected = torch.stack(flat).reshape(expected.shape)
        assert torch.allclose(watch.after[0].double(), expected, atol=1e-4)
        outputs.append(watch.after[0])
    assert not torch.allclose(*outputs, atol=1e-2)


@pytest.mark.parametrize("strength", [-0.1, 1.1])
def test_replacing_more_than_all_is_refused(strength):
    with pytest.raises(UsageError, match="'replace' mixes h and v, expected 0 to 1"):
        Intervention(tiny.vector(1), strength, "replace")
