"""What attention takes from a part of a text, against plain hooks and a computation by hand."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest
import torch
from transformers.models.llama import modeling_llama

from tillerman.core.errors import FitError
from tillerman.models import attending, attention_calls
from tillerman.models.attending import Spanned, asked, taken

from .. import tiny

LAYERS = (0, 1, 2)
NORM_FOLLOWS = ("gemma2", "gemma3", "gemma3_text", "olmo2")
HEADS_CHANGE = ("bitnet", "qwen3_next")
WHOLE = [family for family in tiny.CONFIGS if family not in (*NORM_FOLLOWS, *HEADS_CHANGE)]


def texts(span=(2, 5), lengths=(9, 7, 12)) -> list[Spanned]:
    return [Spanned(row, span, (len(row) - 3, len(row) - 1)) for row in tiny.random_rows(list(lengths))]


def outputs(opened, text: Spanned, *, silenced: int | None = None, keep: bool = True) -> dict[int, torch.Tensor]:
    """``attn_out`` of every layer at the text's places; with the values of other tokens (``keep``), or of the span,
    at 0 in one layer."""
    got: dict[int, torch.Tensor] = {}
    inside = torch.zeros(len(text.tokens), 1)
    inside[slice(*text.span)] = 1
    with ExitStack() as hooks:
        for layer, block in enumerate(tiny.blocks(opened.model, opened.model.config.model_type)):
            module = tiny.part(opened.model, opened.model.config.model_type, tiny.HookPoint(layer, "attn_out"))
            hook = module.register_forward_hook(
                lambda _, __, out, layer=layer: got.update({layer: out[0] if isinstance(out, tuple) else out})
            )
            hooks.callback(hook.remove)
            if layer == silenced:
                factor = inside if keep else 1 - inside
                hook = block.self_attn.v_proj.register_forward_hook(lambda _, __, out, by=factor: out * by)
                hooks.callback(hook.remove)
        with torch.no_grad():
            opened.model(torch.tensor([text.tokens]))
    return {layer: out[0][list(text.places)] for layer, out in got.items()}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_part_is_attentions_output_with_all_other_values_at_zero(layer):
    opened = tiny.opened()
    got = taken(opened, texts(), LAYERS)[layer].parts
    theirs = [outputs(opened, text, silenced=layer)[layer].mean(0) for text in texts()]
    torch.testing.assert_close(got, torch.stack(theirs), atol=1e-5, rtol=1e-4)


def test_where_a_norm_follows_it_is_what_the_output_loses_without_the_values():
    opened = tiny.opened("gemma2")
    got = taken(opened, texts(), LAYERS)[1].parts
    lost = [outputs(opened, t)[1] - outputs(opened, t, silenced=1, keep=False)[1] for t in texts()]
    torch.testing.assert_close(got, torch.stack([each.mean(0) for each in lost]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", tiny.mostly_slow(WHOLE))
def test_the_parts_of_all_tokens_add_up_to_what_attention_gives(family):
    opened = tiny.opened(family)
    cuts = [((0, 2), (2, 5), (5, len(t.tokens))) for t in texts()]
    pieces = [
        taken(opened, [Spanned(t.tokens, cut[k], t.places) for t, cut in zip(texts(), cuts, strict=True)], LAYERS)
        for k in range(3)
    ]
    plain = asked(opened, texts(), {layer: one.key for layer, one in pieces[0].items()})
    silent = taken(opened, [Spanned(t.tokens, (0, 0), t.places) for t in texts()], LAYERS)
    for layer in LAYERS:
        together = sum(piece[layer].parts for piece in pieces)
        whole = plain[layer].outputs.unflatten(0, (3, 2)).mean(1)
        # a bias of the projection belongs to no token
        bias = whole - together
        torch.testing.assert_close(bias, bias[:1].expand_as(bias), atol=1e-5, rtol=1e-4)
        assert float(together.norm()) > 0 == float(silent[layer].parts.norm())


def test_keys_queries_and_demands_are_those_that_attention_compares():
    opened = tiny.opened()
    seen: dict[str, torch.Tensor] = {}
    attention = opened.model.model.layers[1].self_attn
    by_hand_keys, by_hand_queries = [], []
    for text in texts():
        with ExitStack() as hooks:
            for name in ("q_proj", "k_proj"):
                hook = getattr(attention, name).register_forward_hook(
                    lambda _, __, out, name=name: seen.update({name: out})
                )
                hooks.callback(hook.remove)
            with torch.no_grad():
                opened.model(torch.tensor([text.tokens]))
        turned = opened.model.model.rotary_emb(seen["k_proj"], torch.arange(len(text.tokens))[None])
        q, k = (seen[n].unflatten(-1, (-1, 8)).transpose(1, 2) for n in ("q_proj", "k_proj"))
        q, k = modeling_llama.apply_rotary_pos_emb(q, k, *turned)
        by_hand_keys.append(k[0, :, slice(*text.span)])
        by_hand_queries.append(q[0, :, list(text.places)])
    key = torch.cat(by_hand_keys, 1).mean(1)
    got = taken(opened, texts(), [1])[1]
    torch.testing.assert_close(got.key, key / 8**0.5, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(got.query, torch.cat(by_hand_queries, 1).mean(1), atol=1e-5, rtol=1e-4)
    wanted = [(q * key.repeat_interleave(2, 0)[:, None]).sum(-1).mean(0) / 8**0.5 for q in by_hand_queries]
    demands = asked(opened, texts(), {1: got.key})[1].demands
    torch.testing.assert_close(demands, torch.cat(wanted), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_rows_give_the_same_in_any_batch_and_under_any_attention(implementation, monkeypatch):
    opened = tiny.fresh_opened()
    opened.model.set_attn_implementation(implementation)
    whole = taken(tiny.opened(), texts(), LAYERS)
    monkeypatch.setattr(attending, "token_budget", lambda parts: 1)
    alone = taken(opened, texts(), LAYERS)
    reads = asked(opened, texts(), {2: whole[2].key})[2]
    for layer in LAYERS:
        for ours, theirs in zip(vars(alone[layer]).values(), vars(whole[layer]).values(), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    monkeypatch.undo()
    torch.testing.assert_close(reads.demands, asked(opened, texts(), {2: whole[2].key})[2].demands)


@pytest.mark.parametrize("family", tiny.mostly_slow(HEADS_CHANGE))
def test_attention_that_changes_its_heads_first_is_refused_by_name(family):
    with pytest.raises(FitError, match=f"attention of '{family}' changes its heads before it projects them"):
        taken(tiny.opened(family), texts(), LAYERS)


@pytest.mark.slow
def test_a_layer_without_attention_over_keys_is_left_out():
    assert taken(tiny.opened("qwen3_next"), texts(), [0, 2]) == {}


def test_nothing_is_left_behind_and_calls_of_other_threads_are_not_seen():
    opened, plain = tiny.opened(), modeling_llama.ALL_ATTENTION_FUNCTIONS
    calls = []

    def elsewhere() -> None:
        with torch.no_grad():
            tiny.new_model()(torch.tensor([[5, 6, 7]]))

    def see(layer, call):
        calls.append(layer)
        if len(calls) == 1:
            assert modeling_llama.ALL_ATTENTION_FUNCTIONS is not plain
            other = threading.Thread(target=elsewhere)
            other.start()
            other.join()

    with attention_calls.watched(opened.parts, [0, 2], see), torch.no_grad():
        opened.model(torch.tensor([[5, 6, 7]]))
    assert calls == [0, 2] and modeling_llama.ALL_ATTENTION_FUNCTIONS is plain
    with pytest.raises(RuntimeError, match="stop"), attention_calls.watched(opened.parts, [0], see):
        raise RuntimeError("stop")
    assert modeling_llama.ALL_ATTENTION_FUNCTIONS is plain
