"""Scopes mean the same tokens whatever the batch, the padding, the cache and the search: checked against
brute force, by comparing activations before and after the edit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st
from transformers import DynamicCache

from tillerman.core.errors import UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.steering.steer import steer

from .. import tiny
from .watch import Watch, meant

MARKER = (7, 8)
SCOPES = [
    Scope("all"),
    Scope("prompt"),
    Scope("generated"),
    Scope("last"),
    Scope("after_instruction", marker=MARKER),
    Scope("assistant_turns", marker=MARKER, closing=(62,)),
    Scope("positions", (0, 2)),
    Scope("positions", (-1,)),
    Scope("positions", (-2, 1, 5)),
]
# Marker at different places, twice in one row.
ROWS = [(20, 30, 7, 8, 40), (7, 8, 50), (60, 7, 8, 61, 62, 7, 8, 63)]
POINT = HookPoint(1)
NEW = 3

any_scope = pytest.mark.parametrize("scope", SCOPES, ids=str)


def _generate(model, scope, rows, side, cache, **options):
    ids, mask = tiny.padded(rows, side)
    watch = Watch(tiny.blocks(model, "llama")[POINT.layer])
    with watch.outside(), steer(model, Intervention(tiny.vector(POINT), 1.0, "add", scope)) as steered, watch.inside():
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=NEW,
            min_new_tokens=NEW,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            **({"use_cache": False} if cache == "none" else {"cache_implementation": cache}),
            **options,
        )
    return out, watch, steered.receipt, ids.shape[1]


@any_scope
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("cache", ["dynamic", "static", "none"])
def test_generation_touches_the_tokens_of_the_scope_and_no_others(scope, side, cache):
    _, watch, receipt, width = _generate(tiny.model(), scope, ROWS, side, cache)
    cached = cache != "none"
    passes = watch.touched(cached=cached)
    expected = [
        meant(scope, ROWS, range(0 if i == 0 or not cached else width + i - 1, width + i), side) for i in range(NEW)
    ]
    assert passes == expected
    assert receipt.forwards == NEW
    assert receipt.applied[0].tokens == {str(POINT): sum(map(len, expected))}


@any_scope
def test_beam_search_touches_every_beams_tokens(scope):
    beams = [row for row in ROWS for _ in range(2)]
    _, watch, receipt, width = _generate(tiny.model(), scope, ROWS, "left", "dynamic", num_beams=2)
    expected = [meant(scope, beams, range(0 if i == 0 else width + i - 1, width + i), "left") for i in range(NEW)]
    assert watch.touched(cached=True) == expected
    assert receipt.applied[0].tokens[str(POINT)] == sum(map(len, expected))


@any_scope
def test_several_samples_per_prompt_are_steered_alike(scope):
    repeated = [row for row in ROWS for _ in range(2)]
    ids, mask = tiny.padded(ROWS, "left")
    model, torch_state = tiny.model(), torch.random.get_rng_state()
    watch = Watch(tiny.blocks(model, "llama")[POINT.layer])
    with watch.outside(), steer(model, Intervention(tiny.vector(POINT), 1.0, "add", scope)), watch.inside():
        model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=2,
            min_new_tokens=2,
            do_sample=True,
            num_return_sequences=2,
        )
    torch.random.set_rng_state(torch_state)
    width = ids.shape[1]
    assert watch.touched(cached=True) == [
        meant(scope, repeated, range(width), "left"),
        meant(scope, repeated, range(width, width + 1), "left"),
    ]


@pytest.mark.slow
@settings(max_examples=40)
@given(
    st.lists(st.lists(st.sampled_from([0, 7, 8, 20, 30]), min_size=1, max_size=7).map(tuple), min_size=1, max_size=4),
    st.sampled_from(["left", "right"]),
    st.one_of(
        st.sampled_from(SCOPES),
        st.builds(
            lambda m: Scope("after_instruction", marker=tuple(m)),
            st.lists(st.sampled_from([0, 7, 8]), min_size=1, max_size=3),
        ),
        st.builds(lambda p: Scope("positions", tuple(p)), st.lists(st.integers(-8, 8), min_size=1, max_size=4)),
    ),
)
def test_a_bare_forward_touches_the_tokens_of_the_scope_even_where_padding_looks_like_the_marker(rows, side, scope):
    model = tiny.model()
    ids, mask = tiny.padded(rows, side, pad=7)
    watch = Watch(tiny.blocks(model, "llama")[POINT.layer])
    plan = Intervention(tiny.vector(POINT), 1.0, "add", scope)
    with torch.no_grad(), watch.outside(), steer(model, plan, must_apply=False) as steered, watch.inside():
        model(input_ids=ids, attention_mask=mask)
    expected = meant(scope, rows, range(ids.shape[1]), side)
    assert watch.touched(cached=False) == [expected]
    assert steered.receipt.applied[0].tokens[str(POINT)] == len(expected)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_that_looks_like_the_marker_is_not_the_marker(side):
    model, rows, scope = tiny.model(), [(7, 20, 30), (20, 7, 30, 40, 50)], Scope("after_instruction", marker=(7,))
    ids, mask = tiny.padded(rows, side, pad=7)
    with torch.no_grad(), steer(model, Intervention(tiny.vector(POINT), 1.0, "add", scope)) as steered:
        model(input_ids=ids, attention_mask=mask)
    assert steered.receipt.applied[0].tokens == {str(POINT): 3 + 4}


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_marker_that_the_model_says_itself_does_not_move_the_border(use_cache):
    model, row, scope = tiny.model(), (20, 7, 30, 40), Scope("after_instruction", marker=(7,))

    def says_the_marker(_, scores):
        forced = torch.full_like(scores, -1e9)
        forced[:, 7] = 0.0
        return forced

    with steer(model, Intervention(tiny.vector(POINT), 1.0, "add", scope)) as steered:
        model.generate(
            input_ids=torch.tensor([row]),
            max_new_tokens=3,
            do_sample=False,
            use_cache=use_cache,
            logits_processor=[says_the_marker],
        )
    expected = 3 + 1 + 1 if use_cache else 3 + 4 + 5
    assert steered.receipt.applied[0].tokens == {str(POINT): expected}


@any_scope
def test_bare_forwards_over_a_cache_count_what_follows_the_prompt_as_generated(scope):
    model = tiny.model()
    ids, mask = tiny.padded(ROWS, "left")
    more = torch.tensor([[21, 22]] * len(ROWS))
    watch = Watch(tiny.blocks(model, "llama")[POINT.layer])
    cache = DynamicCache()
    plan = Intervention(tiny.vector(POINT), 1.0, "add", scope)
    with torch.no_grad(), watch.outside(), steer(model, plan), watch.inside():
        model(input_ids=ids, attention_mask=mask, past_key_values=cache)
        model(input_ids=more, attention_mask=torch.cat([mask, torch.ones_like(more)], 1), past_key_values=cache)
    width = ids.shape[1]
    assert watch.touched(cached=True) == [
        meant(scope, ROWS, range(width), "left"),
        meant(scope, ROWS, range(width, width + 2), "left"),
    ]


@any_scope
def test_a_cache_filled_before_the_block_counts_as_the_prompt_of_a_bare_forward(scope):
    model = tiny.model()
    ids, mask = tiny.padded(ROWS, "left")
    more = torch.tensor([[21, 22]] * len(ROWS))
    cache = DynamicCache()
    plan = Intervention(tiny.vector(POINT), 1.0, "add", scope)
    with torch.no_grad():
        model(input_ids=ids, attention_mask=mask, past_key_values=cache)
        with steer(model, plan, must_apply=False) as steered:
            model(input_ids=more, attention_mask=torch.cat([mask, torch.ones_like(more)], 1), past_key_values=cache)
    width = ids.shape[1]
    expected = meant(scope, ROWS, range(width, width + 2), "left")
    assert steered.receipt.applied[0].tokens[str(POINT)] == len(expected)


@any_scope
def test_a_prompt_run_once_and_continued_in_several_rows_is_steered_in_all_of_them(scope):
    model, row = tiny.model(), ROWS[2]
    cache = DynamicCache()
    plan = Intervention(tiny.vector(POINT), 1.0, "add", scope)
    two = [(61, 62), (63, 64)]
    with torch.no_grad(), steer(model, plan) as steered:
        model(input_ids=torch.tensor([ROWS[1], ROWS[1]]), past_key_values=(first := DynamicCache()))
        first.batch_repeat_interleave(2)
        model(input_ids=torch.tensor(two * 2), past_key_values=first)
        model(input_ids=torch.tensor([row]), past_key_values=cache)
        cache.batch_repeat_interleave(2)
        model(input_ids=torch.tensor(two), past_key_values=cache)
    expected = sum(
        len(meant(scope, [r] * n, range(start, stop), "left", len(r)))
        for r, n, start, stop in [(ROWS[1], 2, 0, 3), (ROWS[1], 4, 3, 5), (row, 1, 0, 8), (row, 2, 8, 10)]
    )
    assert steered.receipt.applied[0].tokens[str(POINT)] == expected


@any_scope
def test_generation_over_a_prefix_cached_before_the_block_knows_where_the_prompt_ends(scope):
    model, row = tiny.model(), ROWS[2]
    cache, ids, cut = DynamicCache(), torch.tensor([ROWS[2]]), 5
    watch = Watch(tiny.blocks(model, "llama")[POINT.layer])
    with torch.no_grad():
        model(input_ids=ids[:, :cut], past_key_values=cache)
    with (
        watch.outside(),
        steer(model, Intervention(tiny.vector(POINT), 1.0, "add", scope), must_apply=False),
        watch.inside(),
    ):
        model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            past_key_values=cache,
            max_new_tokens=2,
            min_new_tokens=2,
            do_sample=False,
        )
    assert watch.touched(cached=True, start=cut) == [
        meant(scope, [row], range(cut, 8), "left"),
        meant(scope, [row], range(8, 9), "left"),
    ]


@any_scope
def test_embeddings_are_steered_like_the_tokens_they_stand_for(scope):
    if scope.marker:
        return  # reads token ids; its refusal is tested below
    model = tiny.model()
    ids, mask = tiny.padded(ROWS, "left")
    embeddings = model.get_input_embeddings()(ids).detach()
    runs = []
    for inputs in ({"input_ids": ids}, {"inputs_embeds": embeddings}):
        with steer(model, Intervention(tiny.vector(POINT), 1.0, "add", scope)) as steered:
            model.generate(**inputs, attention_mask=mask, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False)
        runs.append(steered.receipt)
    assert runs[0] == runs[1]


@pytest.mark.parametrize("scope", [one for one in SCOPES if one.marker], ids=str)
def test_a_scope_of_tokens_refuses_embeddings(scope):
    model = tiny.model()
    plan = Intervention(tiny.vector(POINT), 1.0, "add", scope)
    with pytest.raises(UsageError, match="reads token ids"), steer(model, plan):
        model(inputs_embeds=torch.zeros(1, 3, tiny.WIDTH))


@pytest.mark.parametrize("name", ["after_instruction", "assistant_turns"])
def test_a_scope_without_its_marker_says_how_to_get_one(name):
    plan = Intervention(tiny.vector(POINT), 1.0, "add", Scope(name))
    with pytest.raises(UsageError, match=rf"tillerman\.{name}\(tokenizer\)"), steer(tiny.model(), plan):
        tiny.model()(input_ids=torch.tensor([[1, 2, 3]]))


@pytest.mark.parametrize("cache", ["dynamic", "static", "none"])
@pytest.mark.parametrize("scope", [Scope("last"), Scope("all"), Scope("generated")], ids=str)
def test_the_first_generated_token_is_steered(scope, cache):
    """CAA #3: the last prompt token makes it."""
    model = tiny.model()
    target = 99
    # Push the last block's output along the target's unembedding row, far enough to win.
    direction = model.lm_head.weight[target].detach()
    point = HookPoint(tiny.LAYERS - 1)
    vector = tiny.vector(point)
    vector = type(vector)({point: direction}, dict(vector.stream_norms), vector.provenance)
    with steer(model, Intervention(vector, 1e3, "add", scope)):
        ids, mask = tiny.padded(ROWS, "left")
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=1,
            do_sample=False,
            **({"use_cache": False} if cache == "none" else {"cache_implementation": cache}),
        )
    assert out[:, -1].tolist() == [target] * len(ROWS)


