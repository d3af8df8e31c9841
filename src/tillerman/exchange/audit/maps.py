"""The matrices through which blocks write to the residual stream, whatever stands between them and the stream."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tillerman.core.errors import HookPointError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.exchange.writers import writer_at
from tillerman.models.families import Anatomy

# What architectures call the last map of attention and of the MLP.
_WRITES = frozenset({"o_proj", "out_proj", "c_proj", "dense", "dense_4h_to_h", "down_proj", "fc2", "w2"})
_TRANSPOSED = frozenset({"gpt_oss", "llama4", "llama4_text"})  # keep their experts as [e, in, out]


@dataclass(frozen=True, eq=False)
class WritingMap:
    """``x -> W x + b``: ``matrices`` ``[e, d, n]``, one, or one per expert. ``kind`` is its name inside the block,
    ``name`` that of its weight in the model. ``point`` is where its output joins the stream as it is; None where a
    norm, a factor or a router stands between."""

    name: str
    kind: str
    layer: int
    matrices: Float[Tensor, "e d n"]
    bias: Float[Tensor, " d"] | None
    point: HookPoint | None

    @property
    def inputs(self) -> int:
        return int(self.matrices.shape[0] * self.matrices.shape[2])


def writing_maps(parts: Anatomy) -> tuple[WritingMap, ...]:
    """In the order of the blocks; empty for an architecture whose names are not known."""
    names = {id(parameter): name for name, parameter in parts.causal.named_parameters()}
    found = []
    for layer, block in enumerate(parts.blocks):
        points = _points(parts, layer)
        for inside, parameter in block.named_parameters():
            path, _, leaf = inside.rpartition(".")
            kind = inside if parameter.ndim == 3 else path
            if parameter.ndim not in (2, 3) or kind.rpartition(".")[2] not in _WRITES or leaf.endswith("bias"):
                continue
            name = names[id(parameter)]
            matrices = oriented(parts, name, parameter.detach())
            if matrices.shape[-2] != parts.width or not parameter.is_floating_point():
                continue
            module = name if parameter.ndim == 3 else name.rpartition(".")[0]
            bias = getattr(block.get_submodule(path), "bias", None) if parameter.ndim == 2 else None
            found.append(
                WritingMap(
                    name,
                    kind,
                    layer,
                    matrices if matrices.ndim == 3 else matrices[None],
                    bias.detach() if isinstance(bias, Tensor) and bias.ndim == 1 else None,
                    points.get(module),
                )
            )
    return tuple(found)


def oriented(parts: Anatomy, name: str, weight: Tensor) -> Float[Tensor, "*e out in"]:
    """A weight as ``[..., out, in]``, however its module keeps it; an embedding writes the stream from a token."""
    module = parts.causal.get_submodule(name.rpartition(".")[0])
    turned = isinstance(module, Conv1D | nn.Embedding)
    turned = turned or (weight.ndim == 3 and parts.causal.config.model_type in _TRANSPOSED)
    return weight.mT if turned else weight


def _points(parts: Anatomy, layer: int) -> dict[str, HookPoint]:
    """By the name of the module whose output joins the stream."""
    found = {}
    for site in ("attn_out", "mlp_out"):
        point = HookPoint(layer, site)
        try:
            found[writer_at(parts, point).name] = point
        except (UsageError, HookPointError):  # nothing joins the stream as it is
            continue
    return found
