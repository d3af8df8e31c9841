"""The layout table: where each model family keeps its decoder blocks and their parts."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tillerman.core.errors import HookPointError, ModelError
from tillerman.core.hookpoint import ROUTER_SITES, HookPoint
from tillerman.core.shown import Shown


@dataclass(frozen=True)
class Family:
    """Paths: ``blocks`` from the decoder, ``decoder`` from the model's ``base_model``, the others from a block.

    ``attention`` and ``mlp`` give what joins the residual stream as it is; empty where no module does, so that only
    the stream itself has sites. ``linear`` stands in for ``attention`` in the blocks of a hybrid that have another
    mixer. ``projections`` are the names that attention's output projection may have. In a mixture of experts
    ``router`` gives (logits, weights, indices) and ``experts`` takes (hidden states, indices, weights). ``decoder`` is
    empty where ``base_model`` itself is what the model calls with the tokens."""

    blocks: str = "layers"
    attention: str = "self_attn"
    mlp: str = "mlp"
    linear: str = ""
    projections: tuple[str, ...] = ()
    router: str = ""
    experts: str = ""
    decoder: str = ""

    def attention_of(self, block: nn.Module) -> nn.Module | None:
        """What attention, or what stands in for it, adds to the stream; None without one."""
        return _first(block, (self.attention, self.linear))

    def mlp_of(self, block: nn.Module) -> nn.Module | None:
        return _first(block, (self.mlp,))

    def projection_of(self, block: nn.Module) -> nn.Module | None:
        """Attention's output projection, whose input is the heads side by side; None without one."""
        return _first(block, self.projections)

    def router_of(self, block: nn.Module) -> nn.Module | None:
        """The router of a mixture of experts; None in a dense block."""
        return _first(block, (self.router,)) if self.experts else None


def _first(block: nn.Module, paths: tuple[str, ...]) -> nn.Module | None:
    for path in filter(None, paths):
        with suppress(AttributeError):
            return block.get_submodule(path)
    return None


_O_PROJ = ("self_attn.o_proj",)
_LLAMA = Family(projections=_O_PROJ)
_MIXTURE = Family(projections=_O_PROJ, router="mlp.gate", experts="mlp.experts")
# Norms after attention and MLP: what reaches the residual stream is what these norms give.
_POST_NORMS = Family(attention="post_attention_layernorm", mlp="post_feedforward_layernorm", projections=_O_PROJ)
# What the parts give is multiplied before it is added, or a block is one mixer of several kinds.
_STREAM_ONLY = Family(attention="", mlp="", projections=_O_PROJ)
_LINEAR = replace(_LLAMA, linear="linear_attn", projections=(*_O_PROJ, "linear_attn.out_proj"))
_LINEAR_MIXTURE = replace(_LINEAR, router=_MIXTURE.router, experts=_MIXTURE.experts)


def _within(family: Family, path: str = "language_model") -> Family:
    """The same decoder as a part of a model that also sees or hears."""
    return replace(family, blocks=f"{path}.{family.blocks}")


