"""Clamping an atom sets its activation and keeps what the autoencoder does not explain."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st
from tests import sae_files as made

from tillerman.core.errors import FitError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.operators import clamp_atom
from tillerman.core.plan import Intervention, Scope
from tillerman.core.steerings.vector import SteeringVector
from tillerman.core.store import Store
from tillerman.data.writing import Written
from tillerman.evaluation.grid import answers_under
from tillerman.evaluation.scoring import answers_given
from tillerman.steering.steer import steer, steer_rows

from .. import tiny

P = HookPoint(1)
SAE = made.orthogonal(tiny.WIDTH, 5, threshold=0.1)
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
UNIT = 2.0


def _vector(atom, sae=SAE, unit=UNIT):
    direction = unit * sae.w_dec[atom]
    provenance = tiny.provenance(width=sae.width)
    return SteeringVector({sae.point: direction}, {sae.point: 2.0}, provenance, {sae.point: sae.atom(atom).per(unit)})


def _by_hand(h, sae, atom, level):
    """Encode, set one latent, decode, and add the autoencoder's error again."""
    latents = sae.encode(h)
    error = h - sae.decode(latents)
    latents[..., atom] = level
    return sae.decode(latents) + error


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(0, 4), st.floats(-3, 3).filter(lambda x: abs(x) > 1e-3))
def test_the_operator_decodes_with_one_latent_set_and_the_error_kept(seed, atom, strength):
    h = torch.randn(2, 3, tiny.WIDTH, generator=torch.Generator().manual_seed(seed))
    item = Intervention(_vector(atom), strength, "clamp_atom")
    got = clamp_atom(h, item.operand(P), strength)
    assert torch.allclose(got, _by_hand(h, SAE, atom, strength * UNIT), atol=1e-5)


def _entering_block_2(opened):
    seen = []
    hook = tiny.hook(opened.model, "llama", HookPoint(2, "resid_pre"), seen.append)
    opened.model(IDS)
    hook.remove()
    return seen[0].detach()


def test_a_live_model_goes_on_with_the_latent_set_and_the_error_kept():
    opened = tiny.opened("llama")
    plain = _entering_block_2(opened)
    with steer(opened.model, Intervention(_vector(2), 1.5, "clamp_atom")) as steered:
        got = _entering_block_2(opened)
    assert torch.allclose(got, _by_hand(plain, SAE, 2, 1.5 * UNIT), atol=1e-4)
    active = SAE.encode(plain)[..., 2] > 0  # where it fired, it fires as asked for now
    assert active.any() and not active.all()
    assert torch.allclose(SAE.encode(got)[..., 2][active], torch.tensor(1.5 * UNIT), atol=1e-4)
    assert steered.receipt.applied[0].doses == {str(P): pytest.approx(1.5 * UNIT / 2.0)}


def test_strength_0_is_bit_equal_and_rows_have_atoms_of_their_own():
    opened = tiny.opened("llama")
    plain = opened.model(IDS).logits
    with steer(opened.model, Intervention(_vector(2), 0.0, "clamp_atom")):
        assert torch.equal(opened.model(IDS).logits, plain)
    items = [Intervention(_vector(2), 1.5, "clamp_atom"), Intervention(_vector(4), 3.0)]
    with steer_rows(opened.model, [(item,) for item in items]):
        together = opened.model(IDS).logits
    for row, item in enumerate(items):
        with steer(opened.model, item):
            assert torch.allclose(opened.model(IDS[row : row + 1]).logits[0], together[row], atol=1e-5)


def test_a_search_over_shared_prompts_gives_the_answers_of_plain_passes():
    opened = tiny.opened("llama")
    written = [Written(row, ((20,), (30,), (40,))) for row in tiny.random_rows([6, 9, 7, 8, 5, 6])]
    plans = [
        (Intervention(_vector(k), s, op, Scope("last")),)
        for k in (1, 2)
        for s in (4.0, -9.0)
        for op in ("clamp_atom", "add")
    ]
    shared = answers_under(opened, written, plans, store=Store(None, ""))
    for plan, given_ in zip(plans, shared.tolist(), strict=True):
        with steer(opened.model, plan):
            assert list(answers_given(opened, written)) == given_
    assert len({tuple(row) for row in shared.tolist()}) > 2


def test_half_precision_stays_half_precision():
    h = torch.randn(1, 2, tiny.WIDTH).bfloat16()
    assert clamp_atom(h, Intervention(_vector(0), 1.0, "clamp_atom").operand(P).bfloat16(), 1.0).dtype == torch.bfloat16


def test_a_vector_without_an_atom_cannot_be_clamped_to_one():
    with pytest.raises(UsageError, match=r"names no atom at layers.1.resid_post; fit it with --method sae-feature"):
        Intervention(tiny.vector(1), 1.0, "clamp_atom")


def test_an_atom_stays_with_its_hook_point_and_is_dropped_by_arithmetic():
    vector = _vector(3)
    assert vector.at(P).operator == "clamp_atom"
    q, v = HookPoint(2), vector.directions[P]
    both = replace(
        vector, directions={P: v, q: v}, stream_norms={P: 2.0, q: 2.0}, atoms={**vector.atoms, q: SAE.atom(0)}
    )
    assert set(both.at(q).atoms) == {q}
    assert vector.scaled(2.0).operator == (vector + tiny.vector(1)).operator == "add"
    with pytest.raises(FitError, match="an atom belongs to a direction of its own width"):
        replace(vector, atoms={P: made.orthogonal(8, 2).atom(0)})
