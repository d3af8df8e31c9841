"""COLD-Steer: the change of an activation that one step of gradient descent on the examples would cause,
``dZ(x) = -eta/N J_theta Z(x) sum_i grad_theta L_i``, without the step (arXiv 2603.06495, section 3).

Kernel: with a kernel in place of the Jacobians, ``dZ(x) = -eta/N sum_i k(Z(x), Z_i) dL_i/dZ_i``; ``k = 1`` gives
one vector. Looking ahead: a finite difference, or a Jacobian-vector product, along the mean gradient.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from tillerman.core.errors import IN_FLOAT32, FitError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.sparse import entries, held_bytes, largest
from tillerman.core.spec import option
from tillerman.core.steerings.base import Steering
from tillerman.core.steerings.gated import GatedSteering, kernel
from tillerman.core.steerings.lookahead import LookaheadSteering
from tillerman.core.steerings.vector import SteeringVector
from tillerman.methods.base import Context, Method
from tillerman.models.gradients import LOSSES, AtPrompts, Taught, activation_gradients, depths, parameter_gradient
from tillerman.models.lookahead import agreement, measured, with_own_step

PROJECTED = 64  # dimensions of the random projection


def _loss() -> Any:
    words = (
        "what is stepped down: both answers (pair), the rejected alone as in the authors' code, positive or negative"
    )
    return option("pair", words, choices=tuple(LOSSES))


def _keep() -> Any:
    return option(None, "share of the displacement's entries that is kept, the largest", above=0, most=1)


class _Cold(Method):
    """What the COLD methods share: pairs of every item's wanted answer and the one that ``caa`` sets against it."""

    loss: str

    def fit(self, context: Context) -> Steering:
        self.ensure_complete()
        needs = "COLD-Steer takes gradients at the end of a prompt"
        return self.fit_taught(context, context.preferences(needs))

    @abstractmethod
    def fit_taught(self, context: Context, examples: list[Taught]) -> Steering:
        """Fit on examples made by hand: shares of options, single answers."""

    def ensure_complete(self) -> None:
        if self.loss == "shares":
            raise UsageError(
                f"{self.name}: loss=shares: the data say which answer is wanted, not what share each should have; in "
                "Python give Taught(prompt, answers, target) to fit_taught"
            )


class _Kernel(_Cold):
    """Fitted without the Jacobians; ``kernel`` says how an example counts for an activation."""

    kernel: ClassVar[str] = "unit"

    def fit_taught(self, context: Context, examples: list[Taught]) -> Steering:
        found = activation_gradients(context.opened, examples, context.points, self.loss, progress=context.progress)
        norms = {p: float(h.norm(dim=-1).mean()) for p, h in found.activations.items()}
        _ensure_slopes(found)
        if self.kernel == "unit":
            return SteeringVector({p: -g.mean(0) for p, g in found.gradients.items()}, norms, context.provenance)
        projections = _projections(context, found) if self.kernel == "projection" else {}
        made = {p: kernel(h, found.gradients[p], projections.get(p)) for p, h in found.activations.items()}
        keys, offsets, values = ({p: tables[k] for p, tables in made.items()} for k in range(3))
        steering = GatedSteering(dict.fromkeys(made, 1.0), norms, context.provenance, keys, offsets, values)
        return steering.measured(found.activations)


@dataclass(frozen=True)
class ColdKernel(_Kernel):
    """``k = 1``: one vector, minus the mean gradient at the prompts' ends."""

    name: ClassVar[str] = "cold-kernel"
    loss: str = _loss()


@dataclass(frozen=True)
class ColdKernelSingle(_Kernel):
    """The same of the rejected answer alone, as in the authors' code."""

    name: ClassVar[str] = "cold-kernel-single"
    loss: str = field(default="rejected", init=False)


@dataclass(frozen=True)
class ColdKernelLinear(_Kernel):
    """``k = <Z(x), Z_i>``: examples count by how like them the activation is."""

    name: ClassVar[str] = "cold-kernel-linear"
    kernel: ClassVar[str] = "linear"
    loss: str = _loss()


@dataclass(frozen=True)
class ColdKernelProjection(_Kernel):
    """The same after a random projection to ``PROJECTED`` dimensions."""

    name: ClassVar[str] = "cold-kernel-projection"
    kernel: ClassVar[str] = "projection"
    loss: str = _loss()


