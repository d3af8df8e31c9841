"""An artefact inside ordinary weights: a model folder that needs no Tillerman, or a PEFT adapter.

Added vectors are biases of the maps that write to the stream; what is removed from a map's output is removed from its
weights, ``W - s u (u . W)`` (weight orthogonalisation: Arditi et al. 2024, arXiv 2406.11717, section 4.1).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tillerman.core.artefact import Artefact
from tillerman.core.errors import ModelError, UsageError
from tillerman.core.files import make_folder, write_text
from tillerman.core.hookpoint import BLOCK_SITES, HookPoint, named
from tillerman.core.steerings.vector import SteeringVector
from tillerman.exchange.outgoing import ARTEFACT, Outgoing
from tillerman.exchange.writers import LinearWriter, with_biases, writer_at
from tillerman.models.families import Anatomy
from tillerman.models.opened import OpenModel

FOLDERS: Mapping[str, str] = {
    "hf-model": "transformers, vLLM and whatever reads a model folder",
    "peft": "peft, on top of the model",
}
_REMOVES = ("attn_out", "mlp_out")


@dataclass(frozen=True, eq=False)
class Baked:
    """What becomes of one map: ``W + left right^T`` ``[out], [in]``, and a vector added to its bias. Either may be
    absent."""

    bias: Float[Tensor, " out"] | None = None
    left: Float[Tensor, " out"] | None = None
    right: Float[Tensor, " in"] | None = None


def lacks_weights(artefact: Artefact) -> tuple[str, ...]:
    """What the artefact does that weights cannot say, in words."""
    cell = artefact.cell
    if artefact.abstains:
        raise UsageError("the artefact abstains (strength 0), so there is nothing to bake; name a --strength")
    if not isinstance(artefact.steering, SteeringVector):
        raise UsageError(f"a {type(artefact.steering).__name__} depends on what the model reads; no weights say that")
    said = []
    sites = _REMOVES if cell.operator == "ablate" else BLOCK_SITES
    if cell.operator not in ("add", "ablate"):
        said.append(f"operator {cell.operator!r} (weights add or remove)")
    elsewhere = [p for p in cell.points if p.site not in sites or p == HookPoint(0, "resid_pre")]
    if elsewhere:
        said.append(f"{cell.operator} at {named(elsewhere)}")
    if cell.scope.name != "all":
        said.append(f"scope {str(cell.scope)!r} (weights act on every token)")
    if artefact.gate is not None:
        said.append(f"the gate ({artefact.gate})")
    return tuple(said)


def in_weights(parts: Anatomy, artefact: Artefact) -> dict[str, Baked]:
    """The maps to change, by name. ``UsageError`` names a hook point that no map writes to."""
    cell, steering = artefact.cell, artefact.steering
    found: dict[str, Baked] = {}
    for point in cell.points:
        writer = writer_at(parts, point)
        v = steering.directions[point].to(writer.weight.device)
        made = (
            _removed(writer, v, cell.strength) if cell.operator == "ablate" else _added(writer, v, point, cell.strength)
        )
        before = found.get(writer.name)
        if before is not None and before.bias is not None and made.bias is not None:
            made = Baked(before.bias + made.bias)
        found[writer.name] = made
    return found


def _added(writer: LinearWriter, v: Tensor, point: HookPoint, strength: float) -> Baked:
    v = strength * v
    return Baked(writer.weight.float() @ v if point.site == "heads" else v)


def _removed(writer: LinearWriter, v: Tensor, strength: float) -> Baked:
    u = v / v.norm()
    bias = None if writer.bias is None else -strength * (u @ writer.bias.float()) * u
    return Baked(bias, -strength * u, u @ writer.weight.float())


@torch.no_grad()
def baked(opened: OpenModel, artefact: Artefact) -> PreTrainedModel:
    """A copy of the model with the artefact in its weights; the given one is not changed."""
    causal = opened.parts.causal
    if opened.opening.quantize is not None or any(p.is_meta for p in causal.parameters()):
        raise ModelError(f"{opened.id}: weights that are quantised or offloaded cannot be baked into; open it plainly")
    changes = in_weights(opened.parts, artefact)
    made = with_biases(causal, {name: one.bias for name, one in changes.items() if one.bias is not None})
    for name, one in changes.items():
        if one.left is not None and one.right is not None:
            module = made.get_submodule(name)
            weight: Tensor = module.weight  # type: ignore[assignment]
            change = torch.outer(one.left, one.right)
            weight.copy_(weight.float() + (change.T if isinstance(module, Conv1D) else change))
    return made


def write_model(folder: Path, opened: OpenModel, made: PreTrainedModel, vector: Outgoing) -> None:
    """Configuration, weights, tokenizer, and the artefact under a name that no loader of weights looks at."""
    make_folder(folder)
    made.save_pretrained(folder)
    opened.tokenizer.save_pretrained(folder)
    (folder / ARTEFACT).write_bytes(vector.carried)


def write_adapter(folder: Path, opened: OpenModel, artefact: Artefact, vector: Outgoing) -> None:
    """A LoRA of rank 1 whose second map has a bias (``lora_bias``): ``W x + b + B (A x) + bias``, scaled by 1."""
    changes = in_weights(opened.parts, artefact)
    tensors: dict[str, Tensor] = {}
    for name, one in changes.items():
        out, into = writer_shape(opened, name)
        left = torch.zeros(out) if one.left is None else one.left.cpu()
        right = torch.zeros(into) if one.right is None else one.right.cpu()
        bias = torch.zeros(out) if one.bias is None else one.bias.cpu()
        of = f"base_model.model.{name}"
        tensors[f"{of}.lora_A.weight"] = right.reshape(1, -1).contiguous()
        tensors[f"{of}.lora_B.weight"] = left.reshape(-1, 1).contiguous()
        tensors[f"{of}.lora_B.bias"] = bias.contiguous()
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": opened.id,
        "r": 1,
        "lora_alpha": 1,
        "lora_dropout": 0.0,
        "bias": "none",
        "lora_bias": True,
        "fan_in_fan_out": any(_is_conv(opened, name) for name in changes),
        "inference_mode": True,
        "target_modules": sorted(changes),
    }
    make_folder(folder)
    write_text(folder / "adapter_config.json", json.dumps(config, indent=2))
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / ARTEFACT).write_bytes(vector.carried)


def writer_shape(opened: OpenModel, name: str) -> tuple[int, int]:
    """Outputs and inputs of a linear map by its name."""
    weight: Tensor = opened.parts.causal.get_submodule(name).weight  # type: ignore[assignment]
    rows, columns = weight.shape
    return (columns, rows) if _is_conv(opened, name) else (rows, columns)


def _is_conv(opened: OpenModel, name: str) -> bool:
    return isinstance(opened.parts.causal.get_submodule(name), Conv1D)
