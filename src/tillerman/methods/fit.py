"""From two sides of activations to a steering vector, and the two nulls made from the same activations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tillerman.core.hookpoint import HookPoint
from tillerman.core.provenance import Provenance
from tillerman.core.steerings.vector import SteeringVector
from tillerman.methods.estimators import Estimator, SameSidesError, estimate


@dataclass(frozen=True, eq=False)
class Activations:
    """What was read for one method: both sides at every hook point, and the mean norm where the
    vector will be added. ``paired``: row i of one side belongs to row i of the other. A side may be
    one row, its mean, for an estimator that asks for no more."""

    positive: Mapping[HookPoint, Float[Tensor, "n d"]]
    negative: Mapping[HookPoint, Float[Tensor, "m d"]]
    stream_norms: Mapping[HookPoint, float]
    paired: bool


def fit(activations: Activations, estimator: str | Estimator, provenance: Provenance) -> SteeringVector:
    """Estimate a direction at every hook point. Hook points where nothing tells the sides apart are
    left out (block 0's input at one fixed token, say); an error only if none remains."""
    directions, reasons = {}, []
    for point, positive in activations.positive.items():
        try:
            directions[point] = estimate(estimator, positive, activations.negative[point], activations.paired)
        except SameSidesError as error:
            reasons.append(error)
    if not directions:
        raise reasons[0]
    return SteeringVector(directions, {p: activations.stream_norms[p] for p in directions}, provenance)


def dealt(positive: int, negative: int, paired: bool, seed: int) -> tuple[Int[Tensor, " n"], Int[Tensor, " m"]]:
    """Labels shuffled: the new sides as places in the row of positives and negatives. Every pair's sides
    are swapped by a coin; rows without partners are dealt anew."""
    generator = torch.Generator().manual_seed(seed)
    coin = torch.rand(positive, generator=generator) < 0.5
    order = torch.randperm(positive + negative, generator=generator)
    if not paired:
        return order[:positive], order[positive:]
    plus = torch.arange(positive)
    return torch.where(coin, plus, plus + positive), torch.where(coin, plus + positive, plus)


def shuffled(activations: Activations, seed: int) -> Activations:
    """The shuffled-label null of activations that were kept row by row."""
    sizes = [len(next(iter(side.values()))) for side in (activations.positive, activations.negative)]
    plus, minus = dealt(sizes[0], sizes[1], activations.paired, seed)

    sides = {point: deal(h, activations.negative[point], plus, minus) for point, h in activations.positive.items()}
    return Activations(
        {point: side[0] for point, side in sides.items()},
        {point: side[1] for point, side in sides.items()},
        activations.stream_norms,
        activations.paired,
    )


def deal(
    positive: Tensor, negative: Tensor, plus: Int[Tensor, " n"], minus: Int[Tensor, " m"]
) -> tuple[Tensor, Tensor]:
    """Rows of both sides dealt anew, as ``dealt`` says."""
    both = torch.cat([positive, negative])
    return both[plus], both[minus]
