"""The layout of an unknown architecture: refused with the recipe, guessed on request, never guessed wrong."""

from __future__ import annotations

import logging

import pytest
import torch
import transformers as tf

from tillerman.core.errors import HookPointError, ModelError
from tillerman.core.hookpoint import ROUTER_SITES, HookPoint
from tillerman.core.plan import Intervention
from tillerman.models import families
from tillerman.models.families import Family
from tillerman.models.opened import open_model
from tillerman.steering.steer import steer

from .. import families as more, tiny

_GROUPED = tiny._GROUPED
GUESSED = {
    "stablelm": (tf.StableLmConfig(**_GROUPED), Family(projections=("self_attn.o_proj",))),
    "falcon": (
        tf.FalconConfig(vocab_size=320, hidden_size=32, num_hidden_layers=3, num_attention_heads=4),
        Family("h", "self_attention", "mlp", projections=("self_attention.dense",)),
    ),
    # norms after attention and MLP
    "exaone4": (
        tf.Exaone4Config(**_GROUPED),
        Family("layers", "post_attention_layernorm", "post_feedforward_layernorm", projections=("self_attn.o_proj",)),
    ),
    "qwen2_moe": (
        tf.Qwen2MoeConfig(**_GROUPED, **tiny._MOE, moe_intermediate_size=24, shared_expert_intermediate_size=24),
        Family(projections=("self_attn.o_proj",), router="mlp.gate", experts="mlp.experts"),
    ),
    "granitemoe": (
        tf.GraniteMoeConfig(**_GROUPED, num_local_experts=4, num_experts_per_tok=2),
        Family(
            mlp="block_sparse_moe",
            projections=("self_attn.o_proj",),
            router="block_sparse_moe.router",
            experts="block_sparse_moe.experts",
        ),
    ),
    # the first block is dense
    "glm4_moe": (
        tf.Glm4MoeConfig(
            **_GROUPED,
            head_dim=8,
            moe_intermediate_size=24,
            n_routed_experts=4,
            num_experts_per_tok=2,
            first_k_dense_replace=1,
        ),
        Family(projections=("self_attn.o_proj",), router="mlp.gate", experts="mlp.experts"),
    ),
}


def _model(config):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return tf.AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture(autouse=True)
def _table_as_before(monkeypatch):
    monkeypatch.setattr(families, "FAMILIES", dict(families.FAMILIES))
    monkeypatch.setattr("tillerman.models.guessing.FAMILIES", families.FAMILIES)


@pytest.mark.parametrize("kind", GUESSED)
def test_a_layout_is_guessed_on_request_and_said_once(kind, caplog):
    config, expected = GUESSED[kind]
    model = _model(config)
    with pytest.raises(ModelError, match=rf"'{kind}' has no row.*guess_layout=True.*router="):
        open_model(model, tiny.tokenizer())
    with caplog.at_level(logging.WARNING):
        opened = open_model(model, tiny.tokenizer(), guess_layout=True)
        open_model(model, tiny.tokenizer(), guess_layout=True)
    assert opened.parts.family == expected
    assert caplog.text.count("guessed") == 1
    ids = torch.tensor([[5, 6, 7]])
    plain = model(input_ids=ids).logits
    with steer(model, Intervention(tiny.vector(HookPoint(1, "attn_out")), 1.0)):
        assert not torch.allclose(model(input_ids=ids).logits, plain, atol=1e-3)


@pytest.mark.parametrize("kind", [kind for kind, (_, family) in GUESSED.items() if family.router])
def test_a_guessed_router_is_read_and_steered(kind):
    model = _model(GUESSED[kind][0])
    opened = open_model(model, tiny.tokenizer(), guess_layout=True)
    ids = torch.tensor([[5, 6, 7]])
    plain = model(input_ids=ids).logits
    for site in ROUTER_SITES:
        assert opened.parts.width_at(opened.points(site)[0]) == 4
        item = Intervention(tiny.vector(opened.points(site)[-1], width=4), 1.0)
        with steer(model, item):
            assert not torch.allclose(model(input_ids=ids).logits, plain, atol=1e-3)


def test_a_list_inside_a_block_is_not_taken_for_the_blocks():
    model = _model(GUESSED["stablelm"][0])
    model.model.layers[0].mlp.experts = torch.nn.ModuleList([torch.nn.Identity() for _ in range(9)])
    assert open_model(model, tiny.tokenizer(), guess_layout=True).parts.family.blocks == "layers"


_MIXED = {"layer_types": ["linear_attention", "full_attention", "linear_attention"]}
_SMALL = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 3}
# Attention in some blocks only; or parts that multiply or add by themselves, so that attn_out would not be exact.
STREAM_ONLY = {
    "minimax": tf.MiniMaxConfig(**_GROUPED, **_MIXED, head_dim=8, num_local_experts=4, num_experts_per_tok=2),
    "recurrent_gemma": tf.RecurrentGemmaConfig(**_GROUPED, lru_width=32, attention_window_size=8),
    "granitemoe": tf.GraniteMoeConfig(
        **_GROUPED, num_local_experts=4, num_experts_per_tok=2, residual_multiplier=0.2, logits_scaling=4.0
    ),
    "xglm": tf.XGLMConfig(vocab_size=320, d_model=32, ffn_dim=48, num_layers=3, attention_heads=4),
    "biogpt": tf.BioGptConfig(**_SMALL, intermediate_size=48, num_attention_heads=4),
    "rwkv": tf.RwkvConfig(**_SMALL, attention_hidden_size=32),
    "openai-gpt": tf.OpenAIGPTConfig(vocab_size=320, n_embd=32, n_layer=3, n_head=4),
}


