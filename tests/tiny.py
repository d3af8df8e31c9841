"""Tiny models and tokenizers, made on the spot from a seed, and paths to their parts written down
independently of the layout table."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn

from tillerman.core.hookpoint import BLOCK_SITES, ROUTER_SITES, HookPoint
from tillerman.core.operators import OPERATORS
from tillerman.core.plan import Intervention
from tillerman.core.provenance import Provenance
from tillerman.core.steerings.vector import SteeringVector
from tillerman.models.families import anatomy
from tillerman.models.opened import OpenModel

VOCAB, WIDTH, LAYERS = 320, 32, 3
# Operators that can do with a direction alone; clamp_atom has tests of its own, and so has the gate of slerp.
# An atom is no direction; reweighing divides by a sum, which is none to divide by but for weights above 0.
DIRECTED = sorted(set(OPERATORS) - {"clamp_atom", "reweigh"})
_IDS = {"vocab_size": VOCAB, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 256}
_SIZE = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    # wide weights: a random model whose attention and answers depend on its input
    "initializer_range": 0.25,
}
_GROUPED = {**_IDS, **_SIZE, "num_key_value_heads": 2}
_MOE = {"num_experts": 4, "num_experts_per_tok": 2}

CONFIGS: dict[str, Callable[[], tf.PretrainedConfig]] = {
    "bitnet": lambda: tf.BitNetConfig(**_GROUPED),
    "gemma2": lambda: tf.Gemma2Config(**_GROUPED, head_dim=8, sliding_window=8),
    "gemma3_text": lambda: tf.Gemma3TextConfig(**_GROUPED, head_dim=8, sliding_window=8),
    "deepseek_v3": lambda: tf.DeepseekV3Config(
        **{**_GROUPED, "num_key_value_heads": 4},
        moe_intermediate_size=24,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=2,
        topk_group=1,
        first_k_dense_replace=1,
        kv_lora_rank=8,
        q_lora_rank=8,
        qk_rope_head_dim=4,
        qk_nope_head_dim=8,
        v_head_dim=8,
    ),
    "gemma3": lambda: tf.Gemma3Config(
        text_config=tf.Gemma3TextConfig(**_GROUPED, head_dim=8, sliding_window=8),
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        },
        mm_tokens_per_image=4,
        image_token_index=319,
        boi_token_index=318,
        eoi_token_index=317,
    ),
    "gpt_oss": lambda: tf.GptOssConfig(
        **_GROUPED,
        head_dim=8,
        sliding_window=8,
        num_local_experts=4,
        num_experts_per_tok=2,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    ),
    "mixtral": lambda: tf.MixtralConfig(**_GROUPED, num_local_experts=4, num_experts_per_tok=2),
    "olmoe": lambda: tf.OlmoeConfig(**_GROUPED, **_MOE),
    "qwen3_moe": lambda: tf.Qwen3MoeConfig(**_GROUPED, **_MOE, head_dim=8, moe_intermediate_size=24),
    "qwen3_next": lambda: tf.Qwen3NextConfig(
        **_GROUPED,
        **_MOE,
        head_dim=8,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        moe_intermediate_size=24,
        shared_expert_intermediate_size=24,
        layer_types=["linear_attention", "full_attention", "linear_attention"],
    ),
    "gpt2": lambda: tf.GPT2Config(
        **{k: v for k, v in _IDS.items() if k != "max_position_embeddings"},
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=4,
        n_positions=256,
        initializer_range=0.25,
    ),
    "gpt_neox": lambda: tf.GPTNeoXConfig(**_IDS, **_SIZE),
    "llama": lambda: tf.LlamaConfig(**_GROUPED),
    "mistral": lambda: tf.MistralConfig(**_GROUPED, sliding_window=8),
    "olmo2": lambda: tf.Olmo2Config(**_GROUPED),
    "phi3": lambda: tf.Phi3Config(**_GROUPED),
    "qwen2": lambda: tf.Qwen2Config(**_GROUPED),
    "qwen3": lambda: tf.Qwen3Config(**_GROUPED, head_dim=8),
}

_BLOCKS: dict[str, Callable[[nn.Module], nn.ModuleList]] = {
    "gpt2": lambda m: m.transformer.h,
    "gpt_neox": lambda m: m.gpt_neox.layers,
    "gemma3": lambda m: m.model.language_model.layers,
}
# What adds to the residual stream: the last module of each branch.
_PARTS: dict[str, tuple[str, str]] = {
    "gpt2": ("attn", "mlp"),
    "gpt_neox": ("attention", "mlp"),
    "gemma2": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "gemma3": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "gemma3_text": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "olmo2": ("post_attention_layernorm", "post_feedforward_layernorm"),
}

CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
CHAT_WITHOUT_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHAT
SPECIAL = ["<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"]
_CORPUS = [
    "Which of these is a fruit? A: apple B: stone C: river Respond with a single letter. Answer: A",
    "Question: is the sky blue? Answer: Yes. Is the grass red? Answer: No.",
    "the cat sat on the mat and the dog lay in the sun",
] * 3


MIXTURES = ["mixtral", "qwen3_moe", "olmoe", "deepseek_v3", "gpt_oss", "qwen3_next"]
# A hybrid's linear attention keeps no keys and values per token, so it cannot branch.
BRANCHING = [family for family in CONFIGS if family != "qwen3_next"]
QUICK = ("llama", "gpt2")  # stand for all families where a matrix takes long


def mostly_slow(families: Iterable[str]) -> list[Any]:
    """A test of every family, of which the quick suite runs two."""
    return [pytest.param(one, marks=() if one in QUICK else pytest.mark.slow) for one in families]


def in_turn(families: Iterable[str], ways: Sequence[Any]) -> list[Any]:
    """Pairs of family and way: the two of the quick suite in every way, the others, which are slow, each in one, so
    that every way has its share of them."""
    whole = [(one, way) for one in QUICK for way in ways]
    others = [one for one in families if one not in QUICK]
    return whole + [
        pytest.param(one, ways[k % len(ways)], marks=pytest.mark.slow, id=f"{one}-{ways[k % len(ways)]}")
        for k, one in enumerate(others)
    ]


def sites(family: str, layer: int) -> tuple[str, ...]:
    """The sites that this block of the fixture has."""
    routed = family in MIXTURES and not (family == "deepseek_v3" and layer == 0)
    return (*BLOCK_SITES, *ROUTER_SITES) if routed else BLOCK_SITES


def width_at(family: str, site: str) -> int:
    return 4 if site in ROUTER_SITES else WIDTH


def new_model(family: str = "llama", seed: int = 0) -> tf.PreTrainedModel:
    """A fresh model in evaluation mode; the caller's random state is not touched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return tf.AutoModelForCausalLM.from_config(CONFIGS[family]()).eval()


