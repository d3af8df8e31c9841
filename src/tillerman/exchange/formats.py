"""The formats that an artefact is exported to: what each can say, and who writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tillerman.core.artefact import Artefact
from tillerman.core.errors import UsageError
from tillerman.core.hookpoint import BLOCK_SITES, named
from tillerman.core.steerings.vector import SteeringVector
from tillerman.exchange.array_files import write_safetensors
from tillerman.exchange.gguf_files import write_gguf
from tillerman.exchange.json_files import write_lens, write_svec
from tillerman.exchange.outgoing import Outgoing
from tillerman.exchange.torch_files import write_layers, write_one, write_table

_STREAM = ("resid_post",)


@dataclass(frozen=True)
class Format:
    """A file of directions that its tool adds to every token. ``sites`` are those that it can name, ``first`` the
    first block that it can steer, ``most`` how many hook points one file holds; ``factor``: it has a strength of its
    own, where others get the strength into the numbers. ``used`` says how the file is used, FILE its name."""

    name: str
    tool: str
    write: Callable[[Path, Outgoing], None]
    used: str
    sites: tuple[str, ...] = _STREAM
    first: int = 0
    most: int | None = None
    factor: bool = False


_EVERY = (
    Format("gguf", "llama.cpp", write_gguf, "llama-cli -m MODEL.gguf --control-vector FILE", first=1),
    Format("repeng", "repeng, EasySteer", write_gguf, "repeng.ControlVector.import_gguf('FILE'), coefficient 1"),
    Format(
        "torch",
        "steering-vectors and any PyTorch code",
        write_layers,
        "SteeringVector(layer_activations=torch.load('FILE', weights_only=True)), multiplier 1",
        sites=BLOCK_SITES,
    ),
    Format("caa", "CAA, EasyEdit", write_one, "torch.load('FILE', weights_only=True), multiplier 1", most=1),
    Format(
        "persona-vectors", "persona-vectors", write_table, "torch.load('FILE', weights_only=True)[LAYER + 1], coef 1"
    ),
    Format("svec", "CAST (activation-steering)", write_svec, "SteeringVector.load('FILE'), strength 1"),
    Format(
        "safetensors",
        "any",
        write_safetensors,
        "safetensors.torch.load_file('FILE'), a tensor per hook point",
        sites=BLOCK_SITES,
    ),
    Format(
        "vllm-lens",
        "vllm-lens",
        write_lens,
        "extra_args={'apply_steering_vectors': [SteeringVector.model_validate_json(open('FILE').read())]}",
        factor=True,
    ),
)
FORMATS: Mapping[str, Format] = {one.name: one for one in _EVERY}


def lacks(target: Format, artefact: Artefact) -> tuple[str, ...]:
    """What the artefact does that the format cannot say, in words; empty where it says all.

    ``UsageError`` for what no direction can stand for: a change that depends on what the model reads, or none."""
    cell, steering = artefact.cell, artefact.steering
    if artefact.abstains:
        raise UsageError("the artefact abstains (strength 0), so there is nothing to export; name a --strength")
    if not isinstance(steering, SteeringVector):
        raise UsageError(
            f"a {type(steering).__name__} changes activations by what the model reads, and a file of directions cannot "
            "say that; export a vector (methods caa, pca, probe, ...)"
        )
    said = []
    if cell.operator != "add":
        said.append(f"operator {cell.operator!r} (directions are added)")
    if cell.scope.name != "all":
        said.append(f"scope {str(cell.scope)!r} (every token is steered)")
    if artefact.gate is not None:
        said.append(f"the gate ({artefact.gate})")
    elsewhere = [point for point in cell.points if point.site not in target.sites]
    if elsewhere:
        said.append(f"{named(elsewhere)} (its sites: {', '.join(target.sites)})")
    early = [point for point in cell.points if point.site in target.sites and point.layer < target.first]
    if early:
        said.append(f"{named(early)} (its first layer: {target.first})")
    if target.most is not None and len(cell.points) > target.most:
        said.append(f"{len(cell.points)} hook points (one file holds {target.most})")
    return tuple(said)
