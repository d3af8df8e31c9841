"""The steering artefact: one safetensors file with the steering, its provenance and its card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tillerman.core.errors import ArtefactError, TillermanError
from tillerman.core.files import replacing
from tillerman.core.gates import Gate
from tillerman.core.hookpoint import parse_points
from tillerman.core.plan import Intervention, Plan, Scope
from tillerman.core.provenance import Card
from tillerman.core.steerings.base import Steering
from tillerman.core.steerings.files import GATE, gate_apart, gate_together, put_together, taken_apart

FORMAT = "tillerman-artefact"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Artefact:
    """A steering with what was measured about it. ``card`` is None for a vector never evaluated."""

    steering: Steering
    card: Card | None = None
    scope: Scope = Scope()  # noqa: RUF009 (a frozen value): the card's scope in full, with the marker's token ids
    gate: Gate | None = None

    def plan(self, strength: float | None = None) -> Plan:
        """The plan the card chose, at its strength or another one."""
        if self.card is None:
            raise ArtefactError("this artefact has no card: name hook point and strength yourself")
        steering = self.steering.at(parse_points(self.card.hook_point))
        chosen = self.card.strength if strength is None else strength
        return (Intervention(steering, chosen, self.card.operator, self.scope, self.gate),)


def save(path: str | Path, artefact: Artefact) -> None:
    """Write atomically. Metadata is JSON; tensors are float32."""
    tensors, what = taken_apart(artefact.steering)
    if artefact.gate is not None:
        tensors[GATE], what["gate"] = gate_apart(artefact.gate)
    head = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        **what,
        "card": None if artefact.card is None else artefact.card.to_json(),
        "scope": {
            "name": artefact.scope.name,
            "positions": list(artefact.scope.positions),
            "marker": list(artefact.scope.marker),
            "opening": list(artefact.scope.opening),
            "closing": list(artefact.scope.closing),
        },
    }
    with replacing(Path(path)) as part:
        save_file({name: t.contiguous() for name, t in tensors.items()}, part, metadata={"tillerman": json.dumps(head)})


def load(path: str | Path) -> Artefact:
    """Read an artefact; ``ArtefactError`` for a missing, truncated or foreign file."""
    tensors, head = _read(Path(path))
    try:
        scope = head["scope"]
        gate = gate_together(tensors.pop(GATE), head["gate"]) if "gate" in head else None
        steering = put_together(tensors, head)
        card = None if head["card"] is None else Card.from_json(head["card"])
        tags = (tuple(scope.get("opening", ())), tuple(scope.get("closing", ())))  # older artefacts have none
        meant = Scope(scope["name"], tuple(scope["positions"]), tuple(scope["marker"]), *tags)
        return Artefact(steering, card, meant, gate)
    except (KeyError, TypeError, ValueError, AttributeError, TillermanError) as error:
        raise ArtefactError(f"{path}: the artefact is damaged ({error!r}); fit it again") from error


def _read(path: Path) -> tuple[dict[str, Any], Mapping[str, Any]]:
    if not path.is_file():
        raise ArtefactError(f"{path}: no such file; 'tillerman fit' writes artefacts")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
    except (SafetensorError, OSError) as error:
        raise ArtefactError(
            f"{path}: an incomplete or invalid safetensors file ({error}); fit or copy it again"
        ) from None
    if "tillerman" not in metadata:
        raise ArtefactError(f"{path}: a safetensors file, but not a Tillerman artefact")
    try:
        head = json.loads(metadata["tillerman"])
    except json.JSONDecodeError as error:
        raise ArtefactError(f"{path}: the artefact's metadata is damaged ({error}); fit it again") from None
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise ArtefactError(f"{path}: a safetensors file, but not a Tillerman artefact")
    if head.get("version") != FORMAT_VERSION:
        raise ArtefactError(
            f"{path}: artefact version {head.get('version')}, this Tillerman reads version {FORMAT_VERSION}; "
            "install the Tillerman that wrote it"
        )
    return tensors, head