# model_type of the configuration -> layout. To add a family: print the model, find the ModuleList
# of decoder blocks under `model.base_model` and the names of attention and MLP inside a block.
FAMILIES: dict[str, Family] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma2": _POST_NORMS,
    "gemma3_text": _POST_NORMS,
    "gemma3": _within(_POST_NORMS),
    "gemma3n_text": _STREAM_ONLY,
    "gemma3n": _within(_STREAM_ONLY),
    "gemma4_text": _POST_NORMS,
    "gemma4": _within(_POST_NORMS),
    "phi3": _LLAMA,
    "olmo2": _POST_NORMS,
    "olmo3": _POST_NORMS,
    "bitnet": _LLAMA,
    "smollm3": _LLAMA,
    "cohere2": _LLAMA,
    "glm": _LLAMA,
    "glm4": Family(attention="post_self_attn_layernorm", mlp="post_mlp_layernorm", projections=_O_PROJ),
    "granite": _STREAM_ONLY,
    "granitemoehybrid": _STREAM_ONLY,
    "mixtral": _MIXTURE,
    "qwen3_moe": _MIXTURE,
    "olmoe": _MIXTURE,
    "deepseek_v3": _MIXTURE,
    "gpt_oss": replace(_MIXTURE, router="mlp.router"),
    "llama4_text": replace(_LLAMA, mlp="feed_forward", decoder="model"),
    "llama4": replace(_LLAMA, mlp="feed_forward", decoder="language_model.model"),
    "qwen3_next": _LINEAR_MIXTURE,
    "qwen3_5_text": _LINEAR,
    "qwen3_5": _within(_LINEAR),
    "qwen3_5_moe_text": _LINEAR_MIXTURE,
    "qwen3_5_moe": _within(_LINEAR_MIXTURE),
    "qwen2_vl": _within(_LLAMA),
    "qwen2_5_vl": _within(_LLAMA),
    "qwen3_vl": _within(_LLAMA),
    "gpt2": Family("h", "attn", "mlp", projections=("attn.c_proj",)),
    "gpt_neox": Family("layers", "attention", "mlp", projections=("attention.dense",)),
    # OPT calls its decoder directly. BLOOM and MPT add the residual inside their parts, so the last linear map counts.
    "opt": Family(mlp="fc2", projections=("self_attn.out_proj",), decoder="decoder"),
    "bloom": Family("h", "self_attention.dense", "mlp.dense_4h_to_h", projections=("self_attention.dense",)),
    "mpt": Family("blocks", "attn", "ffn.down_proj", projections=("attn.out_proj",)),
    # State-space models and their hybrids
    "mamba": Family(attention="", mlp=""),
    "mamba2": Family(attention="", mlp=""),
    "falcon_mamba": Family(attention="", mlp=""),
    "jamba": replace(_LLAMA, mlp="feed_forward", linear="mamba"),
    "bamba": replace(_LLAMA, mlp="feed_forward", linear="mamba"),
    "nemotron_h": replace(_STREAM_ONLY, projections=("mixer.o_proj",)),
}


@dataclass(frozen=True, eq=False, repr=False)
class Anatomy(Shown):
    """The parts of one model that steering touches."""

    causal: PreTrainedModel
    decoder: nn.Module
    blocks: tuple[nn.Module, ...]
    family: Family

    def shown(self) -> dict[str, object]:
        return {"of": type(self.causal).__name__, "blocks": len(self.blocks), "width": self.width}

    @property
    def device(self) -> torch.device:
        return device_of(self.causal)

    @property
    def active(self) -> int | None:
        """Which of several copies of the stream side by side, ``[copies, b, s, d]``, the blocks compute on.

        Gemma 3n (AltUp) keeps four: attention and MLP read and change one, from which the others are predicted and
        corrected, and the mean of all is what the head reads. A residual site is that one copy."""
        index = getattr(self.causal.config.get_text_config(), "altup_active_idx", None)
        return None if index is None else int(index)

    @property
    def width(self) -> int:
        return int(self.causal.config.get_text_config().hidden_size)

    def width_at(self, point: HookPoint) -> int:
        """The width of an activation there: of all heads together at ``heads``, the number of experts at a
        router, else the width of the stream."""
        if point.site in ROUTER_SITES:
            return next(p for p in self._router(point).parameters() if p.ndim == 2).shape[0]  # its linear map [e, d]
        if point.site != "heads":
            return self.width
        projection = self.part(point)
        # Conv1D keeps its weight transposed: [in, out].
        return int(projection.nx) if isinstance(projection, Conv1D) else int(projection.in_features)  # type: ignore[arg-type]

    def heads_at(self, point: HookPoint) -> int:
        """How many heads lie side by side at ``heads``; linear attention has its own number."""
        config = self.causal.config.get_text_config()
        linear = bool(self.family.linear) and self.family.linear in dict(self.blocks[point.layer].named_children())
        return int(config.linear_num_value_heads if linear else config.num_attention_heads)

    def check(self, point: HookPoint) -> None:
        if point.layer >= len(self.blocks):
            raise HookPointError(f"{point}: the model has layers 0..{len(self.blocks) - 1}")

    def part(self, point: HookPoint) -> nn.Module:
        """The module whose input (``resid_pre``, ``heads``, ``router_weights``) or output (the others) holds the
        hook point."""
        self.check(point)
        block = self.blocks[point.layer]
        if point.site in ("attn_out", "mlp_out"):
            return self._adder(point, block)
        if point.site in ROUTER_SITES:
            router = self._router(point)
            return router if point.site == "router" else block.get_submodule(self.family.experts)
        if point.site == "heads":
            if int(getattr(self.causal, "tp_size", None) or 1) > 1:
                raise HookPointError(
                    f"{point}: the model is split over {self.causal.tp_size} processes, and each has some of the heads "
                    "only; steer attn_out, which every process has in full"
                )
            projection = self.family.projection_of(block)
            if projection is None:
                raise HookPointError(
                    f"{point}: the layout row of {self.causal.config.model_type!r} names no output projection of "
                    "attention; steer attn_out, or add projections=(...) to the row"
                )
            return projection
        return block

    def has(self, point: HookPoint) -> bool:
        """Whether the block has this site."""
        try:
            self.part(point)
        except HookPointError:
            return False
        return True

    def _adder(self, point: HookPoint, block: nn.Module) -> nn.Module:
        what, field = ("attention", "attention") if point.site == "attn_out" else ("MLP", "mlp")
        found = self.family.attention_of(block) if field == "attention" else self.family.mlp_of(block)
        if found is None:
            raise HookPointError(
                f"{point}: the layout row of {self.causal.config.model_type!r} names no {what} whose output joins the "
                f"stream as it is; steer resid_pre or resid_post, or add {field}=... to the row"
            )
        return found

    def _router(self, point: HookPoint) -> nn.Module:
        self.check(point)
        router = self.family.router_of(self.blocks[point.layer])
        if router is not None:
            return router
        kind = self.causal.config.model_type
        mixtures = [i for i, block in enumerate(self.blocks) if self.family.router_of(block) is not None]
        if mixtures:
            there = ", ".join(map(str, mixtures))
            raise HookPointError(f"{point}: this block of {kind!r} has no router; layers with one: {there}")
        raise HookPointError(
            f"{point}: the layout row of {kind!r} names no router and experts, as for a dense model; steer mlp_out, "
            "or add router=... and experts=... to the row"
        )


