"""The layout table: where each model family keeps its decoder blocks and their parts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tillerman.core.errors import HookPointError, ModelError
from tillerman.core.hookpoint import ROUTER_SITES, HookPoint
from tillerman.core.shown import Shown


@dataclass(frozen=True)
class Family:
    """Paths: ``blocks`` from the decoder (the model's ``base_model``), the others from a block.

    ``linear`` stands in for ``attention`` in the blocks of a hybrid that have linear attention.
    ``projections`` are the names that attention's output projection may have. In a mixture of experts
    ``router`` gives (logits, weights, indices) and ``experts`` takes (hidden states, indices, weights)."""

    blocks: str = "layers"
    attention: str = "self_attn"
    mlp: str = "mlp"
    linear: str = ""
    projections: tuple[str, ...] = ()
    router: str = ""
    experts: str = ""

    def attention_of(self, block: nn.Module) -> nn.Module:
        if self.linear and self.attention not in dict(block.named_children()):
            return block.get_submodule(self.linear)
        return block.get_submodule(self.attention)

    def projection_of(self, block: nn.Module) -> nn.Module | None:
        """Attention's output projection, whose input is the heads side by side; None without one."""
        parts = dict(block.named_modules())
        return next((parts[name] for name in self.projections if name in parts), None)

    def router_of(self, block: nn.Module) -> nn.Module | None:
        """The router of a mixture of experts; None in a dense block."""
        return dict(block.named_modules()).get(self.router) if self.router and self.experts else None


_O_PROJ = ("self_attn.o_proj",)
_LLAMA = Family(projections=_O_PROJ)
_MIXTURE = Family(projections=_O_PROJ, router="mlp.gate", experts="mlp.experts")
# Norms after attention and MLP: what reaches the residual stream is what these norms give.
_POST_NORMS = Family(attention="post_attention_layernorm", mlp="post_feedforward_layernorm", projections=_O_PROJ)

# model_type of the configuration -> layout. To add a family: print the model, find the ModuleList
# of decoder blocks under `model.base_model` and the names of attention and MLP inside a block.
FAMILIES: dict[str, Family] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma2": _POST_NORMS,
    "gemma3_text": _POST_NORMS,
    "gemma3": Family("language_model.layers", _POST_NORMS.attention, _POST_NORMS.mlp, projections=_O_PROJ),
    "phi3": _LLAMA,
    "olmo2": _POST_NORMS,
    "bitnet": _LLAMA,
    "mixtral": _MIXTURE,
    "qwen3_moe": _MIXTURE,
    "olmoe": _MIXTURE,
    "deepseek_v3": _MIXTURE,
    "gpt_oss": replace(_MIXTURE, router="mlp.router"),
    "qwen3_next": replace(_MIXTURE, linear="linear_attn", projections=(*_O_PROJ, "linear_attn.out_proj")),
    "gpt2": Family("h", "attn", "mlp", projections=("attn.c_proj",)),
    "gpt_neox": Family("layers", "attention", "mlp", projections=("attention.dense",)),
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
        """Where inputs go: weights that accelerate offloads rest on ``meta`` and are run elsewhere."""
        hook = getattr(self.causal.get_input_embeddings(), "_hf_hook", None)
        runs_on = getattr(hook, "execution_device", None)
        return self.causal.device if runs_on is None else torch.device(runs_on)

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
        if point.site == "attn_out":
            return self.family.attention_of(block)
        if point.site == "mlp_out":
            return block.get_submodule(self.family.mlp)
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
    if kind not in FAMILIES:
        raise ModelError(
            f"model type {kind!r} has no row in the layout table; known: {', '.join(sorted(FAMILIES))}. Add one: "
            "tillerman.models.families.FAMILIES[model_type] = Family(blocks=..., attention=..., mlp=..., "
            "projections=(...)), paths from model.base_model to the list of decoder blocks and from a block to its "
            "parts (a hybrid also names linear=..., a mixture of experts router=... and experts=...). Or have it "
            "guessed: open_model(..., guess_layout=True), --guess-layout"
        )
    if causal.get_output_embeddings() is None:  # type: ignore[no-untyped-call]
        raise ModelError(f"{type(causal).__name__} has no language-model head; open it with AutoModelForCausalLM")
    family = FAMILIES[kind]
    decoder = causal.base_model
    try:
        blocks = tuple(decoder.get_submodule(family.blocks).children())
        blocks[0].get_submodule(family.mlp)
        for block in blocks:
            family.attention_of(block)
    except (AttributeError, IndexError) as error:
        raise ModelError(f"model type {kind!r} does not have the layout its row says: {error}") from error
    return Anatomy(causal, decoder, blocks, family)
