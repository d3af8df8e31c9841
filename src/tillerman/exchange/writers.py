"""The linear maps through which blocks write to the residual stream, and copies of a model with other biases."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tillerman.core.errors import UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.models.families import Anatomy

BIAS_FLAGS = (
    "mlp_bias",
    "attention_bias",
    "use_bias",
    "bias",
)  # of configurations, for biases that are otherwise absent


@dataclass(frozen=True, eq=False)
class LinearWriter:
    """``x -> W x + b``, by its name in the model: ``weight`` is ``W`` ``[out, in]``, ``bias`` ``b`` or None."""

    name: str
    weight: Float[Tensor, "out in"]
    bias: Float[Tensor, " out"] | None

    @property
    def width(self) -> int:
        return len(self.weight)


def writer_at(parts: Anatomy, point: HookPoint) -> LinearWriter:
    """The map whose output, plus a constant, is the site plus that constant: what attention adds for ``attn_out`` and
    ``heads``, what the MLP adds for ``mlp_out`` and ``resid_post``; ``resid_pre`` is the block before.

    ``UsageError`` where a norm or a mixture of experts stands between the map and the stream."""
    if point.site == "resid_pre" and point.layer:
        return writer_at(parts, HookPoint(point.layer - 1))
    block, kind = parts.blocks[point.layer], parts.causal.config.model_type
    if point.site in ("heads", "attn_out"):
        adds, maps = parts.family.attention_of(block), [parts.family.projection_of(block)]
    elif point.site in ("mlp_out", "resid_post") and parts.family.router_of(block) is None:
        adds = parts.family.mlp_of(block)
        maps = [m for m in (adds.modules() if adds is not None else ()) if isinstance(m, nn.Linear | Conv1D)]
    else:
        raise UsageError(f"{point}: no single linear map writes there, so a bias cannot stand for it")
    found = [m for m in maps if m is not None and _of(m, "").width == parts.width]
    if adds is None or not found or found[-1] not in list(adds.modules()):
        raise UsageError(
            f"{point}: in blocks of {kind!r} a norm or a factor stands between the last linear map and the stream, so "
            "that a bias cannot stand for a vector; export directions instead (safetensors, gguf)"
        )
    name = next(name for name, module in parts.causal.named_modules() if module is found[-1])
    return _of(found[-1], name)


def _of(module: nn.Module, name: str) -> LinearWriter:
    weight: Tensor = module.weight  # type: ignore[assignment]
    bias: Tensor | None = module.bias  # type: ignore[assignment]
    return LinearWriter(name, weight.T if isinstance(module, Conv1D) else weight, bias)


@torch.no_grad()
def with_biases(causal: PreTrainedModel, added: Mapping[str, Float[Tensor, " out"]]) -> PreTrainedModel:
    """A copy of the model whose maps have these vectors added to their biases, every other number as it was.

    Where the architecture has the biases only by a flag of its configuration, the flag is set and the other biases
    that it brings are 0. ``UsageError`` for an architecture that has none."""
    made = copy.deepcopy(causal)
    absent = {name for name in added if made.get_submodule(name).bias is None}
    if absent:
        _grow_biases(made, absent)
    for name, v in added.items():
        bias: Tensor = made.get_submodule(name).bias  # type: ignore[assignment]
        bias += v.to(bias)
    return made


def _grow_biases(made: PreTrainedModel, absent: set[str]) -> None:
    there = set(made.state_dict())
    flags = [flag for flag in BIAS_FLAGS if getattr(made.config, flag, None) is False]
    for size in range(1, len(flags) + 1):
        for chosen in combinations(flags, size):
            config = copy.deepcopy(made.config)
            config.update(dict.fromkeys(chosen, True))
            with torch.device("meta"):
                fresh = type(made)(config).state_dict()
            new = set(fresh) - there
            if {f"{name}.bias" for name in absent} <= new:
                made.config.update(dict.fromkeys(chosen, True))
                for name in new:
                    module, _, leaf = name.rpartition(".")
                    like: Tensor = made.get_submodule(module).weight  # type: ignore[assignment]
                    zeros = torch.zeros(fresh[name].shape, dtype=like.dtype, device=like.device)
                    made.get_submodule(module).register_parameter(leaf, nn.Parameter(zeros, requires_grad=False))
                return
    raise UsageError(
        f"an ordinary {made.config.model_type!r} has no bias at {sorted(absent)[0]}, so a vector cannot be baked into "
        "it; peft adds one (tillerman export peft), or export directions"
    )