def anatomy(model: nn.Module) -> Anatomy:
    """Find the causal language model (also inside a PEFT or compiled wrapper) and its blocks."""
    return _anatomy(causal_model(model))


def causal_model(model: nn.Module) -> PreTrainedModel:
    """The transformers model itself, whatever wraps it."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            return module
    raise ModelError(f"{type(model).__name__} holds no transformers model; expected a PreTrainedModel")


def _anatomy(causal: PreTrainedModel) -> Anatomy:
    kind = causal.config.model_type
    ensure_decoder_only(causal.config)
    if kind not in FAMILIES:
        raise ModelError(
            f"model type {kind!r} has no row in the layout table. Have it guessed: open_model(..., "
            "guess_layout=True), --guess-layout. Or add a row: tillerman.models.families.FAMILIES[model_type] = "
            "Family(blocks=..., attention=..., mlp=..., projections=(...)), paths from model.base_model to the list "
            "of decoder blocks and from a block to its parts (a hybrid also names linear=..., a mixture of experts "
            "router=... and experts=...)"
        )
    if causal.get_output_embeddings() is None:  # type: ignore[no-untyped-call]
        raise ModelError(f"{type(causal).__name__} has no language-model head; open it with AutoModelForCausalLM")
    family = FAMILIES[kind]
    try:
        decoder = causal.base_model.get_submodule(family.decoder)
        blocks = tuple(decoder.get_submodule(family.blocks).children())
    except AttributeError as error:
        raise ModelError(f"model type {kind!r} does not have the layout its row says: {error}") from error
    for what, part_of in ((family.attention, family.attention_of), (family.mlp, family.mlp_of)):
        lacking = [i for i, block in enumerate(blocks) if part_of(block) is None] if what else []
        if lacking or not blocks:
            raise ModelError(
                f"model type {kind!r} does not have the layout its row says: no {what!r} in block "
                f"{lacking[0] if lacking else 0} of {len(blocks)}"
            )
    return Anatomy(causal, decoder, blocks, family)


def device_of(causal: PreTrainedModel) -> torch.device:
    """Where inputs go: weights that accelerate offloads rest on ``meta`` and are run elsewhere."""
    hook = getattr(causal.get_input_embeddings(), "_hf_hook", None)
    runs_on = getattr(hook, "execution_device", None)
    return causal.device if runs_on is None else torch.device(runs_on)


def ensure_decoder_only(config: PretrainedConfig) -> None:
    """``ModelError`` for a model whose text comes in through an encoder of its own."""
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"model type {config.model_type!r} is an encoder-decoder model, which cannot be steered here: scopes and "
            "positions are those of one text that a decoder goes on writing. Give a decoder-only model"
        )
