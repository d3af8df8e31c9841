"""A change per position: the first tokens of a prompt are each moved by a vector of their own."""

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
from tillerman.core.steerings.base import (
    Head,
    RunningPass,
    Tensors,
    by_name,
    by_point,
    fitted_among,
    read_norms,
    shown_of,
)
from tillerman.core.steerings.dosed import Dosed


@dataclass(frozen=True, eq=False, repr=False)
class SequenceSteering(Dosed):
    """``change(t) = V_t`` for the tokens ``t < p`` of a prompt, counted from its first one without padding;
    0 for all others and for every token that is generated (ActAdd: Turner et al., arXiv 2308.10248, algorithm 1).

    The norm of its change is the mean over the rows of V that are not 0. Whatever the scope of an intervention
    means, no more than these tokens are steered.
    """

    changes: Mapping[HookPoint, Float[Tensor, "p d"]]

    def __post_init__(self) -> None:
        super().__post_init__()
        if {*self.changes} != {*self.points}:
            raise FitError("changes must cover the hook points")
        for point, change in self.changes.items():
            if change.ndim != 2 or not len(change) or not bool(torch.isfinite(change).all()):
                raise FitError(f"{point}: expected a finite change of shape [p, d], got {tuple(change.shape)}")
        if len({len(change) for change in self.changes.values()}) != 1:
            raise FitError("changes must have the same number of tokens at every hook point")
        own = {p: self.changes[p].detach().to("cpu", torch.float32, copy=True) for p in self.points}
        object.__setattr__(self, "changes", MappingProxyType(own))

    @property
    def reach(self) -> int:
        """The number p of tokens that it moves."""
        return len(next(iter(self.changes.values())))

    def shown(self) -> dict[str, object]:
        return shown_of(self)

    def at(self, points: HookPoint | Iterable[HookPoint]) -> SequenceSteering:
        """The same steering at some of its hook points only."""
        wanted = fitted_among(points, self.points)
        return replace(
            self,
            **{  # type: ignore[arg-type]
                name: {p: getattr(self, name)[p] for p in wanted}
                for name in ("change_norms", "stream_norms", "changes")
            },
        )

    def width(self, point: HookPoint) -> int:
        return int(self.changes[point].shape[1])

    def change(self, point: HookPoint, h: Float[Tensor, "b s d"], now: RunningPass) -> Float[Tensor, "b s d"]:
        """Of tokens by their absolute positions, whatever ``h`` is."""
        table, positions = self.changes[point].to(h.device), now.positions.to(h.device)
        inside = (positions < len(table))[..., None]
        return torch.where(inside, table[positions.clamp(max=len(table) - 1)], 0.0).to(h.dtype)

    def random_like(self, seed: int) -> SequenceSteering:
        """A random direction for each token, of the norm of its change."""
        generator = torch.Generator().manual_seed(seed)
        return replace(self, changes={p: _rows_like(v, generator) for p, v in self.changes.items()})

    def to_tensors(self) -> tuple[Tensors, Head]:
        return by_name(self.changes), {"change_norms": by_name(self.change_norms)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], head: Mapping[str, Any]) -> SequenceSteering:
        norms, made = read_norms(head, "stream_norms"), Provenance.from_json(take(head, "provenance", Any))
        return cls(read_norms(head, "change_norms"), norms, made, by_point(tensors))


def _rows_like(rows: Float[Tensor, "p d"], generator: torch.Generator) -> Float[Tensor, "p d"]:
    drawn = torch.randn(rows.shape, generator=generator)
    drawn *= (rows.norm(dim=1) / drawn.norm(dim=1))[:, None]
    return drawn
