"""Where to steer: the vector of ``caa``, at the layer that each input's prompt chooses (arXiv 2604.03867)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tillerman.core.choices import CHOICE_READS, LayerChoice
from tillerman.core.errors import FitError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import ContrastSet, Progress, Row
from tillerman.core.spec import option
from tillerman.core.steerings.base import Steering
from tillerman.core.steerings.routed import RoutedSteering
from tillerman.core.steerings.vector import SteeringVector
from tillerman.methods.base import Context, Fitted, Habits
from tillerman.methods.choosing import Chooser, fit_chooser
from tillerman.methods.contrast import ContrastMethod
from tillerman.methods.estimators import mean_difference
from tillerman.methods.fit import Activations, dealt, fit
from tillerman.methods.readers import spread
from tillerman.models.answers import margins
from tillerman.models.capture import capture
from tillerman.models.gradients import Taught
from tillerman.reports.numbers import decimal
from tillerman.statistics.estimates import mean_effect

MIDDLE = (0.2, 0.8)  # of the depth: the layers taken where none were asked for


@dataclass(frozen=True)
class W2s(ContrastMethod):
    """``h + strength * v_l`` at one hook point l of several, ``l = argmax w_l . h + b_l`` over the prompt's h.

    ``v_l`` has the direction of ``caa`` and, at all hook points, one dose at strength 1, the mean of theirs. What is
    learnt is how far each hook point moves the log-odds of each training row, with vectors that were fitted without the
    row. Of one hook point it is ``caa``.
    """

    name: ClassVar[str] = "w2s"
    habits: ClassVar[Habits] = Habits(joint=True)
    gates_itself: ClassVar[bool] = True
    layers: int = option(6, "layers to choose among, at most", least=2)
    read: str = option("mean", "what is read of the prompt: the mean of its tokens, or the last", choices=CHOICE_READS)
    learn: str = option(
        "shift", "how far each layer moves a row, or which one moves it furthest", choices=("shift", "best")
    )
    dose: float = option(0.2, "at which the layers are tried on training rows", above=0)
    folds: int = option(5, "parts of the training rows, each tried with vectors of the others", least=2)

    def pair(self, context: Context) -> ContrastSet:
        context.preferences("w2s tries layers on the answers to training items")  # or says that there are none
        return super().pair(context)

    def direction(
        self, positive: Float[Tensor, "n d"], negative: Float[Tensor, "m d"], paired: bool
    ) -> Float[Tensor, " d"]:
        return mean_difference(positive, negative, paired)

    def fit(self, context: Context) -> Steering:
        return self.made(context, self.sides(context).activations)

    def fitted(self, context: Context) -> Fitted:
        """The random null keeps the choice; the shuffled one is fitted anew, choice and all."""
        sides = self.sides(context)
        with context.stage(f"layers, {self}", len(context.items)) as progress:
            vector = self.made(context, sides.activations, progress=progress)
        return Fitted(
            self, vector, partial(self.random, vector), lambda seed: self.made(context, sides.shuffled(seed), seed)
        )

    def made(
        self, context: Context, sides: Activations, dealing: int | None = None, progress: Progress = lambda _: None
    ) -> Steering:
        """Of sides whose labels were shuffled by the seed ``dealing``, the null."""
        made = fit(sides, self.direction, context.provenance)
        deep = len(context.opened.parts.blocks)
        points = candidates(made.points, deep if len(context.points) == deep else None, self.layers)
        if len(points) == 1:
            return made.at(points)
        dose = sum(made.dose(point, 1.0) for point in points) / len(points)
        even = made.stretched({point: dose * made.stream_norms[point] / made.norm(point) for point in points})
        n = len(next(iter(sides.positive.values())))
        if n < 2:
            raise FitError("w2s: one training item, and layers are tried on items left out; give more, or use caa")
        taught = context.preferences("w2s tries layers on the answers to training items")
        if dealing is not None:
            swapped = dealt(n, n, True, dealing)[0] >= n
            taught = [replace(t, answers=t.answers[::-1]) if s else t for t, s in zip(taught, swapped, strict=True)]
        moved = self.tried(context, made.at(points), sides, taught, progress)
        first = min(points, key=lambda point: point.order)
        prompts = [Row(one.prompt, 0 if self.read == "mean" else len(one.prompt) - 1) for one in taught]
        read = capture(context.opened, prompts, (first,), read=self.read)[first]
        chooser = fit_chooser(read, moved, labels=self.learn == "best")
        choice = LayerChoice(chooser.keys, chooser.offsets, first, self.read)
        told = replace(context.provenance, found=_facts(points, chooser, choice, read, self.dose))
        return RoutedSteering.of(even.directions, even.stream_norms, told, choice)

    def tried(
        self,
        context: Context,
        vectors: SteeringVector,
        sides: Activations,
        taught: Sequence[Taught],
        progress: Progress,
    ) -> Float[Tensor, "n k"]:
        """How far each hook point moves the log-odds of each row, in nats per token, at the dose, along the difference
        of the rows in other folds."""
        n, points = len(taught), vectors.points
        fold = torch.empty(n, dtype=torch.long)
        fold[torch.randperm(n, generator=torch.Generator().manual_seed(context.seed))] = torch.arange(n) % self.folds
        found = torch.empty(n, len(points))
        for k in range(min(n, self.folds)):
            here = fold == k
            along = {p: self._scaled(vectors, sides, p, ~here) for p in points}
            mine = [t for t, inside in zip(taught, here.tolist(), strict=True) if inside]
            kept = context.store.scoped(context.opened.identity, mine, along)
            run = partial(_asked, context, mine, along, progress)
            asked = kept.tensors("margins", run)["margins"]
            found[here] = asked[:, 1:] - asked[:, :1]
        return found

    def _scaled(
        self, vectors: SteeringVector, sides: Activations, point: HookPoint, rows: Bool[Tensor, " n"]
    ) -> Float[Tensor, " d"]:
        """A direction of these rows alone, of the length that has the dose."""
        v = mean_difference(sides.positive[point][rows].double(), sides.negative[point][rows].double(), True)
        scaled: Tensor = v * (self.dose * vectors.stream_norms[point] / v.norm().clamp_min(1e-30))
        return scaled.float()

    def report(self, found: Mapping[str, Any]) -> tuple[str, ...]:
        if not found:
            return ("one layer to steer: the vector of caa",)
        layers = ", ".join(f"{point} {count}" for point, count in found["chosen"])
        moved = {name: decimal(found[name], 3, signed=True) for name in ("moved", "fixed", "ideal", "low", "high")}
        gain = f"{decimal(found['moved'] - found['fixed'], 3, signed=True)}, {moved['low']} to {moved['high']}"
        return (
            f"training rows by the layer that their prompt chooses: {layers}",
            f"log-odds moved at a dose of {found['dose']:g}, mean over training rows left out of the fit, nats per "
            f"token: {moved['moved']} at the layer chosen, {moved['fixed']} at the best one for all (difference "
            f"{gain}), {moved['ideal']} were the best for each known",
        )


def candidates(points: Sequence[HookPoint], deep: int | None, most: int) -> tuple[HookPoint, ...]:
    """So many, evenly spread: over the middle of a model of ``deep`` layers, all of which may be steered, else over
    those that may."""
    low, high = (share * (deep or 0) for share in MIDDLE)
    middle = [point for point in points if low <= point.layer < high]
    pool = middle if len(middle) > 1 else list(points)
    return tuple(pool[i] for i in spread(len(pool), most))


def _asked(
    context: Context, taught: Sequence[Taught], along: Mapping[HookPoint, Tensor], progress: Progress
) -> dict[str, Tensor]:
    return {"margins": margins(context.opened, taught, along, progress)}


def _facts(
    points: Sequence[HookPoint], chooser: Chooser, choice: LayerChoice, read: Float[Tensor, "n d"], dose: float
) -> dict[str, Any]:
    counts = torch.bincount(choice.chosen(read), minlength=len(points)).tolist()
    gain = mean_effect(chooser.chosen.numpy(), chooser.fixed.numpy())
    means = {"moved": chooser.chosen.mean(), "fixed": chooser.fixed.mean(), "ideal": chooser.ideal.mean()}
    bounds = {"low": gain.interval.low, "high": gain.interval.high}
    numbers = {name: round(float(value), 4) for name, value in (means | bounds).items()}
    return {"chosen": [[str(p), n] for p, n in zip(points, counts, strict=True)], "dose": dose, **numbers}
