"""Estimators: the rules that turn two sets of activations into one direction.

All take ``positive [n, d]`` and ``negative [m, d]`` (float64) and give ``[d]``: pointing from the
negative side to the positive, and as long as the gap between the two means along it, so that
strength 1 moves the average negative to the average positive whatever the estimator.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.errors import IN_FLOAT32, FitError
from tillerman.core.registry import Registry

Activations = Float[Tensor, "n d"]
Estimator = Callable[[Activations, Float[Tensor, "m d"], bool], Float[Tensor, " d"]]

_RIDGE = 1e-2  # of the probe's loss, on standardised activations


def mean_difference(positive: Activations, negative: Float[Tensor, "m d"], paired: bool) -> Float[Tensor, " d"]:
    """``v = mean(positive) - mean(negative)`` (PAS section 3.2, equation 2; CAE section 2)."""
    del paired  # the mean of the differences is the difference of the means
    return positive.mean(0) - negative.mean(0)


def pca(positive: Activations, negative: Float[Tensor, "m d"], paired: bool) -> Float[Tensor, " d"]:
    """First principal component, uncentred, of the pair differences where rows are paired (RepE's
    reading: Zou et al., arXiv 2310.01405, section 3.1), else of both sides around the middle of
    their means; signed and scaled by the difference of the means."""
    gap = mean_difference(positive, negative, paired)
    if paired:
        spread = positive - negative
    else:
        spread = torch.cat([positive, negative]) - (positive.mean(0) + negative.mean(0)) / 2
    axis: Tensor = torch.linalg.svd(spread, full_matrices=False).Vh[0]
    return axis * (axis @ gap)


def probe(positive: Activations, negative: Float[Tensor, "m d"], paired: bool) -> Float[Tensor, " d"]:
    """Normal of an L2-regularised logistic regression between the sides, on standardised
    activations, scaled to the gap of the means along it (ITI's probe direction: Li et al.,
    arXiv 2306.03341, section 3)."""
    del paired
    gap = mean_difference(positive, negative, False)
    both = torch.cat([positive, negative])
    centre, scale = both.mean(0), both.std(0) + 1e-6 * both.abs().mean() + 1e-12
    x = (both - centre) / scale
    y = torch.cat([torch.ones(len(positive)), torch.zeros(len(negative))]).to(both)
    balance = torch.where(y == 1, 0.5 / len(positive), 0.5 / len(negative)).to(both)
    weights = torch.zeros(x.shape[1] + 1, dtype=x.dtype, requires_grad=True)
    solver = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-8)

    def loss() -> Tensor:
        solver.zero_grad()
        logits = x @ weights[:-1] + weights[-1]
        fit = torch.nn.functional.binary_cross_entropy_with_logits(logits, y, reduction="none")
        value = (balance * fit).sum() + _RIDGE * weights[:-1].square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(loss)  # type: ignore[no-untyped-call] # turns gradients on itself
    normal: Tensor = weights.detach()[:-1] / scale
    normal = normal / normal.norm().clamp_min(1e-30)
    return normal * (normal @ gap)


def lat(positive: Activations, negative: Float[Tensor, "m d"], paired: bool) -> Float[Tensor, " d"]:
    """First principal component of the differences of rows of the two sides that chance puts together, with a
    sign by chance (linear artificial tomography: Zou et al., arXiv 2310.01405, section 3.1); signed and scaled
    by the difference of the means. Of all n * m pairs with both signs instead of a draw of them: their second
    moment is ``S+ + S- + gap gap^T``, their mean is 0."""
    del paired  # what the rows of a pair share counts as spread
    gap = mean_difference(positive, negative, False)
    within = [(side - side.mean(0)) / len(side) ** 0.5 for side in (positive, negative)]
    axis: Tensor = torch.linalg.svd(torch.cat([*within, gap[None]]), full_matrices=False).Vh[0]
    return axis * (axis @ gap)


def whitened(positive: Activations, negative: Float[Tensor, "m d"], paired: bool) -> Float[Tensor, " d"]:
    """Along ``((1 - r) S + r m I)^-1 gap``, as long as the gap along it: Fisher's linear discriminant. S is the
    covariance within the sides, m its mean eigenvalue, r the shrinkage of Ledoit & Wolf (J. Multivariate
    Analysis 88, 2004, section 3.3). No ``[d, d]`` matrix is made, so n << d is cheap."""
    del paired
    gap = mean_difference(positive, negative, False)
    within = torch.cat([positive - positive.mean(0), negative - negative.mean(0)])
    n, d = within.shape
    spread = torch.linalg.svd(within / n**0.5, full_matrices=False)
    eigenvalues: Tensor = spread.S.square()
    mean = eigenvalues.sum() / d
    if not float(mean):
        return gap  # no row differs from its side's mean
    shrinkage = _shrinkage(within, eigenvalues)
    floor = (shrinkage * mean).clamp_min(1e-9 * mean)  # what directions without any variance count as
    inside = spread.Vh @ gap
    direction: Tensor = spread.Vh.T @ (inside / ((1 - shrinkage) * eigenvalues + floor) - inside / floor) + gap / floor
    direction = direction / direction.norm().clamp_min(1e-30)
    return direction * (direction @ gap)


def _shrinkage(rows: Activations, eigenvalues: Float[Tensor, " k"]) -> Float[Tensor, ""]:
    """``b^2 / d^2``: the squared error of the covariance of centred rows over its squared distance from the
    nearest multiple of I."""
    n, d = rows.shape
    size = eigenvalues.square().sum()
    distance = size / d - (eigenvalues.sum() / d).square()
    error = (rows.square().sum(1).square().mean() - size) / (n * d)
    return (error / distance.clamp_min(1e-30)).clamp(0, 1)


ESTIMATORS: Registry[Estimator] = Registry(
    "estimator", {"mean_difference": mean_difference, "pca": pca, "probe": probe, "lat": lat, "whitened": whitened}
)

OF_MEANS = frozenset({"mean_difference"})  # what these give depends on the mean of each side only


class SameSidesError(FitError):
    """Nothing tells the sides apart at one hook point; another one may do."""


def estimate(estimator: str | Estimator, positive: Tensor, negative: Tensor, paired: bool) -> Float[Tensor, " d"]:
    """Run an estimator, by name or itself, with the checks that hold for all: finite input, two different sides."""
    for side, values in (("positive", positive), ("negative", negative)):
        if len(values) == 0:
            raise FitError(f"the {side} side is empty")
        if not bool(torch.isfinite(values).all()):
            raise FitError(f"the {side} side has activations that are not finite; {IN_FLOAT32}")
    run = ESTIMATORS[estimator] if isinstance(estimator, str) else estimator
    direction = run(positive.double(), negative.double(), paired).float()
    scale = float(positive.double().norm(dim=-1).mean())
    if not float(direction.norm()) > 1e-6 * scale:
        raise SameSidesError(
            "both sides have the same activations: nothing tells them apart; check that the labels differ"
        )
    return direction
