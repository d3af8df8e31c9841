"""An affine map of each coordinate, and where it is applied."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tillerman.core.errors import FitError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention
from tillerman.core.steerings.files import put_together, taken_apart
from tillerman.core.steerings.transport import TransportSteering
from tillerman.steering.steer import steer, steer_rows

from .. import tiny

P = HookPoint(1)
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])


def made(width: int = tiny.WIDTH, bounds: tuple[float, float] | None = None, seed: int = 0) -> TransportSteering:
    drawn = torch.Generator().manual_seed(seed)
    slopes, shifts = (torch.randn(width, generator=drawn) for _ in range(2))
    lows, highs = ({P: torch.full((width,), at)} for at in bounds or (0, 0))
    support = (lows, highs) if bounds else ({}, {})
    return TransportSteering({P: 1.0}, {P: 2.0}, tiny.provenance(width=width), {P: slopes}, {P: shifts}, *support)


def test_a_strength_goes_so_far_from_the_activation_to_its_image():
    steering, h = made(6), torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    image = steering.slopes[P] * h + steering.shifts[P]
    for strength in (0.25, 1.0, -0.5):
        moved = h + strength * steering.change(P, h)
        torch.testing.assert_close(moved, (1 - strength) * h + strength * image, atol=1e-5, rtol=1e-5)


def test_a_coordinate_outside_of_the_support_stays_and_its_ends_belong_to_it():
    steering, whole = made(4, bounds=(-1.0, 2.0)), made(4)
    h = torch.tensor([[-1.0, 2.0, -1.001, 2.001]])
    change = steering.change(P, h)
    assert torch.equal(change[:, :2], whole.change(P, h)[:, :2])
    assert torch.equal(change[:, 2:], torch.zeros(1, 2))


@pytest.mark.parametrize("bounds", [None, (-0.5, 0.5)])
def test_a_token_is_changed_alike_alone_and_in_a_batch(bounds):
    steering = made(bounds=bounds)
    h = torch.randn(2, 5, tiny.WIDTH, generator=torch.Generator().manual_seed(2))
    alone = torch.stack([torch.stack([steering.change(P, token[None])[0] for token in row]) for row in h])
    assert torch.equal(steering.change(P, h), alone)
    assert steering.change(P, h.bfloat16()).dtype == torch.bfloat16


def test_rows_have_strengths_of_their_own_and_strength_0_is_bit_equal_to_nothing():
    model, steering = tiny.model(), made(bounds=(-1.0, 1.0))
    strengths = (0.4, -0.3, 0.0)
    with torch.no_grad():
        plain = model(IDS[:1].repeat(3, 1)).logits
        with steer_rows(model, [(Intervention(steering, strength),) for strength in strengths]):
            together = model(IDS[:1].repeat(3, 1)).logits
        assert torch.equal(together[2], plain[2])
        for row, strength in enumerate(strengths[:2]):
            with steer(model, Intervention(steering, strength)):
                torch.testing.assert_close(model(IDS[:1]).logits[0], together[row], atol=1e-5, rtol=1e-5)
            assert not torch.allclose(together[row], plain[row], atol=1e-3)


def test_a_dose_is_that_of_the_activations_it_was_measured_on():
    h = torch.randn(20, 6, generator=torch.Generator().manual_seed(4))
    steering = made(6).measured({P: h})
    assert steering.norm(P) == pytest.approx(float(steering.change(P, h).norm(dim=1).mean()))
    assert steering.dose(P, 3.0) == pytest.approx(3 * steering.norm(P) / 2)
    with pytest.raises(FitError, match=r"layers\.1\.resid_post: expected change norms above 0"):
        made(6, bounds=(90.0, 99.0)).measured({P: h})


def test_maps_that_do_not_fit_are_refused_by_name():
    one = made(6, bounds=(0.0, 1.0))
    with pytest.raises(FitError, match="slopes must cover the hook points"):
        replace(one, slopes={})
    with pytest.raises(FitError, match="lows and highs must cover the same hook points"):
        replace(one, lows={})
    with pytest.raises(FitError, match="must be of one width"):
        replace(one, highs={P: torch.ones(5)})
    for wrong in (torch.full((6,), float("inf")), torch.ones(2, 3)):
        with pytest.raises(FitError, match=r"layers\.1\.resid_post: expected finite numbers of shape \[d\]"):
            replace(one, shifts={P: wrong})
    tensors, head = taken_apart(one)
    with pytest.raises(FitError, match=r"values layers\.1\.resid_post: expected slopes, shifts, lows, highs, a blank"):
        put_together(tensors | {f"values {P}": torch.ones(6)}, head)
