"""A change that depends on the activation: fitted examples weigh in as far as they are like it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.decoding import take
from tillerman.core.errors import FitError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.provenance import Provenance
from tillerman.core.steerings.base import Head, RunningPass, Tensors, by_name, fitted_among, read_norms, shown_of
from tillerman.core.steerings.dosed import Dosed
from tillerman.core.steerings.vector import SteeringVector, random_vector

_TABLES = ("activations", "gradients", "projections")


@dataclass(frozen=True, eq=False, repr=False)
class KernelSteering(Dosed):
    """``change(h) = -1/N sum_i k(h, h_i) g_i`` with ``h_i`` the activation and ``g_i`` the loss gradient at
    the last prompt token of example i (COLD-Kernel: arXiv 2603.06495, section 3).

    ``k(h, h_i) = <R h, R h_i>``, R the random projection ``[k, d]`` of a hook point; without one, ``<h, h_i>``.
    """

    activations: Mapping[HookPoint, Float[Tensor, "n d"]]
    gradients: Mapping[HookPoint, Float[Tensor, "n d"]]
    projections: Mapping[HookPoint, Float[Tensor, "k d"]]

    def __post_init__(self) -> None:
        super().__post_init__()
        if {*self.activations} != {*self.points} or {*self.gradients} != {*self.points}:
            raise FitError("activations and gradients must cover the hook points")
        if self.projections and {*self.projections} != {*self.points}:
            raise FitError("projections must cover the hook points, or none")
        for name in _TABLES:
            tables = {p: _own(t, p) for p, t in sorted(getattr(self, name).items())}
            object.__setattr__(self, name, MappingProxyType(tables))
        for point, activations in self.activations.items():
            projection = self.projections.get(point, activations)
            if activations.shape != self.gradients[point].shape or projection.shape[1] != activations.shape[1]:
                raise FitError(f"{point}: activations, gradients and projection must be of one width and number")

    def shown(self) -> dict[str, object]:
        return shown_of(self)

    def at(self, points: HookPoint | Iterable[HookPoint]) -> KernelSteering:
        """The same steering at some of its hook points only."""
        wanted = fitted_among(points, self.points)
        return replace(
            self,
            **{  # type: ignore[arg-type]
                name: {p: getattr(self, name)[p] for p in wanted if p in getattr(self, name)}
                for name in ("change_norms", "stream_norms", *_TABLES)
            },
        )

    def width(self, point: HookPoint) -> int:
        return int(self.gradients[point].shape[1])

    def change(
        self, point: HookPoint, h: Float[Tensor, "*b d"], now: RunningPass | None = None
    ) -> Float[Tensor, "*b d"]:
        """In float32, given back in the type of ``h``."""
        del now
        projection = self.projections[point].to(h.device) if self.projections else None
        return kernel_change(h, self.activations[point].to(h.device), self.gradients[point].to(h.device), projection)

    def random_like(self, seed: int) -> SteeringVector:
        return random_vector(self, seed)

    def to_tensors(self) -> tuple[Tensors, Head]:
        tables = {f"{table} {p}": t for table in _TABLES for p, t in getattr(self, table).items()}
        return tables, {"change_norms": by_name(self.change_norms)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], head: Mapping[str, Any]) -> KernelSteering:
        tables: dict[str, dict[HookPoint, Tensor]] = {table: {} for table in _TABLES}
        for name, tensor in tensors.items():
            table, _, point = name.partition(" ")
            if table not in tables:
                raise FitError(f"{name}: expected {', '.join(_TABLES)}, a blank and a hook point")
            tables[table][HookPoint.parse(point)] = tensor
        norms, made = read_norms(head, "stream_norms"), Provenance.from_json(take(head, "provenance", Any))
        return cls(read_norms(head, "change_norms"), norms, made, **tables)


def kernel_change(
    h: Float[Tensor, "*b d"],
    activations: Float[Tensor, "n d"],
    gradients: Float[Tensor, "n d"],
    projection: Float[Tensor, "k d"] | None,
) -> Float[Tensor, "*b d"]:
    """``-1/N sum_i k(h, h_i) g_i``."""
    wide = h.float()
    if projection is not None:
        wide, activations = wide @ projection.T, activations @ projection.T
    change: Tensor = -(wide @ activations.T) @ gradients / len(gradients)
    return change.to(h.dtype)


def _own(table: Tensor, point: HookPoint) -> Tensor:
    if table.ndim != 2 or not bool(torch.isfinite(table).all()):
        raise FitError(f"{point}: expected a finite table of shape [n, d], got {tuple(table.shape)}")
    return table.detach().to("cpu", torch.float32, copy=True)
