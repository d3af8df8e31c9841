"""Tiny models of the families that ``tiny`` leaves out: one of each, for what every family owes and no more.

As in ``tiny``, paths to their parts are written down independently of the layout table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import transformers as tf
from torch import nn

from .tiny import _GROUPED, _IDS, LAYERS, VOCAB, WIDTH

_LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
}
_SEES = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "patch_size": 4}
_HEARS = {"hidden_size": 16, "conf_num_hidden_layers": 1, "conf_num_attention_heads": 2}
_MIXERS = ("linear_attention", "full_attention", "mlp")


@dataclass(frozen=True)
class Kind:
    """``blocks`` from the causal model; ``attention``, ``mlp`` and ``heads`` from a block: what a plain hook for
    ``attn_out`` and ``mlp_out`` (outputs) and ``heads`` (an input) hangs on, per layer, empty where there is none."""

    config: Callable[[], tf.PretrainedConfig]
    blocks: str = "model.layers"
    attention: tuple[str, ...] = ("self_attn",) * LAYERS
    mlp: tuple[str, ...] = ("mlp",) * LAYERS
    heads: tuple[str, ...] = ("self_attn.o_proj",) * LAYERS
    auto: str = "AutoModelForCausalLM"


def _all(name: str) -> tuple[str, ...]:
    return (name,) * LAYERS


_NONE = _all("")
_NORMED = {"attention": _all("post_attention_layernorm"), "mlp": _all("post_feedforward_layernorm")}
_MIXED = ("linear_attn", "self_attn", "linear_attn")
_HYBRID = {"attention": _MIXED, "heads": ("linear_attn.out_proj", "self_attn.o_proj", "linear_attn.out_proj")}
_SEEING = {"blocks": "model.language_model.layers", "auto": "AutoModelForImageTextToText"}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}


def _gemma4() -> tf.PretrainedConfig:
    return tf.Gemma4TextConfig(
        **_GROUPED,
        head_dim=8,
        global_head_dim=8,
        vocab_size_per_layer_input=VOCAB,
        hidden_size_per_layer_input=8,
        layer_types=["sliding_attention", "full_attention", "full_attention"],
        sliding_window=8,
        num_kv_shared_layers=0,
    )


def _gemma3n() -> tf.PretrainedConfig:
    return tf.Gemma3nTextConfig(
        **{**_GROUPED, "intermediate_size": [48] * LAYERS},
        head_dim=8,
        vocab_size_per_layer_input=VOCAB,
        hidden_size_per_layer_input=8,
        laurel_rank=4,
        layer_types=["sliding_attention", "full_attention", "full_attention"],
        activation_sparsity_pattern=[0.0] * LAYERS,
        sliding_window=8,
        num_kv_shared_layers=0,
    )


def _gemma3n_seeing() -> tf.PretrainedConfig:
    config = tf.Gemma3nConfig(text_config=_gemma3n(), audio_config=_HEARS)
    # Its own tower needs timm; text passes it by.
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    more = {"image_size": 28, "patch_size": 14, "vocab_size": 8, "vocab_offset": VOCAB, "rms_norm_eps": 1e-6}
    config.__dict__["vision_config"] = tf.SiglipVisionConfig(**tower, **more)
    return config


def _llama4() -> tf.PretrainedConfig:
    return tf.Llama4TextConfig(
        **_GROUPED,
        head_dim=8,
        intermediate_size_mlp=48,
        num_local_experts=4,
        num_experts_per_tok=1,
        interleave_moe_layer_step=2,
        attention_chunk_size=64,
    )


KINDS: dict[str, Kind] = {
    "gemma4_text": Kind(_gemma4, **_NORMED),
    "gemma3n_text": Kind(_gemma3n, attention=_NONE, mlp=_NONE),
    "llama4_text": Kind(_llama4, mlp=_all("feed_forward")),
    "opt": Kind(
        lambda: tf.OPTConfig(
            **{**_IDS},
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            ffn_dim=48,
            word_embed_proj_dim=WIDTH,
            init_std=0.25,
        ),
        blocks="model.decoder.layers",
        mlp=_all("fc2"),
        heads=_all("self_attn.out_proj"),
    ),
    "bloom": Kind(
        lambda: tf.BloomConfig(
            vocab_size=VOCAB,
            hidden_size=WIDTH,
            n_layer=LAYERS,
            n_head=4,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            initializer_range=0.25,
        ),
        blocks="transformer.h",
        attention=_all("self_attention.dense"),
        mlp=_all("mlp.dense_4h_to_h"),
        heads=_all("self_attention.dense"),
    ),
    "mpt": Kind(
        lambda: tf.MptConfig(
            vocab_size=VOCAB,
            d_model=WIDTH,
            n_layers=LAYERS,
            n_heads=4,
            max_seq_len=256,
            initializer_range=0.25,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        ),
        blocks="transformer.blocks",
        attention=_all("attn"),
        mlp=_all("ffn.down_proj"),
        heads=_all("attn.out_proj"),
    ),
    "granite": Kind(
        lambda: tf.GraniteConfig(**_GROUPED, residual_multiplier=0.2, logits_scaling=8.0, embedding_multiplier=2.0),
        attention=_NONE,
        mlp=_NONE,
    ),
    "granitemoehybrid": Kind(
        lambda: tf.GraniteMoeHybridConfig(
            **_GROUPED,
            layer_types=["mamba", "attention", "mamba"],
            num_local_experts=4,
            num_experts_per_tok=2,
            shared_intermediate_size=24,
            residual_multiplier=0.2,
            logits_scaling=8.0,
            mamba_n_heads=8,
            mamba_d_head=8,
            mamba_d_state=8,
            mamba_n_groups=1,
            position_embedding_type="rope",
        ),
        attention=_NONE,
        mlp=_NONE,
        heads=("", "self_attn.o_proj", ""),
    ),
    "glm": Kind(lambda: tf.GlmConfig(**_GROUPED, head_dim=8)),
    "glm4": Kind(
        lambda: tf.Glm4Config(**_GROUPED, head_dim=8),
        attention=_all("post_self_attn_layernorm"),
        mlp=_all("post_mlp_layernorm"),
    ),
    "smollm3": Kind(lambda: tf.SmolLM3Config(**_GROUPED, no_rope_layer_interval=2)),
    "cohere2": Kind(lambda: tf.Cohere2Config(**_GROUPED, logit_scale=0.25, sliding_window=8)),
    "olmo3": Kind(lambda: tf.Olmo3Config(**_GROUPED, sliding_window=8), **_NORMED),
    "qwen3_5_text": Kind(lambda: tf.Qwen3_5TextConfig(**_GROUPED, head_dim=8, **_LINEAR), **_HYBRID),
    "qwen3_5_moe_text": Kind(
        lambda: tf.Qwen3_5MoeTextConfig(
            **_GROUPED,
            head_dim=8,
            **_LINEAR,
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=24,
            shared_expert_intermediate_size=24,
        ),
        **_HYBRID,
    ),
    "nemotron_h": Kind(
        lambda: tf.NemotronHConfig(
            **_GROUPED,
            head_dim=8,
            layers_block_type=list(_MIXERS),
            mamba_num_heads=8,
            mamba_head_dim=8,
            ssm_state_size=8,
            n_groups=2,
            chunk_size=8,
        ),
        blocks="model.layers",
        attention=_NONE,
        mlp=_NONE,
        heads=("", "mixer.o_proj", ""),
    ),
    "jamba": Kind(
        lambda: tf.JambaConfig(
            **_GROUPED,
            attn_layer_offset=1,
            attn_layer_period=2,
            num_experts=4,
            num_experts_per_tok=2,
            expert_layer_offset=1,
            expert_layer_period=2,
            use_mamba_kernels=False,
            mamba_d_state=8,
        ),
        attention=("mamba", "self_attn", "mamba"),
        mlp=_all("feed_forward"),
        heads=("", "self_attn.o_proj", ""),
    ),
    "bamba": Kind(
        lambda: tf.BambaConfig(
            **_GROUPED, attn_layer_indices=[1], mamba_n_heads=8, mamba_d_head=8, mamba_d_state=8, mamba_n_groups=1
        ),
        attention=("mamba", "self_attn", "mamba"),
        mlp=_all("feed_forward"),
        heads=("", "self_attn.o_proj", ""),
    ),
    "mamba": Kind(
        lambda: tf.MambaConfig(
            vocab_size=VOCAB,
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            state_size=8,
            initializer_range=0.25,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        ),
        blocks="backbone.layers",
        attention=_NONE,
        mlp=_NONE,
        heads=_NONE,
    ),
    "mamba2": Kind(
        lambda: tf.Mamba2Config(
            vocab_size=VOCAB,
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            state_size=8,
            num_heads=8,
            head_dim=8,
            n_groups=1,
            chunk_size=8,
            initializer_range=0.25,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        ),
        blocks="backbone.layers",
        attention=_NONE,
        mlp=_NONE,
        heads=_NONE,
    ),
    "falcon_mamba": Kind(
        lambda: tf.FalconMambaConfig(
            vocab_size=VOCAB,
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            state_size=8,
            initializer_range=0.25,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        ),
        blocks="backbone.layers",
        attention=_NONE,
        mlp=_NONE,
        heads=_NONE,
    ),
    "qwen2_5_vl": Kind(
        lambda: tf.Qwen2_5_VLConfig(
            text_config={**_GROUPED, "rope_parameters": _ROPE},
            vision_config={**_SEES, "out_hidden_size": WIDTH, "fullatt_block_indexes": [0]},
        ),
        **_SEEING,
    ),
    "qwen2_vl": Kind(
        lambda: tf.Qwen2VLConfig(
            text_config={**_GROUPED, "rope_parameters": _ROPE},
            vision_config={"depth": 1, "embed_dim": 16, "hidden_size": WIDTH, "num_heads": 2, "patch_size": 4},
        ),
        **_SEEING,
    ),
    "qwen3_vl": Kind(
        lambda: tf.Qwen3VLConfig(
            text_config={**_GROUPED, "head_dim": 8, "rope_parameters": _ROPE},
            vision_config={
                **_SEES,
                "out_hidden_size": WIDTH,
                "deepstack_visual_indexes": [0],
                "num_position_embeddings": 16,
            },
        ),
        **_SEEING,
    ),
    "qwen3_5": Kind(
        lambda: tf.Qwen3_5Config(
            text_config={**_GROUPED, "head_dim": 8, **_LINEAR},
            vision_config={**_SEES, "out_hidden_size": WIDTH, "num_position_embeddings": 16},
        ),
        **_SEEING,
        **_HYBRID,
    ),
    "qwen3_5_moe": Kind(
        lambda: tf.Qwen3_5MoeConfig(
            text_config={
                **_GROUPED,
                "head_dim": 8,
                **_LINEAR,
                "num_experts": 4,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": 24,
                "shared_expert_intermediate_size": 24,
            },
            vision_config={**_SEES, "out_hidden_size": WIDTH, "num_position_embeddings": 16},
        ),
        **_SEEING,
        **_HYBRID,
    ),
    "gemma4": Kind(
        lambda: tf.Gemma4Config(text_config=_gemma4(), vision_config=None, audio_config=None), **_SEEING, **_NORMED
    ),
    "gemma3n": Kind(_gemma3n_seeing, **_SEEING, attention=_NONE, mlp=_NONE),
    "llama4": Kind(
        lambda: tf.Llama4Config(
            text_config=_llama4(),
            vision_config={
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 28,
                "patch_size": 14,
                "projector_input_dim": 16,
                "projector_output_dim": 16,
                "vision_output_dim": 16,
            },
        ),
        blocks="language_model.model.layers",
        auto="AutoModelForImageTextToText",
        mlp=_all("feed_forward"),
    ),
}


def new_model(kind: str) -> tf.PreTrainedModel:
    """A fresh model in evaluation mode; the caller's random state is not touched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        auto = getattr(tf, KINDS[kind].auto)
        return auto.from_config(KINDS[kind].config()).eval()


@cache
def model(kind: str) -> tf.PreTrainedModel:
    return new_model(kind)


def blocks(kind: str) -> nn.ModuleList:
    found = model(kind).get_submodule(KINDS[kind].blocks)
    assert isinstance(found, nn.ModuleList)
    return found
