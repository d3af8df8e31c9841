"""A change that looks ahead: how the activation would move if the parameters took one step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.decoding import take
from tillerman.core.errors import IN_FLOAT32, FitError, UnknownNameError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.provenance import Provenance
from tillerman.core.sparse import entries, packed, unpacked
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
from tillerman.core.steerings.vector import SteeringVector, random_vector

MODES = ("fd", "jvp")


@dataclass(frozen=True, eq=False, repr=False)
class LookaheadSteering(Dosed):
    """The change of a hook point per unit step of gradient descent (COLD-FD: arXiv 2603.06495, section 3).

    ``fd``: ``-(Z(x; theta + epsilon g) - Z(x; theta)) / epsilon``; ``jvp``: ``-dZ/dtheta . g``, its limit. ``g`` is
    ``displacement``, by names of parameters in the decoder, dense or sparse COO tensors; ``depths`` says in which
    block each is (embedding: -1). ``epsilon`` matters to ``fd`` only. Strength is the paper's eta, the length of
    the step.
    """

    displacement: Mapping[str, Tensor]
    depths: Mapping[str, int]
    widths: Mapping[HookPoint, int]
    mode: str
    epsilon: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode not in MODES:
            raise UnknownNameError("mode of looking ahead", self.mode, MODES)
        if not (math.isfinite(self.epsilon) and self.epsilon > 0):
            raise FitError(f"epsilon {self.epsilon}: expected a finite number above 0")
        if not self.displacement or set(self.displacement) != set(self.depths):
            raise FitError("expected at least one displaced parameter, and a depth for each")
        if set(self.widths) != set(self.points):
            raise FitError("widths must cover the hook points")
        # No copy: this may be half a model. It is made for this value and never changed.
        own = {name: _own(t) for name, t in self.displacement.items()}
        broken = [name for name, t in own.items() if not bool(torch.isfinite(entries(t)).all())]
        if broken:
            raise FitError(f"{broken[0]}: the gradient is not finite; {IN_FLOAT32}")
        object.__setattr__(self, "displacement", MappingProxyType(own))
        object.__setattr__(self, "depths", MappingProxyType(dict(self.depths)))
        object.__setattr__(self, "widths", MappingProxyType(dict(self.widths)))

    def shown(self) -> dict[str, object]:
        return shown_of(self)

    def at(self, points: HookPoint | Iterable[HookPoint]) -> LookaheadSteering:
        """The same steering at some of its hook points, without the parameters above them."""
        wanted = fitted_among(points, self.points)
        deepest = max(p.layer - (p.site == "resid_pre") for p in wanted)
        kept = {name: depth for name, depth in self.depths.items() if depth <= deepest}
        return replace(
            self,
            change_norms={p: self.change_norms[p] for p in wanted},
            stream_norms={p: self.stream_norms[p] for p in wanted},
            displacement={name: self.displacement[name] for name in kept},
            depths=kept,
            widths={p: self.widths[p] for p in wanted},
        )

    def width(self, point: HookPoint) -> int:
        return self.widths[point]

    @property
    def looks_ahead(self) -> bool:
        return True

    def change(self, point: HookPoint, h: Float[Tensor, "b s d"], now: RunningPass) -> Float[Tensor, "b s d"]:
        """From the second stream of the running pass; ``h`` is the stream as the unsteered model has it."""
        return now.ahead(self, point, h)

    def random_like(self, seed: int) -> SteeringVector:
        return random_vector(self, seed)

    def to_tensors(self) -> tuple[Tensors, Head]:
        moved = self.displacement
        return {k: t for name in moved for k, t in packed(name, moved[name]).items()}, {
            "sparse": {name: list(t.shape) for name, t in moved.items() if t.is_sparse},
            "change_norms": by_name(self.change_norms),
            "depths": dict(self.depths),
            "widths": by_name(self.widths),
            "mode": self.mode,
            "epsilon": self.epsilon,
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], head: Mapping[str, Any]) -> LookaheadSteering:
        norms, made = read_norms(head, "stream_norms"), Provenance.from_json(take(head, "provenance", Any))
        moved = unpacked(tensors, take(head, "sparse", Mapping[str, tuple[int, ...]], {}))  # older files have none
        widths, depths = by_point(take(head, "widths", Mapping[str, int])), take(head, "depths", Mapping[str, int])
        mode, step = take(head, "mode", str), take(head, "epsilon", float)
        return cls(read_norms(head, "change_norms"), norms, made, moved, depths, widths, mode, step)


def _own(tensor: Tensor) -> Tensor:
    moved = tensor.detach().to("cpu", torch.float32)
    return moved.coalesce() if moved.is_sparse else moved
