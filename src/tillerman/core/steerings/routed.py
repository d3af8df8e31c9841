"""A vector at one of several hook points: which one, each text's prompt says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.choices import ChoiceGate, LayerChoice
from tillerman.core.decoding import take
from tillerman.core.errors import FitError
from tillerman.core.gates import PromptGate
from tillerman.core.hookpoint import HookPoint
from tillerman.core.provenance import Provenance
from tillerman.core.steerings.base import Head, RunningPass, Tensors, by_point, fitted_among, read_norms, shown_of
from tillerman.core.steerings.dosed import Dosed

_VECTOR, _KEYS, _OFFSETS = "vector ", "keys", "offsets"  # the names of its tensors in a file


@dataclass(frozen=True, eq=False, repr=False)
class RoutedSteering(Dosed):
    """Vectors ``v [d]`` at several hook points, of which each text is given one: that at the hook point on which
    ``choice`` falls for its prompt ("where to steer": arXiv 2604.03867). Its places are ``points`` in order; ``keys``,
    ``offsets``, ``read_at`` and ``read`` are those of the choice.

    The choice reads the pass that holds the prompt, before the first of the hook points is steered. ``FitError`` where
    it is to read a later one, or is among another number of places.
    """

    # shapes are checked below: a file may hold any
    vectors: Mapping[HookPoint, Tensor]
    keys: Tensor
    offsets: Tensor
    read_at: HookPoint
    read: str = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        if {*self.vectors} != {*self.points}:
            raise FitError("vectors must cover the hook points")
        own = {point: _own(self.vectors[point], point) for point in self.points}
        object.__setattr__(self, "vectors", MappingProxyType(own))
        choice = LayerChoice(self.keys, self.offsets, self.read_at, self.read)
        for name in ("keys", "offsets"):
            object.__setattr__(self, name, getattr(choice, name))
        if len(self.offsets) != len(own):
            raise FitError(f"a choice among {len(self.offsets)} places for {len(own)} hook points")
        first = min(self.points, key=lambda point: point.order)
        if self.read_at.order > first.order:
            raise FitError(f"the choice reads {self.read_at}, after {first} is steered")
        assert len(self.gates) == len(own)  # made now: they are known by identity, also where threads ask at once

    @classmethod
    def of(
        cls,
        vectors: Mapping[HookPoint, Tensor],
        stream_norms: Mapping[HookPoint, float],
        provenance: Provenance,
        choice: LayerChoice,
    ) -> RoutedSteering:
        """The norms of its change are those of the vectors."""
        norms = {point: float(v.float().norm()) for point, v in vectors.items()}
        return cls(norms, stream_norms, provenance, vectors, choice.keys, choice.offsets, choice.point, choice.read)

    @cached_property
    def choice(self) -> LayerChoice:
        return LayerChoice(self.keys, self.offsets, self.read_at, self.read)

    @cached_property
    def _of_points(self) -> Mapping[HookPoint, PromptGate]:
        return MappingProxyType({point: ChoiceGate(self.choice, place) for place, point in enumerate(self.points)})

    @property
    def gates(self) -> Mapping[HookPoint, PromptGate]:
        return self._of_points

    def shown(self) -> dict[str, object]:
        return shown_of(self) | {"one of them, by": f"the prompt's {self.read} at {self.read_at}"}

    def at(self, points: HookPoint | Iterable[HookPoint]) -> RoutedSteering:
        """The same among some of its hook points: each text is steered at the best of these."""
        wanted = sorted(set(fitted_among(points, self.points)))
        places = [self.points.index(point) for point in wanted]
        norms, vectors = {p: self.stream_norms[p] for p in wanted}, {p: self.vectors[p] for p in wanted}
        return RoutedSteering.of(vectors, norms, self.provenance, self.choice.among(places))

    def width(self, point: HookPoint) -> int:
        return len(self.vectors[point])

    def change(
        self, point: HookPoint, h: Float[Tensor, "*b d"], now: RunningPass | None = None
    ) -> Float[Tensor, "*b d"]:
        """v, for the texts that are steered here."""
        del now
        return self.vectors[point].to(h).expand_as(h)

    def random_like(self, seed: int) -> RoutedSteering:
        """Vectors of random direction and equal norms under the same choice."""
        generator = torch.Generator().manual_seed(seed)
        drawn = {p: torch.randn(len(v), generator=generator) for p, v in self.vectors.items()}
        vectors = {p: d * (self.vectors[p].norm() / d.norm()) for p, d in drawn.items()}
        return replace(self, vectors=vectors)

    def to_tensors(self) -> tuple[Tensors, Head]:
        tensors = {f"{_VECTOR}{p}": v for p, v in self.vectors.items()}
        read = {"point": str(self.read_at), "read": self.read}
        return tensors | {_KEYS: self.keys, _OFFSETS: self.offsets}, {"choice": read}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], head: Mapping[str, Any]) -> RoutedSteering:
        vectors = by_point({n.removeprefix(_VECTOR): t for n, t in tensors.items() if n.startswith(_VECTOR)})
        missing = [name for name in (_KEYS, _OFFSETS) if name not in tensors]
        unread = [name for name in tensors if not name.startswith(_VECTOR) and name not in (_KEYS, _OFFSETS)]
        if missing or unread:
            raise FitError(f"{', '.join([*missing, *unread])}: expected vectors, {_KEYS} and {_OFFSETS}")
        read = take(head, "choice", Mapping[str, str])
        point = HookPoint.parse(take(read, "point", str))
        choice = LayerChoice(tensors[_KEYS], tensors[_OFFSETS], point, take(read, "read", str))
        norms, made = read_norms(head, "stream_norms"), Provenance.from_json(take(head, "provenance", Any))
        return cls.of(vectors, norms, made, choice)


def _own(vector: Tensor, point: HookPoint) -> Tensor:
    if vector.ndim != 1 or not vector.numel() or not bool(torch.isfinite(vector).all()):
        raise FitError(f"{point}: expected a finite vector of shape [d], got {tuple(vector.shape)}")
    return vector.detach().to("cpu", torch.float32, copy=True)
