"""One batch, a plan per row: each row is what it is alone under its plan, and rows without one are untouched."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tillerman.core.errors import NotAppliedError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.steering.generation import Sampling, continuation, continuations
from tillerman.steering.steer import steer, steer_rows

from .. import tiny
from .watch import equal_bits

ROWS = tiny.random_rows([5, 9, 3, 6])
PLANS = (
    (Intervention(tiny.vector(0, 2, seed=3), 1.5),),
    (),
    (
        Intervention(tiny.vector(1, seed=4), 0.5, "rotate"),
        Intervention(tiny.vector(1, seed=5), -2.0, "add", Scope("last")),
        Intervention(tiny.vector(HookPoint(2, "mlp_out"), seed=6), 1.0, "ablate", Scope("generated")),
    ),
    (Intervention(tiny.vector(0, seed=7), 1.0, "clamp", Scope("prompt")),),
)


def _generate(model, rows, cache, **options):
    ids, mask = tiny.padded(rows, "left")
    out = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=4,
        min_new_tokens=4,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        **({"use_cache": False} if cache == "none" else {"cache_implementation": cache}),
        **options,
    )
    return torch.stack(out.logits, 1), out.sequences[:, ids.shape[1] :]


def _alone(model, row, plan, cache="dynamic"):
    if not plan:
        return _generate(model, [row], cache)
    with steer(model, plan):
        return _generate(model, [row], cache)


@pytest.mark.parametrize("cache", ["dynamic", "static", "none"])
def test_each_row_generates_what_it_generates_alone_under_its_plan(family, cache):
    model = tiny.model(family)
    with steer_rows(model, PLANS) as steered:
        logits, tokens = _generate(model, ROWS, cache)
    for i, (row, plan) in enumerate(zip(ROWS, PLANS, strict=True)):
        own_logits, own_tokens = _alone(model, row, plan)
        assert torch.equal(tokens[i], own_tokens[0])
        assert torch.allclose(logits[i], own_logits[0], atol=1e-3, rtol=1e-3)
    assert [record.row for record in steered.receipt.applied] == [0, 2, 2, 2, 3]


@pytest.mark.parametrize("cache", ["dynamic", "static", "none"])
def test_rows_without_a_plan_are_bit_equal_to_the_unsteered_batch(family, cache):
    model = tiny.model(family)
    plain, _ = _generate(model, ROWS, cache)
    with steer_rows(model, PLANS):
        steered, _ = _generate(model, ROWS, cache)
    if family in tiny.MIXTURES:  # an expert runs the tokens of all rows together: their number changes its rounding
        torch.testing.assert_close(plain[1], steered[1], atol=1e-4, rtol=1e-4)
    else:
        assert equal_bits(plain[1], steered[1])
    assert not torch.allclose(plain[0], steered[0], atol=1e-2)


_item = st.builds(
    lambda layers, seed, strength, operator, scope: Intervention(
        tiny.vector(*layers, seed=seed), abs(strength) if operator == "replace" else strength, operator, scope
    ),
    st.lists(st.integers(0, 2), min_size=1, max_size=2, unique=True),
    st.integers(0, 20),
    st.sampled_from([-1.0, 0.0, 0.5, 1.0]),
    st.sampled_from(tiny.DIRECTED),
    st.sampled_from([Scope("all"), Scope("prompt"), Scope("last"), Scope("positions", (-1, 1))]),
)


@pytest.mark.slow
@settings(max_examples=25)
@given(st.lists(st.lists(_item, max_size=3).map(tuple), min_size=4, max_size=4), st.sampled_from(["left", "right"]))
def test_any_plans_in_one_pass_are_those_of_the_rows_one_by_one(plans, side):
    if not any(plans):
        return
    model = tiny.model()
    ids, mask = tiny.padded(ROWS, side)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    with torch.no_grad():
        plain = model(**inputs).logits
        with steer_rows(model, plans) as steered:
            together = model(**inputs).logits
        counts = []
        for i, plan in enumerate(plans):
            if not plan:
                assert equal_bits(together[i], plain[i])
                continue
            with steer(model, plan) as one:
                # The whole batch under this row's plan: the same kernels, so the bits may be compared.
                alone = model(**inputs).logits
            assert torch.allclose(together[i], alone[i], atol=1e-5, rtol=1e-5)
            with steer(model, plan) as one:
                model(input_ids=torch.tensor([ROWS[i]]))
            counts += [record.tokens for record in one.receipt.applied]
    assert [record.tokens for record in steered.receipt.applied] == counts


@pytest.mark.parametrize("way", [{"num_beams": 3}, {"num_return_sequences": 2, "do_sample": True}], ids=str)
def test_the_rows_of_one_prompt_share_its_plan(way):
    model = tiny.model()
    ids, mask = tiny.padded(ROWS, "left")
    k = max(way.values())
    plans = [(Intervention(tiny.vector(1), 1.0),), (), (Intervention(tiny.vector(1), 2.0),), ()]
    seen = []
    handle = tiny.hook(model, "llama", HookPoint(1), lambda h: seen.append(h.clone()) or None)
    state = torch.random.get_rng_state()
    after = []
    with steer_rows(model, plans):
        second = tiny.hook(model, "llama", HookPoint(1), lambda h: after.append(h.clone()) or None)
        model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=3, min_new_tokens=3, **way)
        second.remove()
    handle.remove()
    torch.random.set_rng_state(state)
    for before, now in zip(seen, after, strict=True):
        changed = (before != now).any(-1).any(-1)
        assert changed.tolist() == [i // k in (0, 2) for i in range(4 * k)]


def test_rows_that_do_not_share_out_among_the_plans_are_refused():
    with pytest.raises(UsageError, match="3 rows under 2 plans"), steer_rows(tiny.model(), PLANS[:2]):
        tiny.model()(input_ids=torch.ones(3, 2, dtype=torch.long))


def test_rows_without_any_plan_are_refused():
    with pytest.raises(UsageError, match="plan is empty"), steer_rows(tiny.model(), [(), ()]):
        pass


def test_a_rows_plan_that_met_nothing_names_the_row():
    plans = [(Intervention(tiny.vector(1)),), (Intervention(tiny.vector(1), 1.0, "add", Scope("positions", (50,))),)]
    with pytest.raises(NotAppliedError, match="the plan of row 1"), steer_rows(tiny.model(), plans):
        tiny.model()(input_ids=torch.ones(2, 2, dtype=torch.long))


def test_the_receipt_names_the_row():
    with steer_rows(tiny.model(), [(), (Intervention(tiny.vector(1), 1.0, "rotate"),)]) as steered:
        tiny.model()(input_ids=torch.ones(2, 3, dtype=torch.long))
    assert str(steered.receipt) == (
        "1 forward passes\nrow 1: rotate at layers.1.resid_post: 3 tokens, strength 1, scope all"
    )


def test_any_number_of_plans_costs_a_pass_one_addition_per_edited_layer():
    model, count = tiny.model(), []

    class Counting(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            count.append(str(function))
            return function(*args, **(kwargs or {}))

    used = []
    for n in (1, 8):
        plans = [(Intervention(tiny.vector(0, 1, seed=i), 1.0 + i),) for i in range(n)]
        ids = torch.ones(8, 3, dtype=torch.long)
        with torch.no_grad(), steer_rows(model, plans):
            model(input_ids=ids)
            count.clear()
            with Counting():
                model(input_ids=ids)
        used.append(list(count))
    assert used[0] == used[1]


def test_gradients_flow_after_a_first_pass_in_inference_mode():
    model = tiny.new_model()
    embeddings = torch.randn(2, 4, tiny.WIDTH, requires_grad=True)
    plans = [(Intervention(tiny.vector(1), 1.0, "rotate"),), ()]
    with steer_rows(model, plans):
        with torch.inference_mode():
            model(inputs_embeds=embeddings)
        model(inputs_embeds=embeddings).logits.square().mean().backward()
    assert embeddings.grad.abs().min() > 0


def test_continuations_of_a_batch_are_those_of_its_prompts_alone(opened):
    sampling = Sampling(6)
    together = continuations(opened, ROWS, PLANS, sampling)
    assert together == [continuation(opened, row, plan, sampling) for row, plan in zip(ROWS, PLANS, strict=True)]
    assert together != continuations(opened, ROWS, [()] * 4, sampling)


def test_a_continuation_that_ends_early_is_not_filled_with_padding():
    from tillerman.steering.generation import _until

    assert _until({2}, [5, 2, 0, 0]) == [5, 2]
    assert _until({2}, [5, 6]) == [5, 6]


@pytest.mark.parametrize("plans", [[], [()]])
def test_prompts_and_plans_of_different_number_are_refused(opened, plans):
    with pytest.raises(UsageError, match="one plan per prompt"):
        continuations(opened, ROWS, plans, Sampling(2))


@pytest.mark.parametrize("operator", ["add", "ablate", "clamp", "rotate", "replace"])
def test_strength_0_beside_another_strength_of_the_same_operator_is_bit_equal(operator):
    model, ids = tiny.model(), torch.tensor([[20, 30, 40], [20, 30, 40]])
    plain = model(input_ids=ids).logits
    plans = [(Intervention(tiny.vector(1), strength, operator),) for strength in (0.0, 0.5)]
    with steer_rows(model, plans):
        steered = model(input_ids=ids).logits
    assert equal_bits(plain[0], steered[0])
    assert not torch.allclose(plain[1], steered[1], atol=1e-3)
