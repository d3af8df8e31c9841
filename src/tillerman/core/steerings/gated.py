"""A change that depends on the activation: vectors, each as strong as a gate makes it that reads the token itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.decoding import take
from tillerman.core.errors import FitError, UnknownNameError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.provenance import Provenance
from tillerman.core.steerings.base import (
    Head,
    RunningPass,
    Steering,
    Tensors,
    by_name,
    fitted_among,
    read_norms,
    shown_of,
)
from tillerman.core.steerings.dosed import Dosed
from tillerman.core.steerings.vector import random_vector

_TABLES = ("keys", "offsets", "values")
Rule = Callable[[Float[Tensor, "*b k"], Float[Tensor, "k d"], Float[Tensor, "m d"]], Float[Tensor, "*b m"]]


def _linear(read: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    del keys, values
    return read


def _relu(read: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    del keys, values
    return read.relu()


def _logistic(read: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    del keys, values
    return read.sigmoid()


def _within(read: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """The larger root of ``|r + g K v|^2 = 1``; 0 where there is none, or none above 0."""
    step = keys @ values[0]
    along, size = read @ step, step @ step
    room = along.square() + size * (1 - read.square().sum(-1))
    largest = (room.clamp_min(0).sqrt() - along) / size
    return torch.where(room >= 0, largest.clamp_min(0), 0.0)[..., None]


RULES: Mapping[str, Rule] = MappingProxyType(
    {"linear": _linear, "relu": _relu, "logistic": _logistic, "within": _within}
)
_OF_KEYS_ALONE = ("relu", "logistic")  # how strong they are does not depend on the vector that they weigh


@dataclass(frozen=True, eq=False, repr=False)
class GatedSteering(Dosed):
    """``change(h) = sum_i g_i v_i``: vectors ``v [m d]`` with weights that are read off the token's own activation,
    ``r = K h + b`` with keys ``K [k d]`` and offsets ``b [k]``.

    The rule says what becomes of the readings r:

    * ``linear``: ``g = r`` (a kernel over examples, COLD-Kernel: arXiv 2603.06495, section 3; any map of low rank);
    * ``relu``: ``g = max(r, 0)`` (prompt steering replacement: arXiv 2605.03907);
    * ``logistic``: ``g = 1 / (1 + exp(-r))`` (dynamically scaled activation steering: arXiv 2512.03661);
    * ``within``: of one vector the largest ``g >= 0`` with ``|r + g K v| <= 1``, the bound of a Mahalanobis distance
      where K whitens; 0 where no g keeps to it (in-distribution steering: arXiv 2510.13285).

    A token's change depends on no other token: it is the same in any batch, and in a prompt or one by one.
    """

    # shapes are checked below: a file may hold any
    keys: Mapping[HookPoint, Tensor]
    offsets: Mapping[HookPoint, Tensor]
    values: Mapping[HookPoint, Tensor]
    rule: str = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rule not in RULES:
            raise UnknownNameError("rule of a gate", self.rule, RULES)
        for name in _TABLES:
            if {*getattr(self, name)} != {*self.points}:
                raise FitError(f"{name} must cover the hook points")
            tables = {p: _own(t, p, 1 if name == "offsets" else 2) for p, t in sorted(getattr(self, name).items())}
            object.__setattr__(self, name, MappingProxyType(tables))
        for point, keys in self.keys.items():
            values = self.values[point]
            wanted = 1 if self.rule == "within" else len(keys)
            if values.shape != (wanted, keys.shape[1]) or len(self.offsets[point]) != len(keys):
                raise FitError(f"{point}: keys, offsets and values must be of one width and number")
            if self.rule == "within" and not float((keys @ values[0]).norm()) > 0:
                raise FitError(f"{point}: the keys do not read the vector, so that nothing bounds its strength")

    def shown(self) -> dict[str, object]:
        return shown_of(self) | {"rule": self.rule}

    def at(self, points: HookPoint | Iterable[HookPoint]) -> GatedSteering:
        """The same steering at some of its hook points only."""
        wanted = fitted_among(points, self.points)
        return replace(
            self,
            **{  # type: ignore[arg-type]
                name: {p: getattr(self, name)[p] for p in wanted} for name in ("change_norms", "stream_norms", *_TABLES)
            },
        )

    def width(self, point: HookPoint) -> int:
        return int(self.keys[point].shape[1])

    def weights(self, point: HookPoint, h: Float[Tensor, "*b d"]) -> Float[Tensor, "*b m"]:
        """The strength of each vector for each token, in float32."""
        keys, offsets, values = (getattr(self, name)[point].to(h.device) for name in _TABLES)
        return RULES[self.rule](h.float() @ keys.T + offsets, keys, values)

    def change(
        self, point: HookPoint, h: Float[Tensor, "*b d"], now: RunningPass | None = None
    ) -> Float[Tensor, "*b d"]:
        """In float32, given back in the type of ``h``."""
        del now
        change: Tensor = self.weights(point, h) @ self.values[point].to(h.device)
        return change.to(h.dtype)

    def measured(self, activations: Mapping[HookPoint, Float[Tensor, "n d"]]) -> GatedSteering:
        """With the mean norm of its change over these activations; ``FitError`` where nothing of them is changed."""
        norms = {p: float(self.change(p, activations[p].float()).norm(dim=-1).mean()) for p in self.points}
        return replace(self, change_norms=norms)

    def stretched(self, factors: Mapping[HookPoint, float]) -> GatedSteering:
        """At these hook points, with vectors so many times as long. Under the rule ``within`` the change stays what it
        is, since the bound is of the whole change."""
        mine = self.at(factors)
        norms = {p: k * mine.change_norms[p] for p, k in factors.items()}
        return replace(mine, values={p: k * mine.values[p] for p, k in factors.items()}, change_norms=norms)

    def random_like(self, seed: int) -> Steering:
        """Vectors of random direction and equal norms under the same gate, where that says all of a token's strength;
        else one vector for all tokens."""
        single = all(len(v) == 1 for v in self.values.values())  # nothing that other vectors add to or take away
        if self.rule not in _OF_KEYS_ALONE and not (self.rule == "linear" and single):
            return random_vector(self, seed)
        generator = torch.Generator().manual_seed(seed)
        drawn = {p: torch.randn(v.shape, generator=generator) for p, v in self.values.items()}
        values = {p: d * (self.values[p].norm(dim=1) / d.norm(dim=1))[:, None] for p, d in drawn.items()}
        return replace(self, values=values)

    def to_tensors(self) -> tuple[Tensors, Head]:
        tables = {f"{table} {p}": t for table in _TABLES for p, t in getattr(self, table).items()}
        return tables, {"change_norms": by_name(self.change_norms), "rule": self.rule}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], head: Mapping[str, Any]) -> GatedSteering:
        tables = _tables(tensors, _TABLES)
        norms, made = read_norms(head, "stream_norms"), Provenance.from_json(take(head, "provenance", Any))
        return cls(read_norms(head, "change_norms"), norms, made, **tables, rule=take(head, "rule", str))


def kernel(
    activations: Float[Tensor, "n d"], gradients: Float[Tensor, "n d"], projection: Float[Tensor, "k d"] | None = None
) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"], Float[Tensor, "n d"]]:
    """Keys, offsets and values of ``-1/N sum_i k(h, h_i) g_i`` under the rule ``linear``, with ``k(h, h_i) =
    <R h, R h_i>``, R the projection; without one, ``<h, h_i>``."""
    keys = activations if projection is None else activations @ projection.T @ projection
    return keys, torch.zeros(len(keys)), -gradients / len(gradients)


def former_kernel(tensors: Mapping[str, Tensor], head: Mapping[str, Any]) -> GatedSteering:
    """From a file of the kind ``KernelSteering``, as versions to 0.1 wrote it: activations and gradients."""
    found = _tables(tensors, ("activations", "gradients", "projections"))
    points = found["activations"]
    if {*found["gradients"]} != {*points} or (found["projections"] and {*found["projections"]} != {*points}):
        raise FitError("activations, gradients and projections must cover the same hook points")
    made = {
        p: kernel(_own(h, p, 2), _own(found["gradients"][p], p, 2), found["projections"].get(p))
        for p, h in points.items()
    }
    keys, offsets, values = ({p: tables[k] for p, tables in made.items()} for k in range(3))
    norms, provenance = read_norms(head, "stream_norms"), Provenance.from_json(take(head, "provenance", Any))
    return GatedSteering(read_norms(head, "change_norms"), norms, provenance, keys, offsets, values)


def _tables(tensors: Mapping[str, Tensor], names: tuple[str, ...]) -> dict[str, dict[HookPoint, Tensor]]:
    found: dict[str, dict[HookPoint, Tensor]] = {name: {} for name in names}
    for name, tensor in tensors.items():
        table, _, point = name.partition(" ")
        if table not in found:
            raise FitError(f"{name}: expected {', '.join(names)}, a blank and a hook point")
        found[table][HookPoint.parse(point)] = tensor
    return found


def _own(table: Tensor, point: HookPoint, dimensions: int) -> Tensor:
    if table.ndim != dimensions or not table.numel() or not bool(torch.isfinite(table).all()):
        shape = "[n, d]" if dimensions == 2 else "[n]"
        raise FitError(f"{point}: expected a finite table of shape {shape}, got {tuple(table.shape)}")
    return table.detach().to("cpu", torch.float32, copy=True)
