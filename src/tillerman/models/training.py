"""Train vectors by gradient, one per hook point, for an objective. The weights are frozen.

What the vectors are trained for is in ``objectives`` (BiPO, RePS, CDAS) and ``latents`` (ReFT-r1); this is the loop
that they share.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.errors import IN_FLOAT32, FitError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import Progress, silent
from tillerman.models.gradients import only_wanted
from tillerman.models.memory import fitting, in_two
from tillerman.models.opened import OpenModel

A = TypeVar("A")


@dataclass(frozen=True)
class TrainingOptions:
    """``steps`` of Adam with ``pairs`` examples each, whatever the number of examples. ``rate``: how far one step
    moves the vector, in units of the stream there; it falls to 0 over the run as half a cosine."""

    steps: int = 40
    pairs: int = 16
    rate: float = 0.1


class VectorObjective(ABC, Generic[A]):
    """A loss over examples, as a function of a vector at one hook point.

    ``ask`` runs some examples once for all hook points, unsteered; ``loss`` is taken over what it gives.
    """

    @abstractmethod
    def __len__(self) -> int:
        """The number of examples."""

    def draw(self, generator: torch.Generator, chosen: Sequence[int]) -> list[float]:
        """A number for each example of a step (a sign, a strength), the same at all hook points."""
        del generator
        return [1.0] * len(chosen)

    def start(self, point: HookPoint, width: int, stream_norm: float, seed: int) -> Float[Tensor, " d"]:
        """Where the vector of a hook point begins."""
        del point, stream_norm, seed
        return torch.zeros(width)

    def settled(self, point: HookPoint, vector: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        """A step's vector, as the next step begins: itself, or one on the objective's constraint."""
        del point
        return vector

    @abstractmethod
    def ask(self, opened: OpenModel, chosen: Sequence[int], points: Sequence[HookPoint]) -> A:
        """These examples, ready for ``loss`` at any of the hook points."""

    @abstractmethod
    def loss(
        self, opened: OpenModel, asked: A, point: HookPoint, vector: Float[Tensor, " d"], drawn: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Of each example."""


@torch.inference_mode(False)  # tensors made in it could not be saved for a backward pass
def train_vectors(
    opened: OpenModel,
    objective: VectorObjective[A],
    stream_norms: Mapping[HookPoint, float],
    options: TrainingOptions,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[HookPoint, Float[Tensor, " d"]]:
    """A vector for every hook point of ``stream_norms``, trained by Adam on its own loss; float32 on the CPU.

    All of them see the same examples and draws in the same order. ``progress`` is told what share of the examples
    stands for the steps done.
    """
    vectors = {
        p: objective.start(p, opened.parts.width_at(p), norm, seed).to(opened.device).requires_grad_()
        for p, norm in stream_norms.items()
    }
    groups = [{"params": [v], "lr": _rate(options, stream_norms[p], len(v))} for p, v in vectors.items()]
    adam = torch.optim.Adam(groups)
    falling = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: (1 + math.cos(math.pi * step / options.steps)) / 2)
    steps = list(_steps(objective, options, seed))
    done = 0
    adam.zero_grad()
    # One piece after the other, each when it is asked for: a step whose examples come in halves ends with the second.
    for piece, gradients in fitting(opened.parts, steps, partial(_gradients, opened, objective, vectors), _Step.halves):
        count = len(steps[piece.number].chosen)
        for vector, gradient in zip(vectors.values(), gradients, strict=True):
            mine = gradient / count
            vector.grad = mine if vector.grad is None else vector.grad + mine
        done += len(piece.chosen)
        if done < count:
            continue
        adam.step()
        with torch.no_grad():
            for point, vector in vectors.items():
                vector.copy_(objective.settled(point, vector))
        falling.step()
        adam.zero_grad()
        step, done = piece.number, 0
        progress((step + 1) * len(objective) // options.steps - step * len(objective) // options.steps)
    return {p: v.detach().float().cpu() for p, v in vectors.items()}


@dataclass(frozen=True)
class _Step:
    """A step's examples, or half of them, and what was drawn for each."""

    number: int
    chosen: Sequence[int]
    drawn: Sequence[float]

    def halves(self) -> tuple[_Step, ...]:
        pieces = zip(in_two(self.chosen), in_two(self.drawn), strict=True)
        return tuple(replace(self, chosen=chosen, drawn=drawn) for chosen, drawn in pieces)


def _gradients(
    opened: OpenModel, objective: VectorObjective[A], vectors: Mapping[HookPoint, Tensor], step: _Step
) -> list[Tensor]:
    """Of the sum of a step's losses over its examples, for every vector."""
    asked = objective.ask(opened, step.chosen, list(vectors))
    drawn = torch.tensor(step.drawn, device=opened.device)
    found: list[Tensor] = []
    with only_wanted(opened.parts, ()):
        for point, vector in vectors.items():
            loss = objective.loss(opened, asked, point, vector, drawn).sum()
            if not bool(torch.isfinite(loss)):
                raise FitError(f"{point}: the loss is not finite; {IN_FLOAT32}")
            found += torch.autograd.grad(loss, [vector])
    return found


def _rate(options: TrainingOptions, stream_norm: float, width: int) -> float:
    """Adam moves every coordinate by its rate at most, so the vector by ``sqrt(d)`` times as much."""
    return options.rate * stream_norm / math.sqrt(width)


def _steps(objective: VectorObjective[A], options: TrainingOptions, seed: int) -> Iterator[_Step]:
    """The examples of every step, and what is drawn for them."""
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    for number in range(options.steps):
        if not order:
            order = torch.randperm(len(objective), generator=generator).tolist()
        chosen = order[: options.pairs]
        yield _Step(number, chosen, objective.draw(generator, chosen))
        order = order[options.pairs :]
