"""From two sides of activations to a steering vector, and the two nulls made from the same activations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tillerman.core.hookpoint import HookPoint
from tillerman.core.provenance import Provenance
from tillerman.core.steerings.base import Steering
from tillerman.core.steerings.vector import SteeringVector
from tillerman.methods.estimators import SameSidesError, estimate
from tillerman.methods.sae.encoded import Encoded
from tillerman.methods.sae.estimators import SAE_ESTIMATORS
from tillerman.models.sae.latents import Latents


@dataclass(frozen=True, eq=False)
class Activations:
    """What was read for one method: both sides at every hook point, and the mean norm where the
    vector will be added. ``paired``: row i of one side belongs to row i of the other. A side may be
    one row, its mean, for an estimator that asks for no more. ``encoded``: the same rows in the atoms of
    a sparse autoencoder, for the estimators that read one."""

    positive: Mapping[HookPoint, Float[Tensor, "n d"]]
    negative: Mapping[HookPoint, Float[Tensor, "m d"]]
    stream_norms: Mapping[HookPoint, float]
    paired: bool
    encoded: Encoded | None = None


def fit(activations: Activations, estimator: str, provenance: Provenance) -> SteeringVector:
    """Estimate a direction at every hook point. Hook points where nothing tells the sides apart are
    left out (block 0's input at one fixed token, say); an error only if none remains."""
    if estimator in SAE_ESTIMATORS:
        return _fit_atoms(activations, estimator, provenance)
    directions, reasons = {}, []
    for point, positive in activations.positive.items():
        try:
            directions[point] = estimate(estimator, positive, activations.negative[point], activations.paired)
        except SameSidesError as error:
            reasons.append(error)
    if not directions:
        raise reasons[0]
    return SteeringVector(directions, {p: activations.stream_norms[p] for p in directions}, provenance)


def _fit_atoms(activations: Activations, estimator: str, provenance: Provenance) -> SteeringVector:
    """At the one hook point that the autoencoder was made for."""
    assert activations.encoded is not None  # whoever reads for such an estimator encodes
    point = activations.encoded.sae.point
    sides = activations.positive[point], activations.negative[point]
    found = SAE_ESTIMATORS[estimator](activations.encoded, estimate("mean_difference", *sides, activations.paired))
    return SteeringVector(
        {point: found.direction},
        {point: activations.stream_norms[point]},
        replace(provenance, found=found.facts),
        {} if found.atom is None else {point: found.atom},
    )


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

    def deal(ones: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([ones, others])
        return both[plus], both[minus]

    sides = {point: deal(h, activations.negative[point]) for point, h in activations.positive.items()}
    encoded = activations.encoded
    if encoded is not None:
        means = deal(encoded.positive.mean, encoded.negative.mean)
        peaks = deal(encoded.positive.peak, encoded.negative.peak)
        encoded = replace(encoded, positive=Latents(means[0], peaks[0]), negative=Latents(means[1], peaks[1]))
    return Activations(
        {point: side[0] for point, side in sides.items()},
        {point: side[1] for point, side in sides.items()},
        activations.stream_norms,
        activations.paired,
        encoded,
    )


def random_like(steering: Steering, seed: int) -> Steering:
    """The random-direction null of a steering."""
    return steering.random_like(seed)
