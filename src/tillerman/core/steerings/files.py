"""Every kind of steering, and of gate, as named tensors and JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tillerman.core.atoms import Atom
from tillerman.core.errors import ArtefactError
from tillerman.core.gates import Gate, ProbeGate, SimilarityGate
from tillerman.core.hookpoint import HookPoint
from tillerman.core.provenance import Provenance
from tillerman.core.sparse import packed, unpacked
from tillerman.core.steerings.base import Steering
from tillerman.core.steerings.kernel import KernelSteering
from tillerman.core.steerings.lookahead import LookaheadSteering
from tillerman.core.steerings.sequence import SequenceSteering
from tillerman.core.steerings.vector import SteeringVector

Tensors = dict[str, Tensor]
Head = dict[str, Any]

_ATOM = "atom "  # before the hook point, for the tensor of an atom
GATE = "gate"  # the name of a gate's tensor
_TABLES = ("activations", "gradients", "projections")


def taken_apart(steering: Steering) -> tuple[Tensors, Head]:
    """Tensors and the part of an artefact's head that says what they are."""
    head: Head = {"stream_norms": _named(steering.stream_norms), "provenance": steering.provenance.to_json()}
    if isinstance(steering, SteeringVector):
        atoms = {f"{_ATOM}{p}": atom.packed(steering.directions[p]) for p, atom in steering.atoms.items()}
        return _named(steering.directions) | atoms, head | {"kind": "SteeringVector", "operator": steering.operator}
    if isinstance(steering, KernelSteering):
        tables = {f"{table} {p}": t for table in _TABLES for p, t in getattr(steering, table).items()}
        return tables, head | {"kind": "KernelSteering", "change_norms": _named(steering.change_norms)}
    if isinstance(steering, SequenceSteering):
        return _named(steering.changes), head | {
            "kind": "SequenceSteering",
            "change_norms": _named(steering.change_norms),
        }
    if isinstance(steering, LookaheadSteering):
        moved = steering.displacement
        return {k: t for name in moved for k, t in packed(name, moved[name]).items()}, head | {
            "kind": "LookaheadSteering",
            "sparse": {name: list(t.shape) for name, t in moved.items() if t.is_sparse},
            "change_norms": _named(steering.change_norms),
            "depths": dict(steering.depths),
            "widths": _named(steering.widths),
            "mode": steering.mode,
            "epsilon": steering.epsilon,
        }
    raise ArtefactError(f"a {type(steering).__name__} has no form in a file")


def put_together(tensors: Tensors, head: Mapping[str, Any]) -> Steering:
    """Inverse of ``taken_apart``; a damaged head raises whatever it raises."""
    kind, norms = head.get("kind", "SteeringVector"), _norms(head["stream_norms"])
    made = Provenance.from_json(head["provenance"])
    if kind == "SteeringVector":
        directions = {HookPoint.parse(n): tensor for n, tensor in tensors.items() if not n.startswith(_ATOM)}
        packed = {p: tensors[f"{_ATOM}{p}"] for p in directions if f"{_ATOM}{p}" in tensors}
        atoms = {p: Atom.unpacked(tensor[len(directions[p]) :]) for p, tensor in packed.items()}
        operator = head.get("operator", "add")  # older files have none
        return SteeringVector(directions, {p: norms[p] for p in directions}, made, atoms, operator)
    if kind == "KernelSteering":
        tables: dict[str, dict[HookPoint, Tensor]] = {table: {} for table in _TABLES}
        for name, tensor in tensors.items():
            table, _, point = name.partition(" ")
            tables[table][HookPoint.parse(point)] = tensor
        return KernelSteering(_norms(head["change_norms"]), norms, made, **tables)
    if kind == "SequenceSteering":
        changes = {HookPoint.parse(name): tensor for name, tensor in tensors.items()}
        return SequenceSteering(_norms(head["change_norms"]), norms, made, changes)
    if kind == "LookaheadSteering":
        widths = {HookPoint.parse(name): int(width) for name, width in head["widths"].items()}
        change, step = _norms(head["change_norms"]), float(head["epsilon"])
        moved = unpacked(tensors, head.get("sparse", {}))  # older files have none
        return LookaheadSteering(change, norms, made, moved, dict(head["depths"]), widths, head["mode"], step)
    raise ArtefactError(f"a steering of kind {kind!r}; this Tillerman does not know it")


def gate_apart(gate: Gate) -> tuple[Tensor, Head]:
    """The gate's vector, and the rest of it for the artefact's head."""
    plain: Head = {"kind": type(gate).__name__, "point": str(gate.point), "read": gate.read}
    if isinstance(gate, SimilarityGate):
        return gate.direction, plain | {"threshold": gate.threshold, "above": gate.above}
    return gate.weights, plain | {"bias": gate.bias}


def gate_together(values: Tensor, head: Mapping[str, Any]) -> Gate:
    """Inverse of ``gate_apart``."""
    point = HookPoint.parse(head["point"])
    if head["kind"] == "SimilarityGate":
        return SimilarityGate(values, point, float(head["threshold"]), bool(head["above"]), head["read"])
    if head["kind"] == "ProbeGate":
        return ProbeGate(values, float(head["bias"]), point, head["read"])
    raise ArtefactError(f"a gate of kind {head['kind']!r}; this Tillerman does not know it")


def _named(values: Mapping[HookPoint, Any]) -> dict[str, Any]:
    return {str(point): value for point, value in values.items()}


def _norms(named: Mapping[str, Any]) -> dict[HookPoint, float]:
    return {HookPoint.parse(name): float(norm) for name, norm in named.items()}
