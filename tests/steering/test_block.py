"""The ``with`` block: it restores everything, touches nobody else's things, and complains if nothing happened."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tillerman.core.errors import HookPointError, MismatchError, ModelError, NotAppliedError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.steering.generation import Sampling, continuation
from tillerman.steering.steer import steer

from .. import tiny

IDS = torch.tensor([[5, 6, 7, 8]])
PLAN = (Intervention(tiny.vector(0, 2), 2.0), Intervention(tiny.vector(HookPoint(1, "resid_pre")), 1.0))


def _state(model):
    return {
        "hooks": {
            name: (list(m._forward_hooks.items()), list(m._forward_pre_hooks.items()))
            for name, m in model.named_modules()
        },
        "own attributes": {name: sorted(m.__dict__) for name, m in model.named_modules()},
        "config": model.config.to_dict(),
        "generation": model.generation_config.to_dict(),
        "training": [m.training for m in model.modules()],
        "types": [type(m) for m in model.modules()],
    }


def _weights(model):
    return {name: p.detach().clone() for name, p in model.state_dict().items()}


def _use(model):
    model(input_ids=IDS)
    model.generate(input_ids=IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=2, do_sample=False)


def test_everything_is_restored(family):
    model = tiny.new_model(family)
    _use(model)  # transformers itself sets attributes on first use
    state, weights = _state(model), _weights(model)
    plain = model(input_ids=IDS).logits
    with steer(model, PLAN):
        _use(model)
        assert "generate" in model.__dict__
    assert _state(model) == state
    assert all(torch.equal(w, weights[name]) for name, w in model.state_dict().items())
    assert torch.equal(model(input_ids=IDS).logits, plain)


def test_everything_is_restored_after_an_exception_in_the_block():
    model = tiny.new_model()
    _use(model)
    state = _state(model)
    with pytest.raises(ZeroDivisionError), steer(model, PLAN):
        _use(model)
        raise ZeroDivisionError
    assert _state(model) == state


def test_everything_is_restored_after_an_exception_in_generate():
    model = tiny.new_model()
    _use(model)
    state = _state(model)

    def breaks(_, scores):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), steer(model, PLAN):
        model.generate(input_ids=IDS, max_new_tokens=2, logits_processor=[breaks])
    assert _state(model) == state


def test_a_bare_forward_after_an_interrupted_generate_is_a_prompt_again():
    model = tiny.model()

    def breaks(_, scores):
        raise ZeroDivisionError

    with steer(model, Intervention(tiny.vector(0), 1.0, "add", Scope("generated")), must_apply=False) as steered:
        with pytest.raises(ZeroDivisionError):
            model.generate(input_ids=IDS[:, :2], max_new_tokens=2, logits_processor=[breaks])
        model(input_ids=IDS)
    # In each of the two passes the last prompt token of every row, which makes the first new token.
    assert steered.receipt.applied[0].tokens == {"layers.0.resid_post": 2 * len(IDS)}


def test_everything_is_restored_when_nothing_was_steered():
    model = tiny.new_model()
    _use(model)
    state = _state(model)
    with pytest.raises(NotAppliedError), steer(model, PLAN):
        pass
    assert _state(model) == state


def test_other_peoples_hooks_survive_and_run():
    model = tiny.new_model()
    seen = []
    block = tiny.blocks(model, "llama")[0]
    handles = [
        block.register_forward_hook(lambda *_: seen.append("before")),
        model.model.register_forward_pre_hook(lambda *_: seen.append("decoder")),
    ]
    with steer(model, PLAN):
        handles.append(block.register_forward_hook(lambda *_: seen.append("inside")))
        model(input_ids=IDS)
    assert sorted(seen) == ["before", "decoder", "inside"]
    seen.clear()
    model(input_ids=IDS)
    assert sorted(seen) == ["before", "decoder", "inside"]
    for handle in handles:
        handle.remove()


def test_a_generate_of_the_users_own_is_used_and_left_in_place():
    model = tiny.new_model()
    called = []

    def own(*args, **kwargs):
        called.append(1)
        return type(model).generate(model, *args, **kwargs)

    model.generate = own
    with steer(model, PLAN):
        _use(model)
    assert called == [1]
    assert model.__dict__["generate"] is own


def test_the_callers_tensors_are_left_as_they_are():
    model = tiny.model()
    ids, mask = tiny.padded(tiny.random_rows([3, 5]), "left")
    embeddings = model.get_input_embeddings()(ids).detach()
    plan = Intervention(tiny.vector(HookPoint(0, "resid_pre")), 2.0)
    copies = [t.clone() for t in (ids, mask, embeddings, plan.steering.directions[HookPoint(0, "resid_pre")])]
    with torch.no_grad(), steer(model, plan):
        model(input_ids=ids, attention_mask=mask)
        model(inputs_embeds=embeddings, attention_mask=mask)
    now = (ids, mask, embeddings, plan.steering.directions[HookPoint(0, "resid_pre")])
    assert all(torch.equal(a, b) for a, b in zip(copies, now, strict=True))


def test_a_block_in_which_the_model_never_ran_is_an_error():
    with (
        pytest.raises(NotAppliedError, match=r"layers\.1\.resid_post.*0 forward passes"),
        steer(tiny.model(), Intervention(tiny.vector(1))),
    ):
        pass


def test_a_scope_that_met_no_token_is_an_error_that_names_the_scope():
    plan = (Intervention(tiny.vector(0)), Intervention(tiny.vector(1), 1.0, "add", Scope("positions", (50,))))
    with (
        pytest.raises(NotAppliedError, match=r"layers\.1\.resid_post \(scope positions:50, 1 forward"),
        steer(tiny.model(), plan),
    ):
        tiny.model()(input_ids=IDS)


def test_must_apply_false_leaves_that_check_out():
    with steer(tiny.model(), Intervention(tiny.vector(1)), must_apply=False) as steered:
        pass
    assert steered.receipt.applied[0].tokens == {"layers.1.resid_post": 0}
    assert not steered.receipt.applied[0].touched


def test_an_exception_of_the_users_is_not_covered_by_ours():
    with pytest.raises(KeyError), steer(tiny.model(), PLAN):
        raise KeyError("theirs")


def test_a_layer_the_model_does_not_have_is_refused_with_the_range():
    with (
        pytest.raises(HookPointError, match=r"layers\.9\.resid_post: the model has layers 0\.\.2"),
        steer(tiny.model(), Intervention(tiny.vector(9))),
    ):
        pass


def test_a_vector_of_another_width_is_refused_with_both_widths():
    with (
        pytest.raises(MismatchError, match="has width 48, the model 32"),
        steer(tiny.model(), Intervention(tiny.vector(1, width=48))),
    ):
        pass


def test_an_empty_plan_is_refused():
    with pytest.raises(UsageError, match="plan is empty"), steer(tiny.model(), ()):
        pass


def test_what_holds_no_transformers_model_is_refused():
    with pytest.raises(ModelError, match="Linear holds no transformers model"), steer(nn.Linear(2, 2), PLAN):
        pass


class _Wrapper(nn.Module):
    """As PEFT does it: the model sits deep inside, ``generate`` and ``forward`` are passed on."""

    def __init__(self, causal):
        super().__init__()
        self.base_model = nn.Module()
        self.base_model.model = causal

    def forward(self, *args, **kwargs):
        return self.base_model.model(*args, **kwargs)

    def generate(self, *args, **kwargs):
        return self.base_model.model.generate(*args, **kwargs)


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_model_inside_a_wrapper_is_steered(use_cache):
    model = tiny.new_model()
    plan = Intervention(tiny.vector(1), 1.0, "add", Scope("generated"))
    options = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False, "use_cache": use_cache}
    runs = []
    for used in (model, _Wrapper(model)):
        with steer(used, plan) as steered:
            out = used.generate(input_ids=IDS, attention_mask=torch.ones_like(IDS), **options)
        runs.append((out.tolist(), steered.receipt))
    assert runs[0] == runs[1]
    assert runs[0][1].applied[0].tokens["layers.1.resid_post"] == (3 if use_cache else 1 + 2 + 3)
    assert "generate" not in model.__dict__


def test_a_receipt_says_what_was_done():
    vector = tiny.vector(1, size=4.0)
    with steer(tiny.model(), Intervention(vector, -0.5), warnings=("template differs",)) as steered:
        tiny.model()(input_ids=IDS)
        assert steered.receipt.forwards == 1  # readable inside the block
        tiny.model()(input_ids=IDS)
    (applied,) = steered.receipt.applied
    assert steered.receipt.forwards == 2
    assert applied.tokens == {"layers.1.resid_post": 8}
    assert applied.doses["layers.1.resid_post"] == pytest.approx(-0.5 * 4.0 / 2.0)
    assert str(steered.receipt) == (
        "2 forward passes\nadd at layers.1.resid_post: 8 tokens, strength -0.5, dose -1.00, scope all\n"
        "warning: template differs"
    )


def test_a_continuation_is_the_same_for_the_same_seed_and_leaves_the_random_state(opened):
    prompt = (5, 6, 7)
    state = torch.random.get_rng_state()
    sampling = Sampling(6, temperature=1.0, seed=3)
    texts = [continuation(opened, prompt, plan, sampling) for plan in ((), (), PLAN, PLAN)]
    assert texts[0] == texts[1]
    assert texts[2] == texts[3]
    assert texts[0] != texts[2]
    assert torch.equal(torch.random.get_rng_state(), state)
    zero = (Intervention(tiny.vector(1), 0.0),)
    assert continuation(opened, prompt, zero, sampling) == texts[0]
    assert continuation(opened, prompt, (), Sampling(6, 1.0, seed=4)) != texts[0]


@pytest.mark.parametrize("options", [{"max_new_tokens": 0}, {"temperature": -1.0}, {"temperature": float("nan")}])
def test_sampling_out_of_range_is_refused(options):
    with pytest.raises(UsageError):
        Sampling(**options)