@cache
def model(family: str = "llama") -> tf.PreTrainedModel:
    """One shared model per family: steering leaves no trace, and a test that finds one is a find."""
    return new_model(family)


def new_tokenizer(chat: str | None = None) -> tf.PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=SPECIAL, initial_alphabet=alphabet)
    core.train_from_iterator(_CORPUS, trainer)
    made = tf.PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    made.chat_template = chat
    return made


@cache
def tokenizer(chat: str | None = None) -> tf.PreTrainedTokenizerFast:
    return new_tokenizer(chat)


@cache
def opened(family: str = "llama", chat: str | None = None) -> OpenModel:
    causal = model(family)
    return OpenModel(causal, tokenizer(chat), f"tiny-{family}", anatomy(causal))


def fresh_opened(family: str = "llama") -> OpenModel:
    causal = new_model(family)
    return OpenModel(causal, tokenizer(), f"tiny-{family}", anatomy(causal))


def blocks(causal: nn.Module, family: str) -> nn.ModuleList:
    return _BLOCKS[family](causal) if family in _BLOCKS else causal.model.layers


def part(causal: nn.Module, family: str, point: HookPoint) -> nn.Module:
    """The module that a plain hook for this point would hang on."""
    block = blocks(causal, family)[point.layer]
    attention, mlp = _PARTS.get(family, ("self_attn", "mlp"))
    if family == "qwen3_next" and point.layer != 1:  # the other layers of the fixture have linear attention
        attention = "linear_attn"
    if point.site in ROUTER_SITES:
        return block.mlp.router if family == "gpt_oss" else block.mlp.gate
    if point.site == "heads":
        names = ("o_proj", "out_proj", "c_proj", "dense")
        return next(m for n, m in block.named_modules() if "att" in n and n.endswith(names))
    return {"attn_out": block.get_submodule(attention), "mlp_out": block.get_submodule(mlp)}.get(point.site, block)


def hook(causal: nn.Module, family: str, point: HookPoint, change: Callable[[Tensor], Tensor | None]):
    """A plain hook, the oracle: ``change`` gets the activation and may return another one."""

    def on_input(_, args, kwargs):
        h = args[0] if args else kwargs["hidden_states"]
        new = change(h)
        new = h if new is None else new
        return ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new})

    def on_output(_, __, output):
        h = output[0] if isinstance(output, tuple) else output
        new = change(h)
        new = h if new is None else new
        return (new, *output[1:]) if isinstance(output, tuple) else new

    module = part(causal, family, point)
    if point.site in ("resid_pre", "heads"):
        return module.register_forward_pre_hook(on_input, with_kwargs=True)
    return module.register_forward_hook(on_output)


def random_rows(lengths: list[int], seed: int = 0) -> list[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(seed)
    return [tuple(torch.randint(10, VOCAB, (n,), generator=generator).tolist()) for n in lengths]


def padded(rows: list[tuple[int, ...]], side: str, pad: int = 0) -> tuple[Tensor, Tensor]:
    """Token ids and mask."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        at = longest - len(row) if side == "left" else 0
        ids[i, at : at + len(row)] = torch.tensor(row)
        mask[i, at : at + len(row)] = 1
    return ids, mask


def provenance(fingerprint: str = "by hand", width: int = WIDTH, **more: object) -> Provenance:
    plain = Provenance("tiny", fingerprint, width, LAYERS, "tok", "tpl", "none", "caa")
    return replace(plain, **more)


def vector(*points: HookPoint | int, width: int = WIDTH, seed: int = 1, size: float = 3.0) -> SteeringVector:
    generator = torch.Generator().manual_seed(seed)
    at = [HookPoint(p) if isinstance(p, int) else p for p in points]
    directions = {}
    for point in at:
        drawn = torch.randn(width, generator=generator)
        directions[point] = drawn / drawn.norm() * size
    return SteeringVector(directions, dict.fromkeys(at, 2.0), provenance(width=width))


def wreck(point: int) -> tuple[Intervention, ...]:
    """A plan of finite steps that together overflow, so that activations are no numbers after it."""
    one = replace(vector(point), stream_norms={HookPoint(point): 1e-5})
    return (Intervention(one, 1e20, operator="scale"),) * 3


def hidden_states(model, ids):
    """What transformers itself says of the stream, embeddings first; of a copy, since it leaves its hooks on a model
    that it was asked of."""
    return copy.deepcopy(model)(input_ids=ids, output_hidden_states=True).hidden_states
