"""Steering is ``h + strength * v``, no more and no less, at every site of every family."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tillerman.core.hookpoint import BLOCK_SITES, HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.steering.steer import steer

from .. import tiny
from .watch import Watch, equal_bits, meant

ROWS = tiny.random_rows([5, 9, 3])


def _logits(model, side="left", rows=ROWS, **more):
    ids, mask = tiny.padded(rows, side)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, **more).logits
    return [logits[i][mask[i].bool()] for i in range(len(rows))]


@pytest.mark.parametrize("site", BLOCK_SITES)
def test_steering_equals_a_hand_made_hook(family, site):
    model = tiny.model(family)
    points = [HookPoint(0, site), HookPoint(tiny.LAYERS - 1, site)]
    vector = tiny.vector(*points)
    ids, mask = tiny.padded(ROWS, "right")
    plain = model(input_ids=ids, attention_mask=mask).logits
    with steer(model, Intervention(vector, -1.5)):
        ours = model(input_ids=ids, attention_mask=mask).logits

    real = mask.bool()[..., None]
    handles = [
        tiny.hook(model, family, p, lambda h, p=p: torch.where(real, h + -1.5 * vector.directions[p], h))
        for p in points
    ]
    theirs = model(input_ids=ids, attention_mask=mask).logits
    for handle in handles:
        handle.remove()
    assert torch.equal(ours, theirs)
    assert not torch.allclose(ours, plain, atol=1e-3)


@pytest.mark.parametrize("site", BLOCK_SITES)
def test_strength_0_is_bit_equal_to_no_steering(family, site):
    model = tiny.model(family)
    vector = tiny.vector(*(HookPoint(layer, site) for layer in range(tiny.LAYERS)), size=1e30)
    plain = _logits(model)
    with steer(model, Intervention(vector, 0.0)) as steered:
        same = _logits(model)
    assert all(equal_bits(a, b) for a, b in zip(plain, same, strict=True))
    assert set(steered.receipt.applied[0].tokens.values()) == {sum(map(len, ROWS))}


def test_strength_0_is_bit_equal_even_where_the_vector_overflows_the_models_type():
    model = tiny.new_model().to(torch.float16)
    ids = torch.tensor([[5, 6, 7]])
    plain = model(input_ids=ids).logits
    with steer(model, Intervention(tiny.vector(1, size=1e6), 0.0)):
        assert torch.equal(model(input_ids=ids).logits, plain)
    assert bool(torch.isfinite(plain).all())


def test_a_vector_added_at_attention_or_mlp_reaches_the_residual_stream_as_it_is(family):
    """What a site adds to the stream is what arrives there: no norm in between."""
    model = tiny.model(family)
    for site in ("attn_out", "mlp_out"):
        point = HookPoint(tiny.LAYERS - 1, site)
        # mlp_out of the last block: nothing after it but the stream
        block = tiny.blocks(model, family)[point.layer]
        vector = tiny.vector(point)
        outputs = []
        for strength in (0.0, 2.0):
            watch = Watch(block)
            with steer(model, Intervention(vector, strength)), watch.inside():
                _logits(model, rows=ROWS[:1])
            outputs.append(watch.after[0])
        change = outputs[1] - outputs[0]
        if site == "mlp_out" or family == "gpt_neox":
            assert torch.allclose(change, (2.0 * vector.directions[point]).expand_as(change), atol=1e-4)
        else:
            assert change.abs().max() > 1e-3


@pytest.mark.parametrize("side", ["left", "right"])
def test_batch_neighbours_and_padding_change_nothing(family, side):
    model = tiny.model(family)
    for scope in (Scope("all"), Scope("last"), Scope("positions", (0, -2))):
        with steer(model, Intervention(tiny.vector(0, 2), 1.0, "add", scope)):
            together = _logits(model, side)
            alone = [_logits(model, side, [row])[0] for row in ROWS]
        for a, b in zip(together, alone, strict=True):
            assert torch.allclose(a, b, atol=2e-4, rtol=1e-4)


def _generated(model, rows, scope, cache):
    ids, mask = tiny.padded(rows, "left")
    with steer(model, Intervention(tiny.vector(0, 2), 1.0, "add", scope)):
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=4,
            min_new_tokens=4,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            **({"use_cache": False} if cache == "none" else {"cache_implementation": cache}),
        )
    return torch.stack(out.logits, 1), out.sequences[:, ids.shape[1] :]


@pytest.mark.parametrize(
    "scope", [Scope("all"), Scope("prompt"), Scope("last"), Scope("generated"), Scope("positions", (0, 6))], ids=str
)
def test_the_cache_changes_nothing(family, scope):
    logits, tokens = _generated(tiny.model(family), ROWS, scope, "dynamic")
    for cache in ("static", "none"):
        other_logits, other_tokens = _generated(tiny.model(family), ROWS, scope, cache)
        assert torch.equal(tokens, other_tokens)
        assert torch.allclose(logits, other_logits, atol=5e-4, rtol=1e-3)


def test_a_batch_generates_what_its_rows_generate_alone(family):
    logits, tokens = _generated(tiny.model(family), ROWS, Scope("all"), "dynamic")
    for i, row in enumerate(ROWS):
        own_logits, own_tokens = _generated(tiny.model(family), [row], Scope("all"), "dynamic")
        assert torch.equal(tokens[i], own_tokens[0])
        assert torch.allclose(logits[i], own_logits[0], atol=5e-4, rtol=1e-3)


@settings(max_examples=15)
@given(
    st.floats(-50, 50, width=32).filter(bool),
    st.lists(st.integers(-6, 6), min_size=1, max_size=3).map(tuple),
    st.sampled_from(["left", "right"]),
)
def test_tokens_outside_the_scope_are_bit_equal_and_the_others_moved_by_strength_times_v(strength, positions, side):
    model, point = tiny.model(), HookPoint(1)
    watch = Watch(tiny.blocks(model, "llama")[1])
    vector, scope = tiny.vector(point), Scope("positions", positions)
    plan = Intervention(vector, strength, "add", scope)
    ids, mask = tiny.padded(ROWS, side)
    with torch.no_grad(), watch.outside(), steer(model, plan, must_apply=False), watch.inside():
        model(input_ids=ids, attention_mask=mask)
    before, after = watch.before[0], watch.after[0]
    chosen = torch.zeros_like(mask, dtype=torch.bool)
    for row, column in meant(scope, ROWS, range(ids.shape[1]), side):
        chosen[row, column] = True
    assert equal_bits(before[~chosen], after[~chosen])
    assert torch.equal(after[chosen], before[chosen] + strength * vector.directions[point])


def test_a_row_that_the_scope_does_not_meet_gives_bit_equal_logits():
    model = tiny.model()
    plain = _logits(model, "right")
    with steer(model, Intervention(tiny.vector(1), 5.0, "add", Scope("positions", (7,)))):
        steered = _logits(model, "right")  # only the row of nine tokens has a position 7
    assert equal_bits(plain[0], steered[0])
    assert equal_bits(plain[2], steered[2])
    assert not torch.allclose(plain[1], steered[1], atol=1e-3)


def test_interventions_on_one_point_apply_in_the_order_of_the_plan():
    model, point = tiny.model(), HookPoint(1)
    huge, small = tiny.vector(point, size=1e9), tiny.vector(point, seed=2)
    # In float32 (h + 1e9) - 1e9 forgets h, (h + small) does not: the order shows.
    plan = (Intervention(huge, 1.0), Intervention(huge, -1.0), Intervention(small, 1.0))
    outputs = []
    for order in (plan, plan[::-1]):
        watch = Watch(tiny.blocks(model, "llama")[1])
        with watch.outside(), steer(model, order), watch.inside():
            _logits(model)
        expected = watch.before[0]
        for item in order:
            changed = expected + item.strength * item.steering.directions[point]
            mask = tiny.padded(ROWS, "left")[1].bool()[..., None]
            expected = torch.where(mask, changed, expected)
        assert torch.equal(watch.after[0], expected)
        outputs.append(expected)
    assert not torch.equal(*outputs)


def test_nested_blocks_compose_the_outer_one_first():
    model, point = tiny.model(), HookPoint(1)
    huge = tiny.vector(point, size=1e9)
    first, second = Intervention(huge, 1.0), Intervention(tiny.vector(point, seed=2), 1.0)
    with steer(model, (first, second)):
        together = _logits(model)
    with steer(model, first) as outer, steer(model, second) as inner:
        nested = _logits(model)
    assert all(torch.equal(a, b) for a, b in zip(together, nested, strict=True))
    assert outer.receipt.applied[0].tokens == inner.receipt.applied[0].tokens


@pytest.mark.parametrize("cache", ["dynamic", "none"])
def test_nested_blocks_both_know_where_the_prompt_ends(cache):
    model = tiny.model()
    ids, mask = tiny.padded(ROWS, "left")
    with ExitStack() as stack:
        blocks = [
            stack.enter_context(steer(model, Intervention(tiny.vector(layer), 1.0, "add", Scope("generated"))))
            for layer in (0, 1)
        ]
        model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=3,
            min_new_tokens=3,
            do_sample=False,
            use_cache=cache != "none",
        )
    expected = 3 * 3 if cache == "dynamic" else 3 * (1 + 2 + 3)
    assert [list(b.receipt.applied[0].tokens.values()) for b in blocks] == [[expected], [expected]]


def test_gradients_flow_through_a_steered_pass_to_the_weights_and_the_input():
    model = tiny.new_model()
    embeddings = torch.randn(1, 4, tiny.WIDTH, requires_grad=True)
    with steer(model, Intervention(tiny.vector(1), 1.0)):
        model(inputs_embeds=embeddings).logits.square().mean().backward()
    assert embeddings.grad is not None
    assert embeddings.grad.abs().min() > 0
    weight = tiny.blocks(model, "llama")[0].mlp.down_proj.weight
    assert weight.grad is not None
    assert weight.grad.abs().max() > 0


def test_a_half_precision_model_is_steered_in_its_own_type():
    model = tiny.new_model().to(torch.bfloat16)
    vector, point = tiny.vector(1), HookPoint(1)
    watch = Watch(tiny.blocks(model, "llama")[1])
    with torch.no_grad(), watch.outside(), steer(model, Intervention(vector, 2.0)), watch.inside():
        model(input_ids=torch.tensor([[5, 6, 7]]))
    assert watch.after[0].dtype == torch.bfloat16
    assert torch.equal(watch.after[0], watch.before[0] + 2.0 * vector.directions[point].to(torch.bfloat16))


def test_an_older_blocks_tuple_is_steered_in_its_first_element_and_keeps_the_rest():
    from tillerman.models.edit import with_output

    h, rest = torch.zeros(1, 2, 3), object()
    out = with_output(lambda x: x + 1, (h, rest))
    assert torch.equal(out[0], h + 1)
    assert out[1] is rest