@pytest.mark.parametrize("cache", ["dynamic", "none"])
def test_an_earlier_answer_is_steered_in_the_next_turn_as_when_it_was_made(cache):
    """Its logits, made token by token, come again where the whole conversation is a prompt."""
    model, scope = tiny.model(), Scope("assistant_turns", marker=MARKER, closing=(62,))
    plan = Intervention(tiny.vector(POINT, size=3.0), 1.0, "add", scope)
    first = torch.tensor([[20, 30, 7, 8]])
    with torch.no_grad(), steer(model, plan):
        out = model.generate(first, attention_mask=torch.ones_like(first), max_new_tokens=5, min_new_tokens=5,
                             do_sample=False, use_cache=cache != "none", output_logits=True,
                             return_dict_in_generate=True, pad_token_id=0, suppress_tokens=[62, 7])  # fmt: skip
    second = torch.cat([out.sequences, torch.tensor([[62, 40, 41, 7, 8]])], 1)
    with torch.no_grad(), steer(model, plan) as steered:
        again = model(second).logits[0, 3:8]
    assert torch.allclose(again, torch.cat(out.logits), atol=1e-5)
    assert (
        steered.receipt.applied[0].tokens[str(POINT)] == 2 + 5 + 2
    )  # marks and answer, not what closes it or is asked
