"""Every kind of steering, of gate, and monitors as named tensors and JSON, and back. A new kind is one class and one
line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from tillerman.core.decoding import take
from tillerman.core.errors import ArtefactError
from tillerman.core.gates import Gate, ProbeGate, SimilarityGate
from tillerman.core.hookpoint import HookPoint
from tillerman.core.monitors import Monitor
from tillerman.core.steerings.base import Head, Steering, Tensors, by_name
from tillerman.core.steerings.gated import GatedSteering, former_kernel
from tillerman.core.steerings.lookahead import LookaheadSteering
from tillerman.core.steerings.routed import RoutedSteering
from tillerman.core.steerings.sequence import SequenceSteering
from tillerman.core.steerings.transport import TransportSteering
from tillerman.core.steerings.vector import SteeringVector

KINDS: Mapping[str, type[Steering]] = {
    "SteeringVector": SteeringVector,
    "GatedSteering": GatedSteering,
    "TransportSteering": TransportSteering,
    "RoutedSteering": RoutedSteering,
    "SequenceSteering": SequenceSteering,
    "LookaheadSteering": LookaheadSteering,
}
FORMER: Mapping[str, Callable[[Mapping[str, Tensor], Mapping[str, Any]], Steering]] = {"KernelSteering": former_kernel}
GATE, MONITOR = "gate", "monitor"  # the names of their tensors


def taken_apart(steering: Steering) -> tuple[Tensors, Head]:
    """Tensors and the part of an artefact's head that says what they are."""
    kind = type(steering).__name__
    if kind not in KINDS:
        raise ArtefactError(f"a {kind} has no form in a file; known: {', '.join(KINDS)}")
    tensors, own = steering.to_tensors()
    head = {"stream_norms": by_name(steering.stream_norms), "provenance": steering.provenance.to_json(), "kind": kind}
    return tensors, head | own


def put_together(tensors: Mapping[str, Tensor], head: Mapping[str, Any]) -> Steering:
    """Inverse of ``taken_apart``; ``TillermanError`` for a head or tensors that are not those of their kind."""
    kind = take(head, "kind", str, "SteeringVector")  # older files have none
    if kind in FORMER:
        return FORMER[kind](tensors, head)
    if kind not in KINDS:
        raise ArtefactError(f"unknown kind of steering {kind!r}; a newer Tillerman may read it")
    return KINDS[kind].from_tensors(tensors, head)


def gate_apart(gate: Gate) -> tuple[Tensor, Head]:
    """The gate's vector, and the rest of it for the artefact's head."""
    plain: Head = {"kind": type(gate).__name__, "point": str(gate.point), "read": gate.read}
    if isinstance(gate, SimilarityGate):
        return gate.direction, plain | {"threshold": gate.threshold, "above": gate.above}
    return gate.weights, plain | {"bias": gate.bias}


def gate_together(values: Tensor, head: Mapping[str, Any]) -> Gate:
    """Inverse of ``gate_apart``."""
    point, read, kind = HookPoint.parse(take(head, "point", str)), take(head, "read", str), take(head, "kind", str)
    if kind == "SimilarityGate":
        return SimilarityGate(values, point, take(head, "threshold", float), take(head, "above", bool), read)
    if kind == "ProbeGate":
        return ProbeGate(values, take(head, "bias", float), point, read)
    raise ArtefactError(f"unknown kind of gate {kind!r}; a newer Tillerman may read it")


def monitor_apart(monitor: Monitor) -> tuple[Tensor, Head]:
    """The monitor's direction, and the rest of it for the artefact's head."""
    return monitor.direction, {
        "point": str(monitor.point),
        "threshold": monitor.threshold,
        "above": monitor.above,
        "read": monitor.read,
        "least": monitor.least,
        "measured": dict(monitor.measured),
    }


def monitor_together(values: Tensor, head: Mapping[str, Any]) -> Monitor:
    """Inverse of ``monitor_apart``."""
    point, threshold, above = take(head, "point", str), take(head, "threshold", float), take(head, "above", bool)
    rest = take(head, "read", str), take(head, "least", int), take(head, "measured", Mapping[str, Any])
    return Monitor(values, HookPoint.parse(point), threshold, above, *rest)