class _Ahead(_Cold):
    """The change along the mean gradient itself, by a second pass. ``keep`` thins the displacement."""

    mode: ClassVar[str]
    keep: float | None

    @property
    def step(self) -> float | None:
        """The length of the step; None takes one that moves the stream by ``sqrt(machine epsilon)``."""
        return None

    def fit_taught(self, context: Context, examples: list[Taught]) -> Steering:
        plain = _plain(context, examples, self)
        opened, prompts, own_step = context.opened, [t.prompt for t in examples], self.step is None
        if self.keep is None or self.keep == 1:
            return measured(opened, plain, prompts, own_step=own_step)
        try:
            thin = measured(opened, _thinned(plain, self.keep), prompts, own_step=own_step)
        except FitError as error:
            raise FitError(
                f"{self.name}: keep={self.keep:g} keeps too little ({error}); keep more, or leave out its layer"
            ) from None
        alike = agreement(opened, thin, with_own_step(opened, plain, prompts) if own_step else plain, prompts)
        found = {"displaced": _displaced(plain, thin, alike)}
        return replace(thin, provenance=replace(context.provenance, found=found))

    def report(self, found: Mapping[str, Any]) -> tuple[str, ...]:
        return _displaced_lines(found["displaced"]) if found else ()


@dataclass(frozen=True)
class ColdFd(_Ahead):
    """A finite difference along the mean gradient."""

    name: ClassVar[str] = "cold-fd"
    mode: ClassVar[str] = "fd"
    loss: str = _loss()
    epsilon: float | None = option(None, "length of the step; found by itself if not given", above=0)
    keep: float | None = _keep()

    @property
    def step(self) -> float | None:
        return self.epsilon


@dataclass(frozen=True)
class ColdJvp(_Ahead):
    """The derivative along the mean gradient (a Jacobian-vector product)."""

    name: ClassVar[str] = "cold-jvp"
    mode: ClassVar[str] = "jvp"
    loss: str = _loss()
    keep: float | None = _keep()


def _plain(context: Context, examples: list[Taught], method: _Ahead) -> LookaheadSteering:
    """The whole displacement, at dose 1 everywhere."""
    opened = context.opened
    deepest = max(context.points, key=lambda point: point.order)
    gradient = parameter_gradient(opened, examples, deepest, method.loss, progress=context.progress)
    if not any(float(g.norm()) for g in gradient.values()):
        raise FitError("the loss has no gradient on these examples: nothing to step along")
    depth = depths(opened.parts)
    return LookaheadSteering(
        dict.fromkeys(context.points, 1.0),
        dict.fromkeys(context.points, 1.0),
        context.provenance,
        gradient,
        {name: depth[name] for name in gradient},
        {p: opened.parts.width_at(p) for p in context.points},
        method.mode,
        method.step or 1.0,
    )


def _thinned(whole: LookaheadSteering, keep: float) -> LookaheadSteering:
    kept = largest(whole.displacement, keep)
    return replace(whole, displacement=kept, depths={name: whole.depths[name] for name in kept})


def _displaced(
    whole: LookaheadSteering, thin: LookaheadSteering, alike: dict[HookPoint, tuple[float, float]]
) -> dict[str, Any]:
    dense, kept = whole.displacement.values(), thin.displacement.values()
    return {
        "kept": sum(int(entries(t).count_nonzero()) for t in kept),
        "of": sum(t.numel() for t in dense),
        "bytes": sum(map(held_bytes, kept)),
        "dense_bytes": sum(map(held_bytes, dense)),
        "agreement": [[str(p), round(cosine, 4), round(ratio, 4)] for p, (cosine, ratio) in alike.items()],
    }


def _projections(context: Context, found: AtPrompts) -> dict[HookPoint, Tensor]:
    """``R [k, d]`` with independent normal entries of variance 1/k: ``<R a, R b>`` is ``<a, b>`` on average."""
    generator = torch.Generator().manual_seed(context.seed)
    return {
        p: torch.randn(PROJECTED, g.shape[1], generator=generator) / PROJECTED**0.5 for p, g in found.gradients.items()
    }


def _ensure_slopes(found: AtPrompts) -> None:
    for point, gradient in found.gradients.items():
        if not bool(torch.isfinite(gradient).all()):
            raise FitError(f"{point}: the gradients are not finite; {IN_FLOAT32}")
        if not float(gradient.mean(0).norm()):
            raise FitError(f"{point}: the loss has no gradient there on these examples")


def _displaced_lines(facts: Mapping[str, Any]) -> tuple[str, ...]:
    share, size = facts["kept"] / facts["of"], facts["bytes"] / facts["dense_bytes"]
    alike = "; ".join(f"{point} {cosine:.3f}, {ratio:.3f}" for point, cosine, ratio in facts["agreement"])
    return (
        f"displacement: {facts['kept']:,} of {facts['of']:,} entries kept ({share:.2%}), in {facts['bytes']:,} bytes "
        f"instead of {facts['dense_bytes']:,} ({size:.1%})",
        f"change by what is kept against the whole one (mean cosine, ratio of norms, on the train prompts): {alike}",
    )
