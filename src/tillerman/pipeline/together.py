"""Several layers steered at once: ``Experiment(together=...)``.

A vector that is added at many layers needs little at each. Its directions are made equally long in units of the stream,
``v_l * mean|h_l| / |v_l|``, so that a strength is the dose at every layer, and a dose of the grid is shared out among
the layers. On SmolLM2 this wrote more than one layer did at the same cost on neutral text (docs/real-models.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from tillerman.core.hookpoint import HookPoint
from tillerman.core.steerings.base import Steering
from tillerman.core.steerings.gated import GatedSteering
from tillerman.core.steerings.vector import SteeringVector
from tillerman.methods.base import Fitted
from tillerman.pipeline.run import Run
from tillerman.pipeline.vectors import Vectors

TOGETHER = ", layers together"  # after the name of a vector
MIDDLE = (0.2, 0.8)  # of the depth: the layers taken where none were asked for


def with_layers_together(run: Run, found: Vectors) -> Vectors:
    """The vectors, and those of them once more that can be added at several layers; alone where that is asked for, but
    for methods that choose their own hook points."""
    e = run.experiment
    asked = "no" if e.together == "auto" and e.objective == "scored" else e.together
    if asked == "no":
        return found
    made = {name: one for name, fitted in found.fitted.items() if (one := together(run, fitted)) is not None}
    kept = {name: one for name, one in found.fitted.items() if asked == "auto" or name not in made}
    names = {f"{name}{TOGETHER}": found.readings.get(name, (name, "")) for name in made}
    return replace(
        found,
        fitted=kept | {f"{name}{TOGETHER}": one for name, one in made.items()},
        readings=found.readings | names,
    )


def together(run: Run, fitted: Fitted) -> Fitted | None:
    """None of what is not added, or not at several layers, or has no length of its own, and of a method that steers all
    its hook points anyway."""
    vector = fitted.vector
    if not isinstance(vector, SteeringVector | GatedSteering) or vector.operator != "add" or fitted.habits.joint:
        return None
    if isinstance(vector, GatedSteering) and vector.rule == "within":
        return None
    points = [point for point in _band(run, vector.points) if vector.norm(point) > 0]
    if len(points) < 2:
        return None
    factors = {point: vector.stream_norms[point] / vector.norm(point) for point in points}
    made = vector.stretched(factors)
    return replace(
        fitted,
        vector=made,
        random=partial(fitted.method.random, made),
        shuffled=_shuffled(fitted.shuffled, factors),
        together=True,
    )


def _shuffled(make: Callable[[int], Steering], factors: dict[HookPoint, float]) -> Callable[[int], Steering]:
    """Stretched as the real vector is, not to its length: what shuffling leaves of a behaviour stays as short."""

    def draw(seed: int) -> Steering:
        vector = make(seed)
        assert isinstance(vector, SteeringVector | GatedSteering)
        return vector.stretched({point: k for point, k in factors.items() if point in vector.points})

    return draw


def _band(run: Run, points: Sequence[HookPoint]) -> list[HookPoint]:
    """All layers that were asked for; else those in the middle of the model."""
    if run.experiment.layers is not None:
        return list(points)
    deep = len(run.opened.parts.blocks)
    first, last = (round(share * deep) for share in MIDDLE)
    return [point for point in points if first <= point.layer <= last]
