"""Fit which of several hook points a prompt chooses, from what each of them does to each training row."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tillerman.core.errors import IN_FLOAT32, FitError

RIDGES = (math.inf, 100.0, 10.0, 1.0, 0.1, 0.01)  # in units of the readings' mean energy; at inf all choose alike
_FLOOR = 1e-3  # of the mean spread, added to every coordinate's


@dataclass(frozen=True, eq=False)
class Chooser:
    """Keys and offsets of a choice, and what the choice is worth on rows left out of its fit: ``chosen`` at the place
    that it takes, ``fixed`` at the place that is best for all other rows, ``ideal`` at each row's own best."""

    keys: Float[Tensor, "k d"]
    offsets: Float[Tensor, " k"]
    ridge: float
    chosen: Float[Tensor, " n"]
    fixed: Float[Tensor, " n"]
    ideal: Float[Tensor, " n"]


def fit_chooser(rows: Float[Tensor, "n d"], worth: Float[Tensor, "n k"], *, labels: bool = False) -> Chooser:
    """Ridge regression of the worth of each place, above the mean of the row's places, on standardised rows (with
    ``labels`` of 1 at the row's best place and 0 elsewhere). The ridge is the one whose choices, each of a fit without
    the row, are worth most; the largest of those that are equal. ``inf`` takes one place for all.

    Where nothing can be read off the rows, it so comes to the best place for all.
    """
    if not bool(torch.isfinite(rows).all() and torch.isfinite(worth).all()):
        raise FitError(f"activations or scores that are not finite; {IN_FLOAT32}")
    wide, value = rows.double(), worth.double()
    n = len(wide)
    if n < 2:
        raise FitError("a choice of layers is tested on rows left out of its fit: give at least two items")
    target = value - value.mean(1, keepdim=True)
    if labels:
        target = torch.nn.functional.one_hot(value.argmax(1), value.shape[1]).double()
    centre = wide.mean(0)
    scale = (wide.std(0, correction=0) + _FLOOR * wide.std(0, correction=0).mean()).clamp_min(1e-12)
    x = (wide - centre) / scale / math.sqrt(wide.shape[1])
    energy, axes = torch.linalg.eigh(x @ x.T)
    energy = energy.clamp_min(0)
    fixed = _at(value, _others(value))
    best, ridge = _at(value, _others(target)), math.inf
    for one in RIDGES[1:]:
        tried = _at(value, _left_out(energy, axes, one * float(energy.mean()), target))
        if float(tried.mean()) > float(best.mean()) + 1e-12:
            best, ridge = tried, one
    mean = target.mean(0)
    keys = torch.zeros(len(mean), wide.shape[1], dtype=torch.float64)
    if ridge < math.inf:
        shrunk = axes / (energy + ridge * float(energy.mean()))
        keys = (shrunk @ axes.T @ (target - mean)).T @ x / scale / math.sqrt(wide.shape[1])
    return Chooser(keys, mean - keys @ centre, ridge, best, fixed, value.amax(1))


def _left_out(
    energy: Float[Tensor, " n"], axes: Float[Tensor, "n n"], ridge: float, target: Float[Tensor, "n k"]
) -> Float[Tensor, "n k"]:
    """What fits without each row foretell of it, in closed form: ``y - (y - H y) / (1 - H_ii)``."""
    n = len(target)
    hat = (axes * (energy / (energy + ridge))) @ axes.T + 1 / n
    return target - (target - hat @ target) / (1 - hat.diagonal())[:, None].clamp_min(1e-9)


def _others(target: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """Of each row the mean of all others."""
    return (target.sum(0) - target) / (len(target) - 1)


def _at(value: Float[Tensor, "n k"], foretold: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    places: Int[Tensor, " n"] = foretold.argmax(1)
    return value.gather(1, places[:, None]).squeeze(1)
