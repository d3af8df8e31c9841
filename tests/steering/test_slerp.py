"""Turned along the geodesic, as far as the gate of two von Mises-Fisher distributions says."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tillerman.core.artefact import Artefact, load, save
from tillerman.core.cell import Cell
from tillerman.core.confidence import Confidence, always
from tillerman.core.errors import FitError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.operators import slerp
from tillerman.core.plan import Intervention
from tillerman.core.steerings.files import put_together, taken_apart
from tillerman.core.steerings.vector import SteeringVector
from tillerman.steering.steer import steer, steer_rows

from .. import tiny

P = HookPoint(1)
D = 8
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])


def drawn(seed: int, rows: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Activations, a direction and a prototype."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(rows, D, generator=generator),
        5 * torch.randn(D, generator=generator),
        torch.randn(D, generator=generator),
    )


def _angle(h: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    h, v = h.double(), v.double()
    return (h @ v / h.norm(dim=-1) / v.norm()).clamp(-1, 1).acos()


def _share(h: torch.Tensor, prototype: torch.Tensor, kappa: float, threshold: float, even: float) -> float:
    """The gate as the paper has it: posteriors by a softmax of the two log-likelihoods, here with their priors."""
    wanted = float(h.double() @ prototype.double() / h.double().norm() / prototype.double().norm())
    here, there = math.exp(kappa * wanted), math.exp(-kappa * wanted) * math.exp(2 * kappa * even)
    lead = (there - here) / (there + here)
    return max(0.0, (lead - threshold) / (1 - threshold))


def vector(*points: HookPoint, seed: int = 0, kappa: float = 20.0, threshold: float = 0.1) -> SteeringVector:
    made = tiny.vector(*(points or (P,)), seed=seed)
    gates = {p: Confidence(v.roll(3), kappa, threshold, 0.05) for p, v in made.directions.items()}
    return replace(made, operator="slerp", confidences=gates)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 1.5), st.floats(0.5, 40.0), st.floats(-1.0, 0.9), st.floats(-0.5, 0.5))
def test_a_token_is_turned_by_the_share_of_its_angle_that_the_gate_says_and_keeps_its_norm(
    seed, strength, kappa, threshold, even
):
    h, v, mu = drawn(seed)
    gate = Confidence(mu, kappa, threshold, even)
    turned = slerp(h, gate.packed(v), strength)
    torch.testing.assert_close(turned.norm(dim=1), h.norm(dim=1), rtol=1e-4, atol=1e-5)
    shares = torch.tensor([_share(row, mu, kappa, threshold, even) for row in h], dtype=torch.double)
    torch.testing.assert_close(gate.gate(h).double(), shares, atol=1e-4, rtol=1e-3)
    left = _angle(h, v) * (1 - (strength * shares).clamp(max=1))
    torch.testing.assert_close(_angle(turned, v), left, atol=2e-3, rtol=1e-3)
    whole = torch.stack([h, turned, v.expand_as(h)], 1).double()  # in the plane of h and v, so of rank 2
    assert float(torch.linalg.svdvals(whole / whole.norm(dim=-1, keepdim=True))[:, 2].max()) < 1e-3
    shut = shares == 0
    assert torch.equal(turned[shut], h[shut])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 1.0))
def test_a_strength_below_0_turns_towards_the_opposite_of_both_directions(seed, strength):
    h, v, mu = drawn(seed)
    there, back = Confidence(mu, 5.0, 0.1, 0.2), Confidence(-mu, 5.0, 0.1, -0.2)
    assert torch.equal(slerp(h, there.packed(v), -strength), slerp(h, back.packed(-v), strength))


def test_a_large_concentration_is_a_switch_and_none_is_half_of_each():
    h, v, mu = drawn(1, rows=40)
    unwanted = h @ mu < 0
    assert 5 < int(unwanted.sum()) < 35
    torch.testing.assert_close(Confidence(mu, 1e6, 0.0).gate(h), unwanted.float())
    torch.testing.assert_close(Confidence(mu, 1e-7, -1.0).gate(h), torch.full((40,), 0.5))
    switched = slerp(h, Confidence(mu, 1e6, 0.0).packed(v), 0.5)
    assert torch.equal(switched[~unwanted], h[~unwanted])
    torch.testing.assert_close(switched[unwanted], slerp(h[unwanted], always(v), 0.5))


def test_a_higher_threshold_gives_no_token_more():
    h, _, mu = drawn(2, rows=40)
    shares = [Confidence(mu, 4.0, threshold).gate(h) for threshold in (-1.0, -0.5, 0.0, 0.5, 0.9)]
    assert all(bool((low >= high).all()) for low, high in pairwise(shares))
    assert float(shares[0].min()) >= 0 and float(shares[0].max()) <= 1


@pytest.mark.parametrize("strength", [1.0, 7.0])
def test_a_whole_turn_ends_at_the_direction_and_goes_no_further(strength):
    h, v, _ = drawn(3)
    wanted = h.norm(dim=1, keepdim=True) * v / v.norm()
    torch.testing.assert_close(slerp(h, always(v), strength), wanted, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("h", [torch.zeros(4), torch.tensor([2.0, 0, 0, 0]), torch.tensor([-2.0, 0, 0, 0])], ids=str)
def test_an_activation_that_spans_no_plane_with_the_direction_stays(h):
    v = torch.tensor([1.0, 0, 0, 0])
    assert torch.equal(slerp(h, always(v), 0.5), h)
    assert torch.equal(slerp(h, Confidence(torch.ones(4), 9.0, -1.0).packed(v), 0.5), h)


def test_rows_with_gates_of_their_own_are_those_of_the_rows_alone():
    model = tiny.model()
    items = [
        Intervention(vector(), 0.8, "slerp"),
        Intervention(vector(seed=4, kappa=3.0, threshold=-0.9), -0.6, "slerp"),
        Intervention(tiny.vector(P, seed=5), 0.4, "slerp"),
    ]
    with torch.no_grad():
        plain = model(IDS[:1]).logits[0]
        with steer_rows(model, [(item,) for item in items]):
            together = model(IDS[:1].repeat(3, 1)).logits
        for row, item in enumerate(items):
            with steer(model, item) as steered:
                torch.testing.assert_close(model(IDS[:1]).logits[0], together[row], atol=1e-5, rtol=1e-5)
            assert steered.receipt.applied[0].operator == "slerp"
            assert not torch.allclose(together[row], plain, atol=1e-3)
        with steer(model, replace(items[0], strength=0.0)):
            assert torch.equal(model(IDS[:1]).logits[0], plain)


def test_a_file_keeps_the_gate_bit_for_bit_and_other_vectors_files_say_nothing_of_one(tmp_path):
    made = vector(HookPoint(0), P)
    save(tmp_path / "one.safetensors", Artefact(made, Cell.of(made, 0.3)))
    back = load(tmp_path / "one.safetensors")
    assert back.cell.operator == back.steering.operator == "slerp"
    for point in made.points:
        assert torch.equal(back.steering.operand(point, "slerp"), made.operand(point, "slerp"))
        mine, theirs = made.confidences[point], back.steering.confidences[point]
        assert (mine.kappa, mine.threshold, mine.even) == (theirs.kappa, theirs.threshold, theirs.even)
    assert "confidences" not in taken_apart(tiny.vector(0))[1]


def test_the_random_null_turns_elsewhere_under_the_same_gate():
    made = vector()
    null = made.random_like(3)
    assert null.operator == "slerp" and null.confidences[P] is made.confidences[P]
    assert abs(float(torch.cosine_similarity(null.directions[P], made.directions[P], dim=0))) < 0.95
    assert made.at(P).dose(P, 0.3) == null.dose(P, 0.3) == 0.3  # the share of the angle


def test_sums_and_multiples_are_plain_directions():
    for made in (2.0 * vector(), vector() + vector(seed=1)):
        assert made.operator == "add" and not made.confidences


def test_a_gate_that_is_none_is_refused_by_name():
    with pytest.raises(FitError, match=r"a finite prototype of shape .*not 0"):
        Confidence(torch.zeros(D), 20.0, 0.1)
    for kappa, threshold in ((0.0, 0.1), (math.inf, 0.1), (20.0, 1.0), (20.0, -1.1), (20.0, math.nan)):
        with pytest.raises(FitError, match="expected a number above 0, one from -1 to below 1, and a cosine"):
            Confidence(torch.ones(D), kappa, threshold)
    with pytest.raises(FitError, match=r"even 1\.5"):
        Confidence(torch.ones(D), 20.0, 0.1, 1.5)
    with pytest.raises(FitError, match="a prototype belongs to a direction of its own width"):
        replace(vector(), confidences={P: Confidence(torch.ones(3), 20.0, 0.1)})
    tensors, head = taken_apart(vector())
    for broken in (
        (tensors, head | {"confidences": {}}),
        (tensors | {"prototype layers.0.resid_post": tensors[str(P)]}, head),
    ):
        with pytest.raises(FitError, match="a prototype without its numbers, or numbers without one"):
            put_together(*broken)
