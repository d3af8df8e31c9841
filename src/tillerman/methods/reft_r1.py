"""ReFT-r1: a direction trained so that what is read along it, added back, makes the wanted answers likely; it tells a
concept and steers towards it (Wu et al., arXiv 2501.17148)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tillerman.core.errors import FitError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.spec import option
from tillerman.core.steerings.vector import SteeringVector
from tillerman.methods.base import Context
from tillerman.methods.trained import Trained, stream_norms
from tillerman.models.gradients import Taught
from tillerman.models.latents import ReadAndAdd, largest_latents, means_of_answers
from tillerman.models.training import train_vectors
from tillerman.reports.numbers import decimal


@dataclass(frozen=True)
class ReftR1(Trained):
    """``v = m w``: w is trained, m is the largest latent along it among the wanted answers of the training items."""

    name: ClassVar[str] = "reft-r1"
    pairs: int = option(8, "examples in each step", least=1)
    largest: int = option(ReadAndAdd.largest, "latents of an answer whose mean is added along the direction", least=1)
    penalty: float = option(
        ReadAndAdd.penalty, "weight of the other latents in the loss, in nats per length of the stream", least=0
    )
    start: str = option(
        "random", "where the direction begins: at random, or a difference of means", choices=("random", "difference")
    )

    def fit(self, context: Context) -> SteeringVector:
        pairs = context.preferences("ReFT-r1 trains on answers to a prompt")
        wanted = [Taught(pair.prompt, pair.answers[:1]) for pair in pairs]
        norms = stream_norms(context, [pair.prompt for pair in pairs])
        objective = ReadAndAdd(wanted, self._starts(context, pairs, list(norms)), norms, self.largest, self.penalty)
        found = train_vectors(
            context.opened, objective, norms, self.training, seed=context.seed, progress=context.progress
        )
        units = {point: normalize(vector, dim=0) for point, vector in found.items()}
        read = largest_latents(context.opened, wanted, units, self.pairs)
        lengths = {point: float(each.max()) for point, each in read.items()}
        alive = [point for point, length in lengths.items() if length > 0]
        if not alive:
            raise FitError(
                "reft-r1: after training nothing is read along the directions (every latent is 0), so none is left to "
                "add; try reft-r1:penalty=0, a smaller rate, start=difference, or caa"
            )
        told = [[str(p), round(float(read[p].mean()) / norms[p], 5), round(lengths[p] / norms[p], 5)] for p in norms]
        return SteeringVector(
            {point: lengths[point] * units[point] for point in alive},
            {point: norms[point] for point in alive},
            replace(context.provenance, found={"latents": told}),
        )

    def report(self, found: Mapping[str, Any]) -> tuple[str, ...]:
        each = "; ".join(f"{p} {decimal(mean, 3)}, {decimal(most, 3)}" for p, mean, most in found["latents"])
        return (
            "largest latent of a wanted answer, in the mean and the largest of all, in lengths of the stream "
            f"(training items): {each}",
        )

    def _starts(
        self, context: Context, pairs: Sequence[Taught], points: Sequence[HookPoint]
    ) -> Mapping[HookPoint, Tensor]:
        """At random, turned round where the wanted answers' mean lies against it: a latent that is 0 at every token has
        no slope, and could not be trained."""
        means = means_of_answers(context.opened, pairs, points, self.pairs)
        if self.start == "difference":
            return {point: wanted - other for point, (wanted, other) in means.items()}
        starts = {}
        for point, (wanted, _) in means.items():
            drawn = torch.randn(len(wanted), generator=torch.Generator().manual_seed(context.seed))
            starts[point] = drawn if float(drawn @ wanted) > 0 else -drawn
        return starts
