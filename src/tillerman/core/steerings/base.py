"""What every steering can say and do, whether its change is one vector or depends on what the model reads."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from tillerman.core.decoding import take
from tillerman.core.errors import HookPointError
from tillerman.core.gates import PromptGate
from tillerman.core.hookpoint import HookPoint, named
from tillerman.core.provenance import Provenance

Tensors = dict[str, Tensor]
Head = dict[str, Any]


@runtime_checkable
class RunningPass(Protocol):
    """What a change may read of the running forward pass, beside the activation itself."""

    @property
    def positions(self) -> Int[Tensor, "b s"]: ...  # absolute, padding not counted
    def ahead(
        self, steering: Steering, point: HookPoint, h: Float[Tensor, "b s d"]
    ) -> Float[Tensor, "b s d"]: ...  # the change of a steering that looks ahead, from its second stream


@runtime_checkable
class Steering(Protocol):
    """A change of activations, at its hook points: ``h + strength * change``.

    ``SteeringVector`` adds one vector everywhere, ``GatedSteering`` vectors as strong as the activation asks for,
    ``TransportSteering`` an affine map of each coordinate, ``RoutedSteering`` a vector at the one of its hook points
    that the prompt chooses, ``SequenceSteering`` one vector for each of a prompt's first tokens, ``LookaheadSteering``
    the difference to a model with other parameters. Norm and dose are means over the tokens it was fitted on where the
    change is not constant.
    """

    @property
    def points(self) -> tuple[HookPoint, ...]: ...
    @property
    def operator(self) -> str: ...  # the one it was fitted for
    @property
    def provenance(self) -> Provenance: ...
    @property
    def stream_norms(self) -> Mapping[HookPoint, float]: ...
    @property
    def directions(self) -> Mapping[HookPoint, Float[Tensor, " d"]]: ...  # empty where the change is not constant
    @property
    def is_constant(self) -> bool: ...  # one vector per hook point, whatever the model reads
    @property
    def looks_ahead(self) -> bool: ...  # runs a second stream, beside an unsteered one
    @property
    def reach(self) -> int | None: ...  # only so many first tokens of the prompt are changed; None: any token
    @property
    def gates(self) -> Mapping[HookPoint, PromptGate]: ...  # where it steers some texts only: which, their prompts say
    def at(self, points: HookPoint | Iterable[HookPoint]) -> Steering: ...
    def width(self, point: HookPoint) -> int: ...
    def norm(self, point: HookPoint) -> float: ...
    def dose(self, point: HookPoint, strength: float) -> float: ...
    def strength(self, point: HookPoint, dose: float) -> float: ...

    def change(self, point: HookPoint, h: Float[Tensor, "b s d"], now: RunningPass) -> Float[Tensor, "b s d"]:
        """What ``add`` adds to ``h`` at strength 1, in the type of ``h``."""

    def check_operator(self, operator: str) -> None:
        """``UsageError`` where the operator wants something that this steering does not have."""

    def operand(self, point: HookPoint, operator: str) -> Float[Tensor, " k"]:
        """What the operator takes as ``v``, of a constant steering: see ``core.operators``."""

    def random_like(self, seed: int) -> Steering:
        """The random-direction null: at every hook point a random direction of the steering's norm."""

    def to_tensors(self) -> tuple[Tensors, Head]:
        """Named tensors, and what a file's head says of them beside stream norms and provenance."""

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], head: Mapping[str, Any]) -> Steering:
        """Inverse of ``to_tensors``, with stream norms and provenance in the head."""


def fitted_among(points: HookPoint | Iterable[HookPoint], fitted: Collection[HookPoint]) -> tuple[HookPoint, ...]:
    """``points`` as a tuple; ``HookPointError`` for one where nothing was fitted."""
    wanted = (points,) if isinstance(points, HookPoint) else tuple(points)
    missing = [str(point) for point in wanted if point not in fitted]
    if missing:
        raise HookPointError(f"{', '.join(missing)}: fitted at {named(tuple(fitted))}")
    return wanted


def by_name(values: Mapping[HookPoint, Any]) -> dict[str, Any]:
    """The same values as a file names them."""
    return {str(point): value for point, value in values.items()}


def by_point(named: Mapping[str, Any]) -> dict[HookPoint, Any]:
    """Inverse of ``by_name``; ``HookPointError`` for a name that is none, or two of one hook point."""
    found = {HookPoint.parse(name): value for name, value in named.items()}
    if len(found) < len(named):
        raise HookPointError(f"{', '.join(named)}: a hook point is named twice")
    return found


def read_norms(head: Mapping[str, Any], name: str) -> dict[HookPoint, float]:
    """The norms under ``name`` in a file's head."""
    return by_point(take(head, name, Mapping[str, float]))


def shown_of(steering: Steering) -> dict[str, object]:
    """What every kind shows of itself."""
    made = steering.provenance
    return {
        "method": made.method,
        "data": made.data_name,
        "model": made.model_id,
        "at": named(steering.points),
        "operator": steering.operator,
        "dose of strength 1": f"{sum(steering.dose(p, 1.0) for p in steering.points) / len(steering.points):.3g}",
    }
