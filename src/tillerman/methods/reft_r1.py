"""ReFT-r1: a direction trained so that what is read along it, added back, makes the wanted answers likely; it tells a
concept and steers towards it (Wu et al., arXiv 2501.17148)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

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
    """``v = m w``: w is trained, m is the largest latent along it in the training items' wanted answers."""

    name: ClassVar[str] = "reft-r1"
    pairs: int = option(8, "examples in each step", least=1)
    rate: float = option(0.4, "how far a step turns the vector, in units of its length", above=0)
    largest: int = option(ReadAndAdd.largest, "latents of an answer whose mean is added along the direction", least=1)
    penalty: float = option(
        ReadAndAdd.penalty, "weight of the other latents in the loss, in nats per length of the stream", least=0
    )
    start: str = option(
        "difference",
        "where the direction begins: wanted answers' mean without the others', or random",
        choices=("difference", "random"),
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
        told = [[str(p), *(round(float(x) / norms[p], 5) for x in (read[p].mean(), read[p].max()))] for p in norms]
        made = replace(context.provenance, found={"latents": told})
        return SteeringVector({p: as_long_as_read(unit, read[p], norms[p]) for p, unit in units.items()}, norms, made)

    def report(self, found: Mapping[str, Any]) -> tuple[str, ...]:
        each = "; ".join(f"{p} {decimal(mean, 3)}, {decimal(most, 3)}" for p, mean, most in found["latents"])
        return (
            "largest latent of a wanted answer, in the mean and the largest of all, in lengths of the stream "
            f"(training items; 0: nothing is read, and the vector is as long as the stream): {each}",
        )

    def _starts(
        self, context: Context, pairs: Sequence[Taught], points: Sequence[HookPoint]
    ) -> dict[HookPoint, Tensor]:
        # A token is predicted before it is read: of answers of one token both sides are the prompt's last activation.
        apart = self.start == "difference" and any(len(answer) > 1 for pair in pairs for answer in pair.answers)
        starts = {}
        for point, (wanted, other) in means_of_answers(context.opened, pairs, points, self.pairs).items():
            drawn = torch.randn(len(wanted), generator=torch.Generator().manual_seed(context.seed))
            starts[point] = not_against(wanted - other if apart else drawn, wanted)
        return starts


def not_against(way: Float[Tensor, " d"], mean: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
    """A direction without its component against a mean of activations: where every latent is 0 there is no slope, and
    a direction against them all could not be trained."""
    unit = normalize(mean, dim=0)
    return way - (way @ unit).clamp_max(0.0) * unit


def as_long_as_read(unit: Float[Tensor, " d"], read: Float[Tensor, "n k"], stream_norm: float) -> Float[Tensor, " d"]:
    """A unit direction times the largest latent that is read along it; as long as the stream where all are 0."""
    most = float(read.max())
    return (most if most > 0 else stream_norm) * unit
