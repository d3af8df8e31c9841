"""The steering artefact: one safetensors file with the steering, its provenance, cell, gate, monitor and card, and a
checksum."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tillerman.core.cell import Cell
from tillerman.core.decoding import take
from tillerman.core.errors import ArtefactError, TillermanError, UsageError
from tillerman.core.files import as_ours, replacing
from tillerman.core.foreign import Foreign, foreign_file, foreign_tensors
from tillerman.core.gates import Gate
from tillerman.core.hookpoint import named, parse_points
from tillerman.core.hub import fetch_beside, local_file
from tillerman.core.monitors import Monitor
from tillerman.core.packs import INDEX, SIGNATURE, check_member
from tillerman.core.places import place_of
from tillerman.core.plan import Plan, Scope
from tillerman.core.provenance import Card
from tillerman.core.seal import checksum, is_whole, sealed
from tillerman.core.shown import Shown, clipped
from tillerman.core.steerings.base import Steering, fitted_among
from tillerman.core.steerings.files import (
    GATE,
    MONITOR,
    gate_apart,
    gate_together,
    monitor_apart,
    monitor_together,
    put_together,
    taken_apart,
)

FORMAT = "tillerman-artefact"
ABSTAINS = "the artefact abstains (strength 0): its search found nothing that helps, so nothing is steered"
FORMAT_VERSION = 1


@dataclass(frozen=True, repr=False)
class Artefact(Shown):
    """A steering and how it is applied: its cell and its gate. ``card`` holds what was measured, None for a steering
    that was never evaluated, whose cell is then its maker's choice (``Cell.of(steering)``: as it is, everywhere).
    ``monitor`` watches answers by its direction ('tillerman monitor' calibrates one); steering does not need it.

    ``HookPointError`` for a cell at a hook point that the steering does not have.
    """

    steering: Steering
    cell: Cell
    gate: Gate | None = None
    card: Card | None = None
    monitor: Monitor | None = None

    def __post_init__(self) -> None:
        fitted_among(self.cell.points, self.steering.points)

    def shown(self) -> dict[str, object]:
        made = self.steering.provenance
        return {
            "method": made.method,
            "data": made.data_name,
            "model": made.model_id,
            "cell": "none: it abstains (strength 0)" if self.abstains else self.cell,
            "dose": f"{self.dose:.3g}",
            "gate": "none" if self.gate is None else self.gate,
            "measured": "nothing yet; test it with evaluate" if self.card is None else self.card.summary,
            **({} if self.monitor is None else {"monitor": self.monitor}),
        }

    def plan(self, strength: float | None = None) -> Plan:
        """The artefact's own plan, at its strength or another one."""
        cell = self.cell if strength is None else self.cell.at(strength)
        return cell.plan(self.steering, self.gate)

    @property
    def abstains(self) -> bool:
        return self.cell.strength == 0

    @property
    def dose(self) -> float:
        return self.cell.dose(self.steering)


def save(path: str | Path, artefact: Artefact) -> None:
    """Write atomically. Metadata is JSON; tensors are float32."""
    if place_of(path) is not None:
        raise UsageError(f"{path}: a file is written here; 'tillerman push' puts it on the hub")
    tensors, what = taken_apart(artefact.steering)
    if artefact.gate is not None:
        tensors[GATE], what["gate"] = gate_apart(artefact.gate)
    if artefact.monitor is not None:
        tensors[MONITOR], what["monitor"] = monitor_apart(artefact.monitor)
    head = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "sealed": True,
        **what,
        "card": None if artefact.card is None else _card_json(artefact, artefact.card),
        "scope": artefact.cell.scope.to_json(),
        "cell": artefact.cell.to_json(),
    }
    whole = {name: t.contiguous() for name, t in tensors.items()}
    metadata = {"tillerman": json.dumps(head)}
    with replacing(Path(path)) as part:
        save_file(whole, part, metadata=sealed(whole, metadata))


def digest_of(artefact: Artefact) -> str:
    """BLAKE2b (256 bits) of what steers and how: the steering with its provenance, cell and gate. What was measured, a
    monitor, and the address that the file was fetched from are no part of it."""
    tensors, what = taken_apart(with_origin(artefact, "").steering)
    if artefact.gate is not None:
        tensors[GATE], what["gate"] = gate_apart(artefact.gate)
    facts = {**what, "cell": artefact.cell.to_json()}
    return checksum(tensors, {"artefact": json.dumps(facts, sort_keys=True)}, 32)


