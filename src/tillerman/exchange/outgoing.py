"""What an artefact is to a tool that only adds directions, and how the artefact itself travels with them."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from tillerman.core.artefact import Artefact, save
from tillerman.core.hookpoint import HookPoint
from tillerman.models.artefacts import load

ARTEFACT = "tillerman.artefact"  # the key, member or file under which an export carries the artefact


_MARK = 16  # bytes


@dataclass(frozen=True, eq=False)
class Outgoing:
    """``directions`` are those of a cell, as fitted; ``scaled`` has the strength in them, for formats without a factor
    of their own. ``artefact`` is the file that travels along, so that an export comes back as it was."""

    directions: Mapping[HookPoint, Float[Tensor, " d"]]
    strength: float
    model_type: str
    layers: int  # of the model
    artefact: bytes

    @property
    def scaled(self) -> dict[HookPoint, Float[Tensor, " d"]]:
        return {point: self.strength * v for point, v in self.directions.items()}

    @property
    def by_layer(self) -> dict[int, Float[Tensor, " d"]]:
        """``scaled`` by layer, for formats that know one site."""
        return {point.layer: v for point, v in self.scaled.items()}

    @property
    def carried(self) -> bytes:
        """The artefact behind marks of the directions as they are written, scaled and not: they tell whether somebody
        has changed them since."""
        return mark(self.scaled.values()) + mark(self.directions.values()) + self.artefact


def outgoing(artefact: Artefact, model_type: str, carried: Artefact | None = None) -> Outgoing:
    """``carried`` is the artefact that travels along, where it is another than the one that is expressed."""
    cell, steering = artefact.cell, artefact.steering
    directions = {point: steering.directions[point] for point in cell.points}
    packed = pack(artefact if carried is None else carried)
    return Outgoing(directions, cell.strength, model_type, steering.provenance.layers, packed)


def mark(directions: Iterable[Float[Tensor, " d"]]) -> bytes:
    """A digest of directions in any order."""
    found = blake2b(digest_size=_MARK)
    for content in sorted(v.contiguous().numpy().tobytes() for v in directions):
        found.update(content)
    return found.digest()


def unpack(carried: bytes, directions: Collection[Float[Tensor, " d"]]) -> Artefact | None:
    """The artefact that travelled along; None where the directions beside it are not those that were written.

    ``ArtefactError`` where the artefact itself was changed."""
    marks = carried[:_MARK], carried[_MARK : 2 * _MARK]
    if directions and mark(directions) not in marks:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "artefact.safetensors"
        path.write_bytes(carried[2 * _MARK :])
        return load(path)


def pack(artefact: Artefact) -> bytes:
    """The artefact's file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "artefact.safetensors"
        save(path, artefact)
        return path.read_bytes()
