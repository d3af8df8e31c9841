"""Dose and choice of hook points, for steerings whose change is not constant."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from jaxtyping import Float
from torch import Tensor

from tillerman.core.errors import FitError, UsageError
from tillerman.core.gates import PromptGate
from tillerman.core.hookpoint import HookPoint
from tillerman.core.provenance import Provenance
from tillerman.core.shown import Shown


@dataclass(frozen=True, eq=False, repr=False)
class Dosed(Shown):
    """Mean norms over the tokens it was fitted on: of the change at strength 1, and of the
    stream. ``dose = strength * mean|change| / mean|h|``."""

    change_norms: Mapping[HookPoint, float]
    stream_norms: Mapping[HookPoint, float]
    provenance: Provenance

    def __post_init__(self) -> None:
        if not self.change_norms:
            raise FitError("a steering needs at least one hook point")
        if set(self.change_norms) != set(self.stream_norms):
            raise FitError("norms of change and stream must cover the same hook points")
        for name in ("change_norms", "stream_norms"):
            norms = {p: float(n) for p, n in sorted(getattr(self, name).items())}
            for point, norm in norms.items():
                if not 0 < norm < float("inf"):
                    raise FitError(f"{point}: expected {name.replace('_', ' ')} above 0, got {norm}")
            object.__setattr__(self, name, MappingProxyType(norms))

    @property
    def operator(self) -> str:
        return "add"

    @abstractmethod
    def width(self, point: HookPoint) -> int: ...

    @property
    def directions(self) -> Mapping[HookPoint, Float[Tensor, " d"]]:
        return {}

    @property
    def is_constant(self) -> bool:
        return False

    @property
    def looks_ahead(self) -> bool:
        return False

    @property
    def reach(self) -> int | None:
        return None

    @property
    def gates(self) -> Mapping[HookPoint, PromptGate]:
        return {}

    @property
    def points(self) -> tuple[HookPoint, ...]:
        return tuple(self.change_norms)

    def norm(self, point: HookPoint) -> float:
        return self.change_norms[point]

    def dose(self, point: HookPoint, strength: float) -> float:
        return strength * self.norm(point) / self.stream_norms[point]

    def strength(self, point: HookPoint, dose: float) -> float:
        return dose * self.stream_norms[point] / self.norm(point)

    def check_operator(self, operator: str) -> None:
        if operator != "add":
            raise UsageError(f"operator {operator!r} wants one vector, not a {type(self).__name__}")

    def operand(self, point: HookPoint, operator: str) -> Float[Tensor, " k"]:
        raise UsageError(f"{point}: a {type(self).__name__} has no one vector for the operator {operator!r}")
