"""What every steering can say, whether its change is one vector or depends on what the model reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, runtime_checkable

from tillerman.core.hookpoint import HookPoint
from tillerman.core.provenance import Provenance


@runtime_checkable
class Steering(Protocol):
    """A change of activations, at its hook points: ``h + strength * change``.

    ``SteeringVector`` adds one vector everywhere, ``KernelSteering`` one that depends on the activation,
    ``SequenceSteering`` one for each of a prompt's first tokens, ``LookaheadSteering`` the difference to a model
    with other parameters. Norm and dose are means over the
    training prompts where the change is not constant.
    """

    @property
    def points(self) -> tuple[HookPoint, ...]: ...
    @property
    def operator(self) -> str: ...  # the one it was fitted for
    @property
    def provenance(self) -> Provenance: ...
    @property
    def stream_norms(self) -> Mapping[HookPoint, float]: ...
    def at(self, points: HookPoint | Iterable[HookPoint]) -> Steering: ...
    def width(self, point: HookPoint) -> int: ...
    def norm(self, point: HookPoint) -> float: ...
    def dose(self, point: HookPoint, strength: float) -> float: ...
    def strength(self, point: HookPoint, dose: float) -> float: ...


def joint_dose(steering: Steering, strength: float) -> float:
    """The dose of one strength at all hook points of a steering: its mean over them."""
    return sum(steering.dose(point, strength) for point in steering.points) / len(steering.points)


def joint_strength(steering: Steering, dose: float) -> float:
    """Inverse of ``joint_dose``, which is proportional to the strength."""
    return dose / joint_dose(steering, 1.0)
