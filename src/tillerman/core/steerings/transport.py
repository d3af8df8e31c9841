"""A change that carries one distribution of activations onto another, coordinate by coordinate."""

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

_MAPS, _SUPPORT = ("slopes", "shifts"), ("lows", "highs")
Rows = Mapping[HookPoint, Tensor]  # [d]; checked below: a file may hold any shape


@dataclass(frozen=True, eq=False, repr=False)
class TransportSteering(Dosed):
    """``change(h) = (a - 1) * h + b``, coordinate by coordinate, with slopes ``a [d]`` and shifts ``b [d]``: strength 1
    makes of h the affine map ``T(h) = a * h + b``, a strength in between ``(1 - strength) h + strength T(h)``
    (Linear-AcT: Rodriguez et al. 2024, arXiv 2410.23054, section 3).

    ``lows`` and ``highs``, if any, are the map's support: a coordinate that lies outside stays. A token's change
    depends on no other token: it is the same in any batch, and in a prompt or one by one. Norm and dose are means over
    the activations it was measured on.
    """

    slopes: Rows
    shifts: Rows
    lows: Rows
    highs: Rows

    def __post_init__(self) -> None:
        super().__post_init__()
        if {*self.lows} != {*self.highs} or not {*self.lows} <= {*self.points}:
            raise FitError("lows and highs must cover the same hook points of the steering")
        for name in (*_MAPS, *_SUPPORT):
            given = getattr(self, name)
            if name in _MAPS and {*given} != {*self.points}:
                raise FitError(f"{name} must cover the hook points")
            own = {point: _own(row, point) for point, row in sorted(given.items())}
            object.__setattr__(self, name, MappingProxyType(own))
        for point in self.points:
            widths = {len(getattr(self, name)[point]) for name in (*_MAPS, *_SUPPORT) if point in getattr(self, name)}
            if len(widths) > 1:
                raise FitError(f"{point}: slopes, shifts and support must be of one width")

    def shown(self) -> dict[str, object]:
        return shown_of(self) | {"support": "observed" if self.lows else "all"}

    def at(self, points: HookPoint | Iterable[HookPoint]) -> TransportSteering:
        """The same steering at some of its hook points only."""
        wanted = fitted_among(points, self.points)
        names = ("change_norms", "stream_norms", *_MAPS, *_SUPPORT)
        kept = {name: {p: getattr(self, name)[p] for p in wanted if p in getattr(self, name)} for name in names}
        return replace(self, **kept)  # type: ignore[arg-type]

    def width(self, point: HookPoint) -> int:
        return len(self.slopes[point])

    def change(
        self, point: HookPoint, h: Float[Tensor, "*b d"], now: RunningPass | None = None
    ) -> Float[Tensor, "*b d"]:
        """In float32, given back in the type of ``h``."""
        del now
        wide = h.float()
        slope, shift = (getattr(self, name)[point].to(h.device) for name in _MAPS)
        change: Tensor = (slope - 1) * wide + shift
        if point in self.lows:
            low, high = (getattr(self, name)[point].to(h.device) for name in _SUPPORT)
            change = torch.where((wide >= low) & (wide <= high), change, 0.0)
        return change.to(h.dtype)

    def measured(self, activations: Mapping[HookPoint, Float[Tensor, "n d"]]) -> TransportSteering:
        """With the mean norm of its change over these activations; ``FitError`` where nothing of them is changed."""
        norms = {p: float(self.change(p, activations[p].float()).norm(dim=-1).mean()) for p in self.points}
        return replace(self, change_norms=norms)

    def random_like(self, seed: int) -> SteeringVector:
        return random_vector(self, seed)

    def to_tensors(self) -> tuple[Tensors, Head]:
        rows = {f"{name} {p}": row for name in (*_MAPS, *_SUPPORT) for p, row in getattr(self, name).items()}
        return rows, {"change_norms": by_name(self.change_norms)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], head: Mapping[str, Any]) -> TransportSteering:
        rows: dict[str, dict[HookPoint, Tensor]] = {name: {} for name in (*_MAPS, *_SUPPORT)}
        for name, tensor in tensors.items():
            kind, _, point = name.partition(" ")
            if kind not in rows:
                raise FitError(f"{name}: expected {', '.join(rows)}, a blank and a hook point")
            rows[kind][HookPoint.parse(point)] = tensor
        norms, made = read_norms(head, "stream_norms"), Provenance.from_json(take(head, "provenance", Any))
        return cls(read_norms(head, "change_norms"), norms, made, **rows)


def _own(row: Tensor, point: HookPoint) -> Tensor:
    if row.ndim != 1 or not row.numel() or not bool(torch.isfinite(row).all()):
        raise FitError(f"{point}: expected finite numbers of shape [d], got {tuple(row.shape)}")
    return row.detach().to("cpu", torch.float32, copy=True)