def load(path: str | Path, *, trust: str | None = None) -> Artefact:
    """Read an artefact, of an address (``hf://org/name``) the one that is fetched, with its origin in the provenance.
    ``trust``: the public key (``ed25519:...``, or its file) that must have signed the pack that it lies in.

    ``ArtefactError`` for a missing, changed, truncated or foreign file, or one whose fields are not what they should
    be, or that is not what the index of its pack says. What a card's report and studies say is checked by
    ``models.artefacts``."""
    fetched = local_file(path)
    fetch_beside(fetched, (INDEX,) if trust is None else (INDEX, SIGNATURE))
    check_member(fetched.path, trust)
    made = _loaded(fetched.path)
    return with_origin(made, fetched.origin) if fetched.origin else made


def with_origin(artefact: Artefact, origin: str) -> Artefact:
    """The artefact, with the address that it was fetched from."""
    steering: Any = artefact.steering  # every kind is a dataclass
    return replace(artefact, steering=replace(steering, provenance=replace(steering.provenance, origin=origin)))


def _loaded(path: Path) -> Artefact:
    tensors, head = _read(path)
    try:
        for name in (GATE, MONITOR):
            if (name in head) != (name in tensors):
                raise ArtefactError(f"a {name} without its tensor, or the other way round")
        gate = gate_together(tensors.pop(GATE), head["gate"]) if "gate" in head else None
        monitor = monitor_together(tensors.pop(MONITOR), head["monitor"]) if "monitor" in head else None
        steering = put_together(tensors, head)
        card = take(head, "card", Any)
        known = None if card is None else Card.from_json(card)
        made = Artefact(steering, _cell(steering, head), gate, known, monitor)
        made.plan()  # refuses a gate after what it gates, an operator that the steering has nothing for
        return made
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, TillermanError) as error:
        raise ArtefactError(
            f"{path}: the artefact is damaged ({clipped(str(error), 300)}); fit or copy it again"
        ) from error


def _card_json(artefact: Artefact, card: Card) -> dict[str, Any]:
    """With the cell in it, where a Tillerman from before cells had files of their own looks for it."""
    cell = artefact.cell
    facts = {"hook_point": named(cell.points), "strength": cell.strength, "dose": artefact.dose}
    return {**facts, "scope": str(cell.scope), "operator": cell.operator, **card.to_json()}


def _cell(steering: Steering, head: Mapping[str, Any]) -> Cell:
    """Older files have no cell: theirs is on the card, or, without a card, the whole steering as it is."""
    if "cell" in head:
        return Cell.from_json(head["cell"])
    scope, card = Scope.from_json(take(head, "scope", Any)), head["card"]
    if card is None:
        return Cell.of(steering, scope=scope)
    points, strength = parse_points(take(card, "hook_point", str)), take(card, "strength", float)
    return Cell(points, strength, take(card, "operator", str, "add"), scope)


def _read(path: Path) -> tuple[dict[str, Any], Mapping[str, Any]]:
    tensors, metadata = _opened(path)
    if "tillerman" not in metadata:
        raise ArtefactError(foreign_tensors({name: tuple(t.shape) for name, t in tensors.items()}).words(path))
    try:
        head = json.loads(metadata["tillerman"])
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{path}: the artefact's metadata is damaged ({error}); fit it again") from None
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise ArtefactError(f"{path}: a safetensors file, but not a Tillerman artefact")
    if head.get("version") != FORMAT_VERSION:
        found = clipped(str(head.get("version")), 20)
        raise ArtefactError(
            f"{path}: artefact version {found}, this Tillerman reads version {FORMAT_VERSION}; "
            "install the Tillerman that wrote it"
        )
    if not is_whole(tensors, metadata, expected=head.get("sealed") is True):
        raise ArtefactError(
            f"{path}: its tensors or its metadata are not those that were written: the file does not have its "
            "checksum; copy or fit it again"
        )
    return tensors, head


def _opened(path: Path) -> tuple[dict[str, Any], Mapping[str, str]]:
    """Tensors and metadata of a safetensors file; ``ArtefactError`` that says what the file is instead."""
    with as_ours(path):
        foreign = _known_kind(path)
    if foreign is not None:
        raise ArtefactError(foreign.words(path))
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtefactError(
            f"{path}: an incomplete or invalid safetensors file ({error}); fit or copy it again"
        ) from None


def _known_kind(path: Path) -> Foreign | None:
    if path.is_dir():
        files = sorted(one.name for one in path.glob("*.safetensors"))
        inside = f"; it holds {', '.join(files[:3])}" if files else ""
        raise ArtefactError(f"{path}: a folder, not an artefact{inside}; an artefact is one safetensors file")
    if not path.exists():
        raise ArtefactError(f"{path}: no such file; 'tillerman fit' writes artefacts")
    if not path.is_file():
        raise ArtefactError(f"{path}: a device or a pipe; an artefact is read from a file")
    return foreign_file(path)
