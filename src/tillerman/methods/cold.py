"""COLD-Steer: the change of an activation that one step of gradient descent on the examples would cause,
``dZ(x) = -eta/N J_theta Z(x) sum_i grad_theta L_i``, without the step (arXiv 2603.06495, section 3).

Kernel: with a kernel in place of the Jacobians, ``dZ(x) = -eta/N sum_i k(Z(x), Z_i) dL_i/dZ_i``; ``k = 1`` gives
one vector. Looking ahead: a finite difference, or a Jacobian-vector product, along the mean gradient.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tillerman.core.errors import FitError, UnknownNameError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.sparse import entries, held_bytes, largest
from tillerman.core.steerings.base import Steering
from tillerman.core.steerings.kernel import KernelSteering, kernel_change
from tillerman.core.steerings.lookahead import MODES, LookaheadSteering
from tillerman.core.steerings.vector import SteeringVector
from tillerman.data.pairings import another
from tillerman.methods.base import Lesson
from tillerman.models.gradients import LOSSES, AtPrompts, Taught, activation_gradients, depths, parameter_gradient
from tillerman.models.lookahead import agreement, measured, with_own_step

KERNELS = ("unit", "linear", "projection")
PROJECTED = 64  # dimensions of the random projection


@dataclass(frozen=True)
class ColdOptions:
    """``mode`` is ``kernel``, ``fd`` or ``jvp``. ``loss`` as in ``models.gradients``: ``pair`` (both branches, as
    derived), ``rejected`` (the rejected branch alone, as in the authors' code), ``positive``, ``negative``,
    ``shares``. ``epsilon`` of ``fd``: None takes one that moves the stream by ``sqrt(machine epsilon)``. ``keep`` of
    ``fd`` and ``jvp``: the share of the displacement's entries that are kept, the largest; None is all."""

    mode: str = "kernel"
    loss: str = "pair"
    kernel: str = "unit"
    epsilon: float | None = None
    keep: float | None = None

    def __post_init__(self) -> None:
        if self.mode not in ("kernel", *MODES):
            raise UnknownNameError("mode", self.mode, ("kernel", *MODES))
        if self.kernel not in KERNELS:
            raise UnknownNameError("kernel", self.kernel, KERNELS)
        _ = LOSSES[self.loss]  # an unknown name is an error that lists the known ones
        _ensure_in_range(self.epsilon, self.keep)
        if self.kernel != "unit" and self.mode != "kernel":
            raise UsageError(f"kernel {self.kernel!r} is for mode 'kernel', not {self.mode!r}")
        if self.epsilon is not None and self.mode != "fd":
            raise UsageError(f"epsilon is the step of mode 'fd', not of {self.mode!r}")
        if self.keep is not None and self.mode not in MODES:
            raise UsageError(f"keep thins the displacement of modes 'fd' and 'jvp'; {self.mode!r} has none")

    @property
    def reads(self) -> frozenset[str]:
        """The fields of ``ColdChanges`` that it can take. A loss other than the usual one is what the method is."""
        read = {"loss": self.loss == ColdOptions.loss, "epsilon": self.mode == "fd", "keep": self.mode in MODES}
        return frozenset(name for name, wanted in read.items() if wanted)


@dataclass(frozen=True)
class ColdChanges:
    """What a run asks of its COLD methods, as in ``ColdOptions``: of each method what it can take. None leaves it
    as it is.

    ``loss`` is for all but ``cold-kernel-single``, ``epsilon`` for ``cold-fd``, ``keep`` for ``cold-fd`` and
    ``cold-jvp``.
    """

    loss: str | None = None
    epsilon: float | None = None
    keep: float | None = None

    def __post_init__(self) -> None:
        if self.loss is not None:
            _ = LOSSES[self.loss]
        if self.loss == "shares":
            raise UsageError(
                "--cold-loss shares: the data say which answer is wanted, not what share each should have; in Python "
                "give Taught(prompt, answers, target) and ColdOptions(loss='shares') to methods.cold.fit_taught"
            )
        _ensure_in_range(self.epsilon, self.keep)

    @property
    def asked(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}

    def only(self, names: Collection[str]) -> ColdChanges:
        """Without what is not named."""
        return ColdChanges(**{name: value for name, value in self.asked.items() if name in names})


def fit_cold(lesson: Lesson, options: ColdOptions) -> Steering:
    """Fit on pairs: of every item the wanted answer, and the one that ``caa`` holds against it."""
    if lesson.items[0].example.kind == "text":
        raise FitError("COLD-Steer takes gradients at the end of a prompt; labelled texts have none: use --method caa")
    if lesson.cold is not None:
        options = replace(options, **lesson.cold.only(options.reads).asked)
    examples = [
        Taught(w.prompt, (w.answers[w.right], w.answers[another(item)]))
        for item, w in zip(lesson.items, lesson.written, strict=True)
    ]
    return fit_taught(lesson, examples, options)


def fit_taught(lesson: Lesson, examples: list[Taught], options: ColdOptions) -> Steering:
    """Fit on examples made by hand: shares of options, single answers."""
    if options.mode != "kernel":
        return _ahead(lesson, examples, options)
    found = activation_gradients(lesson.opened, examples, lesson.points, options.loss, progress=lesson.progress)
    norms = {p: float(h.norm(dim=-1).mean()) for p, h in found.activations.items()}
    _ensure_slopes(found)
    if options.kernel == "unit":
        return SteeringVector({p: -g.mean(0) for p, g in found.gradients.items()}, norms, lesson.provenance)
    projections = _projections(lesson, found) if options.kernel == "projection" else {}
    changes = {
        p: kernel_change(h, h, found.gradients[p], projections.get(p)).norm(dim=-1).mean().item()
        for p, h in found.activations.items()
    }
    return KernelSteering(changes, norms, lesson.provenance, found.activations, found.gradients, projections)


def _ahead(lesson: Lesson, examples: list[Taught], options: ColdOptions) -> LookaheadSteering:
    opened = lesson.opened
    deepest = max(lesson.points, key=lambda point: point.order)
    gradient = parameter_gradient(opened, examples, deepest, options.loss, progress=lesson.progress)
    if not any(float(g.norm()) for g in gradient.values()):
        raise FitError("the loss has no gradient on these examples: nothing to step along")
    depth = depths(opened.parts)
    plain = LookaheadSteering(
        dict.fromkeys(lesson.points, 1.0),
        dict.fromkeys(lesson.points, 1.0),
        lesson.provenance,
        gradient,
        {name: depth[name] for name in gradient},
        {p: opened.parts.width_at(p) for p in lesson.points},
        options.mode,
        options.epsilon or 1.0,
    )
    prompts, own_step = [t.prompt for t in examples], options.epsilon is None
    if options.keep is None or options.keep == 1:
        return measured(opened, plain, prompts, own_step=own_step)
    try:
        thin = measured(opened, _thinned(plain, options.keep), prompts, own_step=own_step)
    except FitError as error:
        raise FitError(
            f"--cold-keep {options.keep:g} keeps too little ({error}); keep more, or leave out its layer"
        ) from None
    alike = agreement(opened, thin, with_own_step(opened, plain, prompts) if own_step else plain, prompts)
    return replace(thin, provenance=replace(lesson.provenance, found={"displaced": _displaced(plain, thin, alike)}))


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


def _projections(lesson: Lesson, found: AtPrompts) -> dict[HookPoint, Tensor]:
    """``R [k, d]`` with independent normal entries of variance 1/k: ``<R a, R b>`` is ``<a, b>`` on average."""
    generator = torch.Generator().manual_seed(lesson.seed)
    return {
        p: torch.randn(PROJECTED, g.shape[1], generator=generator) / PROJECTED**0.5 for p, g in found.gradients.items()
    }


def _ensure_in_range(epsilon: float | None, keep: float | None) -> None:
    if epsilon is not None and not 0 < epsilon < math.inf:
        raise UsageError(f"--cold-epsilon {epsilon:g}: expected a finite number above 0")
    if keep is not None and not 0 < keep <= 1:
        raise UsageError(f"--cold-keep {keep:g}: expected a share of the entries, above 0 and at most 1")


def _ensure_slopes(found: AtPrompts) -> None:
    for point, gradient in found.gradients.items():
        if not bool(torch.isfinite(gradient).all()):
            raise FitError(f"{point}: the gradients are not finite; open the model in float32 (--dtype float32)")
        if not float(gradient.mean(0).norm()):
            raise FitError(f"{point}: the loss has no gradient there on these examples")
