"""Families x invariants that the steering tests do not hold already."""

from __future__ import annotations

import pytest
import torch

from tillerman.core.errors import HookPointError, MismatchError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention
from tillerman.models import families
from tillerman.models.families import Family, anatomy
from tillerman.steering.steer import steer

from .. import tiny

IDS = torch.tensor([[5, 6, 7, 8]])


def _steered(model: torch.nn.Module, strength: float = 1.0, site: str = "resid_post") -> torch.Tensor:
    with torch.no_grad(), steer(model, Intervention(tiny.vector(HookPoint(1, site)), strength)):
        return model(input_ids=IDS).logits


def test_every_attention_implementation_gives_the_same_steered_logits(family):
    model = tiny.new_model(family)
    default = _steered(model)
    model.set_attn_implementation("eager")
    assert torch.allclose(_steered(model), default, atol=5e-4, rtol=1e-3)


def test_strength_0_is_bit_equal_in_half_precision_and_another_strength_is_not(family):
    model = tiny.new_model(family).to(torch.bfloat16)
    with torch.no_grad():
        plain = model(input_ids=IDS).logits
    assert torch.equal(_steered(model, 0.0), plain)
    assert not torch.equal(_steered(model), plain)


def test_the_width_of_the_heads_is_not_that_of_the_stream():
    import transformers as tf

    config = tf.Qwen3Config(**tiny._GROUPED, head_dim=16)
    model = tf.AutoModelForCausalLM.from_config(config).eval()
    assert anatomy(model).width_at(HookPoint(1, "heads")) == 64
    assert anatomy(model).width_at(HookPoint(1, "attn_out")) == tiny.WIDTH
    with pytest.raises(MismatchError, match="has width 32, the model 64"):
        _steered(model, site="heads")


def test_heads_of_a_row_without_a_projection_are_refused_with_the_remedy(monkeypatch):
    monkeypatch.setitem(families.FAMILIES, "llama", Family())
    with pytest.raises(HookPointError, match=r"names no output projection of attention.*projections="):
        _steered(tiny.new_model(), site="heads")
