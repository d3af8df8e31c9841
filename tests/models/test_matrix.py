"""Families x invariants that the steering tests do not hold already."""

from __future__ import annotations

import pytest
import torch

from tillerman.core.errors import HookPointError, MismatchError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.models import families
from tillerman.models.families import Family, anatomy
from tillerman.steering.steer import steer, steer_rows

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


def test_in_half_precision_too_steering_is_what_a_hand_made_hook_does(family):
    model = tiny.new_model(family).to(torch.bfloat16)
    point = HookPoint(1)
    vector = tiny.vector(point)
    ours = _steered(model, 1.5)
    push = 1.5 * vector.directions[point].to(torch.bfloat16)
    handle = tiny.hook(model, family, point, lambda h: h + push)
    with torch.no_grad():
        theirs = model(input_ids=IDS).logits
    handle.remove()
    assert torch.equal(ours, theirs)


def test_in_half_precision_a_plan_per_row_is_one_plan_at_a_time(family):
    model, rows = tiny.new_model(family).to(torch.bfloat16), tiny.random_rows([6, 6])
    plans = [(Intervention(tiny.vector(k), 1.0),) for k in (0, 2)]
    with torch.no_grad(), steer_rows(model, plans):
        together = model(input_ids=torch.tensor(rows)).logits.float()
    for i, plan in enumerate(plans):
        with torch.no_grad(), steer(model, plan):
            alone = model(input_ids=torch.tensor([rows[i]])).logits.float()[0]
        apart = (together[i] - alone).norm() / alone.norm()
        assert float(apart) < 0.1, float(apart)  # rounding; a mixture may choose another expert at the edge


def test_hooks_of_the_users_own_see_every_pass_and_stay(family):
    model = tiny.model(family)
    block, seen = tiny.blocks(model, family)[1], []
    before = block.register_forward_pre_hook(lambda *_: seen.append("before"))
    with torch.no_grad(), steer(model, Intervention(tiny.vector(1), 1.0)):
        inside = block.register_forward_hook(lambda *_: seen.append("inside"))
        model(input_ids=IDS)
    with torch.no_grad():
        model(input_ids=IDS)
    before.remove()
    inside.remove()
    assert seen == ["before", "inside"] * 2


def test_the_first_generated_token_is_steered_under_generated(family):
    model, point = tiny.model(family), HookPoint(1)
    vector = tiny.vector(point)
    with steer(model, Intervention(vector, 1.0, scope=Scope("generated"))):
        made = model.generate(
            input_ids=IDS,
            max_new_tokens=1,
            min_new_tokens=1,
            do_sample=False,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )

    def push(h):
        return torch.cat([h[:, :-1], h[:, -1:] + vector.directions[point]], 1)

    handle = tiny.hook(model, family, point, push)
    with torch.no_grad():
        expected = model(input_ids=IDS).logits[:, -1]
    handle.remove()
    assert torch.allclose(made.logits[0], expected.float(), atol=1e-4, rtol=1e-4)
