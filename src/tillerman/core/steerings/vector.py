"""The constant steering: one direction per hook point, as fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.atoms import Atom
from tillerman.core.confidence import Confidence, always
from tillerman.core.decoding import take
from tillerman.core.errors import FitError, MismatchError, UnknownNameError, UsageError
from tillerman.core.gates import PromptGate
from tillerman.core.hookpoint import HookPoint
from tillerman.core.operators import OPERATORS, RELATIVE
from tillerman.core.provenance import Provenance
from tillerman.core.shown import Shown
from tillerman.core.steerings.base import (
    Head,
    RunningPass,
    Steering,
    Tensors,
    by_name,
    by_point,
    fitted_among,
    read_norms,
    shown_of,
)

_ATOM, _PROTOTYPE = "atom ", "prototype "  # before the hook point, for tensors of atoms and of gates in a file


@dataclass(frozen=True, eq=False, repr=False)
class SteeringVector(Shown):
    """Directions ``v [d]`` (float32, not normalised) and mean activation norms, per hook point.

    Steering adds ``strength * v``. The dose of a strength is the same change in units of the
    stream, ``strength * |v| / mean|h|``, so that layers, methods and models compare.

    ``atoms`` is for vectors that clamp an atom of a sparse autoencoder: v is one unit of the atom, and the
    atom says how many units an activation has. ``confidences`` are the gates that the operator ``slerp`` reads; where
    there is none, it turns every token alike. Sums and multiples of vectors with either are plain directions.

    ``operator`` is the one it was fitted for. Where it is one of ``core.operators.RELATIVE`` the length of v
    says nothing, and the dose of a strength is the strength.
    """

    directions: Mapping[HookPoint, Float[Tensor, " d"]]
    stream_norms: Mapping[HookPoint, float]
    provenance: Provenance
    atoms: Mapping[HookPoint, Atom] = field(default_factory=dict)
    operator: str = "add"
    confidences: Mapping[HookPoint, Confidence] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.directions:
            raise FitError("a steering vector needs at least one hook point")
        if self.operator not in OPERATORS:
            raise UnknownNameError("operator", self.operator, OPERATORS)
        if self.atoms and self.operator == "add":
            object.__setattr__(self, "operator", "clamp_atom")
        if set(self.directions) != set(self.stream_norms):
            raise FitError("directions and stream norms must cover the same hook points")
        for point, direction in self.directions.items():
            if direction.ndim != 1 or not bool(torch.isfinite(direction).all()):
                raise FitError(f"{point}: expected a finite direction of shape [d], got {tuple(direction.shape)}")
        for point, atom in self.atoms.items():
            if point not in self.directions or atom.encoder.shape != self.directions[point].shape:
                raise FitError(f"{point}: an atom belongs to a direction of its own width")
        for point, gate in self.confidences.items():
            if point not in self.directions or gate.prototype.shape != self.directions[point].shape:
                raise FitError(f"{point}: a prototype belongs to a direction of its own width")
        for point, norm in self.stream_norms.items():
            if not 0 < norm < float("inf"):
                raise FitError(f"{point}: expected a stream norm above 0, got {norm}; the activations are invalid")
        own = {p: self.directions[p].detach().to("cpu", torch.float32, copy=True) for p in sorted(self.directions)}
        object.__setattr__(self, "directions", MappingProxyType(own))
        object.__setattr__(self, "atoms", MappingProxyType(dict(self.atoms)))
        object.__setattr__(self, "confidences", MappingProxyType(dict(self.confidences)))
        object.__setattr__(self, "stream_norms", MappingProxyType({p: float(self.stream_norms[p]) for p in own}))

    def shown(self) -> dict[str, object]:
        return shown_of(self)

    @property
    def points(self) -> tuple[HookPoint, ...]:
        return tuple(self.directions)

    @property
    def is_constant(self) -> bool:
        return True

    @property
    def looks_ahead(self) -> bool:
        return False

    @property
    def reach(self) -> int | None:
        return None

    @property
    def gates(self) -> Mapping[HookPoint, PromptGate]:
        return {}

    def at(self, points: HookPoint | Iterable[HookPoint]) -> SteeringVector:
        """The same steering at some of its hook points only."""
        wanted = fitted_among(points, self.points)
        return replace(
            self,
            directions={p: self.directions[p] for p in wanted},
            stream_norms={p: self.stream_norms[p] for p in wanted},
            atoms={p: self.atoms[p] for p in wanted if p in self.atoms},
            confidences={p: self.confidences[p] for p in wanted if p in self.confidences},
        )

    def width(self, point: HookPoint) -> int:
        return len(self.directions[point])

    def norm(self, point: HookPoint) -> float:
        return float(self.directions[point].norm())

    def dose(self, point: HookPoint, strength: float) -> float:
        """``strength * |v| / mean|h|``: dimensionless."""
        if self.operator in RELATIVE:
            return strength
        return strength * self.norm(point) / self.stream_norms[point]

    def strength(self, point: HookPoint, dose: float) -> float:
        """The strength that gives a dose: inverse of ``dose``."""
        if self.operator in RELATIVE:
            return dose
        norm = self.norm(point)
        if norm == 0:
            raise UsageError(f"{point}: a direction of length 0 has no dose; leave the hook point out")
        return dose * self.stream_norms[point] / norm

    def change(
        self, point: HookPoint, h: Float[Tensor, "b s d"], now: RunningPass | None = None
    ) -> Float[Tensor, "b s d"]:
        """v, whatever ``h`` is."""
        del now
        return self.directions[point].to(h).expand_as(h)

    def check_operator(self, operator: str) -> None:
        bare = [str(point) for point in self.points if point not in self.atoms]
        if operator == "clamp_atom" and bare:
            raise UsageError(
                f"operator 'clamp_atom': the vector names no atom at {', '.join(bare)}; "
                "fit it with --method sae-feature:operator=clamp"
            )

    def operand(self, point: HookPoint, operator: str) -> Float[Tensor, " k"]:
        """The direction ``[d]``; for an atom to clamp, or with the gate of ``slerp``, more."""
        direction = self.directions[point]
        if operator == "slerp":
            return self.confidences[point].packed(direction) if point in self.confidences else always(direction)
        return self.atoms[point].packed(direction) if operator == "clamp_atom" else direction

    def random_like(self, seed: int) -> SteeringVector:
        """A random direction among the coordinates that the vector changes. Where single coordinates are scaled
        (experts), the same factors at places drawn from all hook points together."""
        return _scattered(self, seed) if self.operator in ("scale", "reweigh") else random_vector(self, seed)

    def to_tensors(self) -> tuple[Tensors, Head]:
        atoms = {f"{_ATOM}{p}": atom.packed(self.directions[p]) for p, atom in self.atoms.items()}
        gates = {f"{_PROTOTYPE}{p}": gate.prototype for p, gate in self.confidences.items()}
        numbers = {str(p): [gate.kappa, gate.threshold, gate.even] for p, gate in self.confidences.items()}
        head: Head = {"operator": self.operator} | ({"confidences": numbers} if numbers else {})
        return by_name(self.directions) | atoms | gates, head

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], head: Mapping[str, Any]) -> SteeringVector:
        directions = by_point({n: tensor for n, tensor in tensors.items() if not n.startswith((_ATOM, _PROTOTYPE))})
        packed = {p: tensors[f"{_ATOM}{p}"] for p in directions if f"{_ATOM}{p}" in tensors}
        for point, tensor in packed.items():
            wanted = 2 * directions[point].numel() + 2
            if tensor.shape != (wanted,) or not bool(torch.isfinite(tensor[:-1]).all()):
                raise FitError(f"{point}: expected an atom of {wanted} finite numbers, got shape {tuple(tensor.shape)}")
        atoms = {p: Atom.unpacked(tensor[directions[p].numel() :]) for p, tensor in packed.items()}
        norms, operator = read_norms(head, "stream_norms"), take(head, "operator", str, "add")  # older files have none
        confidences = _confidences(tensors, head)
        unread = {name for name in tensors if name.startswith(_ATOM)} - {f"{_ATOM}{p}" for p in directions}
        bare = [str(point) for point in directions if point not in norms]
        if unread or bare:
            raise FitError(f"{', '.join([*unread, *bare])}: an atom without its direction, or one without a norm")
        made = Provenance.from_json(take(head, "provenance", Any))
        return cls(directions, {p: norms[p] for p in directions}, made, atoms, operator, confidences)

    def scaled(self, factor: float) -> SteeringVector:
        return self._map(lambda _, v: factor * v)

    def stretched(self, factors: Mapping[HookPoint, float]) -> SteeringVector:
        """At these hook points, each direction so many times as long."""
        mine = self.at(factors)
        return replace(mine, directions={p: k * mine.directions[p] for p, k in factors.items()})

    def __mul__(self, factor: float) -> SteeringVector:
        return self.scaled(factor)

    __rmul__ = __mul__

    def __neg__(self) -> SteeringVector:
        return self.scaled(-1.0)

    def __add__(self, other: SteeringVector) -> SteeringVector:
        return self._combined(other, 1.0)

    def __sub__(self, other: SteeringVector) -> SteeringVector:
        return self._combined(other, -1.0)

    def _combined(self, other: SteeringVector, sign: float) -> SteeringVector:
        mine, theirs = self.provenance, other.provenance
        if mine.model_fingerprint != theirs.model_fingerprint:
            raise MismatchError(
                f"vectors of different models cannot be added: {mine.model_id} ({mine.model_fingerprint}) "
                f"and {theirs.model_id} ({theirs.model_fingerprint})"
            )
        if set(self.points) != set(other.points):
            raise MismatchError("vectors can be added only at the same hook points; call .at(points) on both first")
        return self._map(lambda point, v: v + sign * other.directions[point])

    def _map(self, change: Callable[[HookPoint, Tensor], Tensor]) -> SteeringVector:
        operator = "add" if self.atoms or self.confidences else self.operator
        directions = {p: change(p, v) for p, v in self.directions.items()}
        return replace(self, directions=directions, atoms={}, confidences={}, operator=operator)


def _confidences(tensors: Mapping[str, Tensor], head: Mapping[str, Any]) -> dict[HookPoint, Confidence]:
    numbers = by_point(take(head, "confidences", Mapping[str, tuple[float, float, float]], {}))  # most files have none
    prototypes = by_point({n.removeprefix(_PROTOTYPE): t for n, t in tensors.items() if n.startswith(_PROTOTYPE)})
    if {*numbers} != {*prototypes}:
        odd = {*numbers} ^ {*prototypes}
        raise FitError(f"{', '.join(map(str, sorted(odd)))}: a prototype without its numbers, or numbers without one")
    return {point: Confidence(prototypes[point], *three) for point, three in numbers.items()}


def random_vector(steering: Steering, seed: int) -> SteeringVector:
    """At every hook point a random direction of the steering's norm; of a vector, where it is not 0, and under the gate
    that it has."""
    generator = torch.Generator().manual_seed(seed)
    operator = "add" if steering.operator == "clamp_atom" else steering.operator
    directions = {}
    for point in steering.points:
        drawn = torch.randn(steering.width(point), generator=generator)
        if point in steering.directions:
            drawn = torch.where(steering.directions[point] != 0, drawn, 0.0)
        directions[point] = drawn * (steering.norm(point) / drawn.norm().clamp_min(1e-30))
    gates = steering.confidences if isinstance(steering, SteeringVector) else {}
    norms, made = steering.stream_norms, steering.provenance
    return SteeringVector(directions, norms, made, operator=operator, confidences=gates)


def _scattered(vector: SteeringVector, seed: int) -> SteeringVector:
    every = torch.cat([vector.directions[point] for point in vector.points])
    dealt = every[torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))]
    widths = [vector.width(point) for point in vector.points]
    return replace(vector, directions=dict(zip(vector.points, torch.split(dealt, widths), strict=True)))