@pytest.mark.parametrize("kind", STREAM_ONLY)
@torch.no_grad()
def test_the_residual_stream_is_served_wherever_the_blocks_are_clear_and_what_is_not_is_said(kind, caplog):
    model = _model(STREAM_ONLY[kind])
    with caplog.at_level(logging.WARNING):
        opened = open_model(model, tiny.tokenizer(), guess_layout=True)
    assert "without attn_out, mlp_out" in caplog.text
    block, ids = opened.parts.blocks[1], torch.tensor([[5, 6, 7]])
    vector = tiny.vector(1)
    with steer(model, Intervention(vector, 1.0)):
        ours = model(input_ids=ids).logits

    def push(_, __, out):
        if isinstance(out, torch.Tensor):
            return out + vector.directions[HookPoint(1)]
        return type(out)([out[0] + vector.directions[HookPoint(1)], *out[1:]])

    handle = block.register_forward_hook(push)
    theirs = model(input_ids=ids).logits
    handle.remove()
    assert torch.equal(ours, theirs)
    assert not torch.allclose(ours, model(input_ids=ids).logits, atol=1e-3)
    with pytest.raises(
        HookPointError, match=r"names no attention .*; steer resid_pre or resid_post, or add attention="
    ):
        opened.points("attn_out")


def test_a_hybrids_other_mixer_stands_in_for_attention_if_it_adds_up(monkeypatch):
    monkeypatch.delitem(families.FAMILIES, "qwen3_5_text")
    found = open_model(more.model("qwen3_5_text"), tiny.tokenizer(), guess_layout=True).parts.family
    assert found == Family(linear="linear_attn", projections=("self_attn.o_proj", "linear_attn.out_proj"))


@pytest.mark.parametrize("kind", ["gemma4_text", "bloom", "mpt", "opt", "llama4", "nemotron_h", "jamba", "qwen2_5_vl"])
def test_a_guess_finds_the_blocks_and_the_decoder_that_a_row_names(kind, monkeypatch):
    row = families.FAMILIES[kind]
    monkeypatch.delitem(families.FAMILIES, kind)
    parts = open_model(more.model(kind), tiny.tokenizer(), guess_layout=True).parts
    assert parts.blocks == tuple(more.blocks(kind))
    assert parts.decoder is more.model(kind).base_model.get_submodule(row.decoder)


def test_a_list_of_the_eyes_is_not_taken_for_the_blocks(monkeypatch):
    """Vision towers often have more blocks than the text that they serve."""
    monkeypatch.delitem(families.FAMILIES, "qwen2_5_vl")
    config = more.KINDS["qwen2_5_vl"].config()
    config.vision_config.depth = 5
    model = tf.AutoModelForImageTextToText.from_config(config).eval()
    opened = open_model(model, tiny.tokenizer(), guess_layout=True)
    assert opened.parts.blocks == tuple(model.model.language_model.layers)


def test_models_of_one_type_are_each_guessed_by_what_they_do():
    ours = {"num_local_experts": 4, "num_experts_per_tok": 2, "logits_scaling": 4.0}
    plain = open_model(_model(tf.GraniteMoeConfig(**_GROUPED, **ours)), tiny.tokenizer(), guess_layout=True)
    scaled = open_model(_model(STREAM_ONLY["granitemoe"]), tiny.tokenizer(), guess_layout=True)
    assert plain.parts.family.attention == "self_attn"
    assert scaled.parts.family.attention == ""


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (tf.BertConfig(**_SMALL, num_attention_heads=4, intermediate_size=48), "an earlier token sees a later one"),
        (tf.XLMConfig(vocab_size=320, emb_dim=32, n_layers=3, n_heads=4), r"hands a stream .* on from block to block"),
        (tf.XmodConfig(**_SMALL, num_attention_heads=4, is_decoder=True), r"a pass over five tokens of text fails"),
    ],
    ids=["an encoder", "no list of blocks", "text is not enough"],
)
def test_what_is_no_chain_of_causal_blocks_is_refused_with_the_reason(config, said):
    with pytest.raises(ModelError, match=said):
        open_model(_model(config), tiny.tokenizer(), guess_layout=True)


def test_a_known_architecture_keeps_its_row(caplog):
    with caplog.at_level(logging.WARNING):
        opened = open_model(tiny.model("gemma2"), tiny.tokenizer(), guess_layout=True)
    assert opened.parts.family == families.FAMILIES["gemma2"]
    assert "guessed" not in caplog.text
