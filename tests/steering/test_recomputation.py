"""Gradients and receipts under gradient checkpointing are those of a model without it, or an error says why not."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch.utils.checkpoint import CheckpointError, checkpoint

from tillerman.core.errors import UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.steering.steer import steer, steer_rows

from .. import tiny

ROWS = tiny.random_rows([5, 7])
REENTRANT = pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "not reentrant"])


def _model(family="llama", reentrant=None):
    model = tiny.new_model(family).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if reentrant is not None:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
        model.enable_input_require_grads() if reentrant else None
    return model


def _plan(site, scope="last"):
    points = [HookPoint(layer, site) for layer in (0, 1)]
    return (Intervention(tiny.vector(*points, width=tiny.width_at("", site)), 2.0, "add", Scope(scope)),)


def _loss(model, rows, **more):
    ids, mask = tiny.padded(rows, "right")
    return model(input_ids=ids, attention_mask=mask, use_cache=False, **more).logits[mask.bool()].square().mean()


def _gradients(model):
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def _equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        assert torch.allclose(gradient, theirs[name], atol=1e-5, rtol=1e-3), name


def _twice(model, plan):
    """Two passes, of other rows and lengths, before one backward pass: each part is recomputed with its own."""
    with steer(model, plan) as steered:
        (_loss(model, ROWS) + 0.3 * _loss(model, ROWS[1:])).backward()
    return _gradients(model), steered.receipt


@pytest.mark.slow
@REENTRANT
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3_moe"])
def test_gradients_and_receipts_are_those_without_checkpointing(family, reentrant):
    for site in tiny.sites(family, 1):
        plan = _plan(site)
        plain, receipt = _twice(_model(family), plan)
        ours, ours_receipt = _twice(_model(family, reentrant), plan)
        _equal(ours, plain)
        assert ours_receipt.applied == receipt.applied, site
        assert ours_receipt.forwards == receipt.forwards == 2
        unsteered = _model(family)
        (_loss(unsteered, ROWS) + 0.3 * _loss(unsteered, ROWS[1:])).backward()
        assert any(not torch.allclose(plain[n], g, atol=1e-4) for n, g in _gradients(unsteered).items()), site


@REENTRANT
def test_a_plan_per_row_and_two_blocks_are_recomputed_as_they_were(reentrant):
    plans, outer = [_plan("mlp_out"), ()], _plan("attn_out", "all")
    found = []
    for model in (_model(), _model(reentrant=reentrant)):
        with steer(model, outer), steer_rows(model, plans, must_apply=False) as inner:
            (_loss(model, ROWS) + _loss(model, ROWS[::-1])).backward()
        found.append((_gradients(model), inner.receipt.applied))
    _equal(found[1][0], found[0][0])
    assert found[0][1] == found[1][1]


@REENTRANT
def test_checkpointing_that_training_turns_on_inside_the_block_is_right_too(reentrant):
    plan = _plan("mlp_out")
    plain, receipt = _twice(_model(), plan)
    model = _model()
    with steer(model, plan) as steered:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
        model.enable_input_require_grads()
        (_loss(model, ROWS) + 0.3 * _loss(model, ROWS[1:])).backward()
        own = model.base_model._gradient_checkpointing_func
    _equal(_gradients(model), plain)
    assert steered.receipt.applied == receipt.applied
    assert type(own).__name__ == "Link" and type(model.base_model._gradient_checkpointing_func).__name__ == "partial"


@REENTRANT
@pytest.mark.parametrize("site", ["attn_out", "mlp_out", "heads"])
def test_a_backward_pass_after_the_block_would_recompute_unsteered_and_is_an_error(site, reentrant):
    model = _model(reentrant=reentrant)
    with steer(model, _plan(site)):
        loss = _loss(model, ROWS)
    with pytest.raises(UsageError, match="call backward inside the block"):
        loss.backward()


def test_without_checkpointing_a_backward_pass_after_the_block_is_right():
    plan = _plan("mlp_out")
    inside, _ = _twice(_model(), plan)
    model = _model()
    with steer(model, plan):
        loss = _loss(model, ROWS) + 0.3 * _loss(model, ROWS[1:])
    loss.backward()
    _equal(_gradients(model), inside)


def test_a_generate_between_forward_and_backward_changes_nothing():
    plan, found = _plan("mlp_out", "generated"), []
    for model, says in ((_model(), False), (_model(reentrant=False), True)):
        with steer(model, plan):
            loss = _loss(model, ROWS)
            if says:
                model.eval().generate(input_ids=torch.tensor([[5, 6, 7]]), max_new_tokens=3, do_sample=False)
                model.train()
            loss.backward()
        found.append(_gradients(model))
    _equal(*found)


def test_a_whole_model_checkpointed_by_hand_is_right_inside_the_block_and_an_error_after_it():
    plan = _plan("mlp_out")
    plain, receipt = _twice(_model(), plan)
    for inside in (True, False):
        model = _model()
        # torch itself may notice first that the pass is another one now
        with nullcontext() if inside else pytest.raises((UsageError, CheckpointError)):
            with steer(model, plan) as steered:
                loss = checkpoint(_loss, model, ROWS, use_reentrant=False)
                loss = loss + 0.3 * checkpoint(_loss, model, ROWS[1:], use_reentrant=False)
                if inside:
                    loss.backward()
            assert steered.receipt.applied == receipt.applied and steered.receipt.forwards == 2
            if inside:
                _equal(_gradients(model), plain)
            else:
                loss.backward()


@pytest.mark.parametrize(("reentrant", "says"), [(True, "reentrant checkpointing by hand"), (False, "by hand")])
def test_a_part_checkpointed_by_hand_is_refused(reentrant, says):
    model = _model()
    attention = tiny.part(model, "llama", HookPoint(1, "attn_out"))
    with pytest.raises(UsageError, match=says), steer(model, _plan("heads")):

        def by_hand(hidden_states, **kwargs):
            def run(h):
                return type(attention).forward(attention, hidden_states=h, **kwargs)

            return checkpoint(run, hidden_states, use_reentrant=reentrant)

        attention.forward = by_hand
        _loss(model, ROWS).backward()


def test_training_mode_is_said_in_the_receipt():
    ids = torch.tensor([[5, 6, 7]])
    for model, said in ((tiny.new_model(), ()), (tiny.new_model().train(), ("training mode",))):
        with steer(model, _plan("mlp_out", "all")) as steered:
            model(input_ids=ids)
        assert len(steered.receipt.warnings) == len(said)
        assert all(text in str(steered.receipt) for text in said)
