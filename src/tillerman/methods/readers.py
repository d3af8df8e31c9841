"""Fit what a ``GatedSteering`` reads off a token: keys and offsets, from rows of activations.

Rows are few and activations wide, so readers are fitted on the rows' leading principal axes and written back as keys
of the stream's own width.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tillerman.core.errors import IN_FLOAT32, FitError

MOST_AXES = 64
HELD_OUT = 5  # one item in so many
STEPS = 12  # of Newton's method, each halved until the loss falls
_HALVINGS = 8
_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Axes:
    """Leading principal axes of rows: ``x = (h - centre) V^T / unit``, the first of variance 1."""

    centre: Float[Tensor, " d"]
    axes: Float[Tensor, "k d"]
    unit: float

    def of(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        return (rows.double() - self.centre) @ self.axes.T / self.unit

    def keys(
        self, weights: Float[Tensor, "r k"], offsets: Float[Tensor, " r"]
    ) -> tuple[Float[Tensor, "r d"], Float[Tensor, " r"]]:
        """Keys and offsets of the stream that read the same as these weights of the axes."""
        keys = weights @ self.axes / self.unit
        return keys, offsets - keys @ self.centre


def axes(rows: Float[Tensor, "n d"], *, most: int = MOST_AXES, share: float = 1.0) -> Axes:
    """At most ``most`` axes, as many as hold a ``share`` of the variance; ``FitError`` where rows do not differ."""
    wide = rows.double()
    if not bool(torch.isfinite(wide).all()):
        raise FitError(f"activations that are not finite; {IN_FLOAT32}")
    centre = wide.mean(0)
    around = wide - centre
    # of the smaller of the two Gram matrices
    tall = len(around) > around.shape[1]
    sizes, vectors = torch.linalg.eigh(around.T @ around if tall else around @ around.T)
    sizes, vectors = sizes.flip(0).clamp_min(0), vectors.flip(1)
    if not float(sizes[0]) > _TINY * float(wide.square().sum()):
        raise FitError("the rows have the same activations: there is nothing that a gate could read")
    held = sizes.cumsum(0) / sizes.sum()
    count = min(most, int((held < share - _TINY).sum()) + 1, int((sizes > 1e-9 * sizes[0]).sum()))
    found = vectors[:, :count].T if tall else (vectors[:, :count].T @ around) / sizes[:count, None].sqrt()
    return Axes(centre, found, float((sizes[0] / len(around)).sqrt()))


def held_out(items: Int[Tensor, " n"], seed: int) -> Bool[Tensor, " n"]:
    """Rows of one item in ``HELD_OUT``, and of one at least, drawn by the seed; rows of an item stay together."""
    every = sorted(set(items.tolist()))
    out = random.Random(seed).sample(every, max(1, len(every) // HELD_OUT))
    return torch.isin(items, torch.tensor(out))


def spread(count: int, most: int) -> list[int]:
    """``0 ... count - 1``, or so many of them, evenly."""
    if count <= most:
        return list(range(count))
    return sorted({round(k * (count - 1) / (most - 1)) for k in range(most)})


def relu_fit(
    x: Float[Tensor, "n k"], target: Float[Tensor, " n"], ridge: float, start: Float[Tensor, " k+1"] | None = None
) -> Float[Tensor, " k+1"]:
    """Weights and offset (last) that make ``mean (max(w . x + b, 0) - target)^2 + ridge |w|^2`` small: the linear fit,
    then Gauss-Newton steps over the rows that are above 0, none of which makes it larger."""
    wide = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
    every = torch.ones(len(x), dtype=torch.bool)

    def loss(weights: Tensor) -> float:
        miss = (wide @ weights).relu() - target
        return float(miss.square().mean() + ridge * weights[:-1].square().sum())

    best = _least_squares(wide, target, ridge, every) if start is None else start
    value = loss(best)
    for _ in range(STEPS):
        step = _least_squares(wide, target, ridge, wide @ best > 0) - best
        for _ in range(_HALVINGS):
            tried = best + step
            if (now := loss(tried)) < value:
                break
            step = step / 2
        else:
            return best
        done = now > (1 - 1e-6) * value
        best, value = tried, now
        if done:
            break
    return best


def _least_squares(
    wide: Float[Tensor, "n k"], target: Float[Tensor, " n"], ridge: float, rows: Bool[Tensor, " n"]
) -> Float[Tensor, " k"]:
    some, n = wide[rows], len(wide)
    penalty = torch.full((wide.shape[1],), ridge, dtype=wide.dtype)
    penalty[-1] = _TINY  # the offset is free
    solved: Tensor = torch.linalg.solve(some.T @ some / n + penalty.diag(), some.T @ target[rows] / n)
    return solved


def logistic_fit(positive: Float[Tensor, "n k"], negative: Float[Tensor, "m k"], ridge: float) -> Float[Tensor, " k+1"]:
    """Weights and offset (last) of a logistic regression that says 1 of the positive rows, both sides of equal weight,
    with ``ridge |w|^2``, by Newton's method."""
    x = torch.cat([positive, negative])
    x = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
    y = torch.cat([x.new_ones(len(positive)), x.new_zeros(len(negative))])
    balance = torch.where(y == 1, 0.5 / len(positive), 0.5 / len(negative)).to(x)
    penalty = torch.full((x.shape[1],), 2 * ridge, dtype=x.dtype)
    penalty[-1] = _TINY  # the offset is free
    weights = x.new_zeros(x.shape[1])
    for _ in range(STEPS):
        p = (x @ weights).sigmoid()
        slope = x.T @ (balance * (p - y)) + penalty * weights
        curvature = (x.T * (balance * p * (1 - p))) @ x + penalty.diag()
        weights = weights - torch.linalg.solve(curvature, slope)
    return weights
