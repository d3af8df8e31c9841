"""Directions that writing maps do not write at all: told without a base.

Of a map with many more inputs than outputs every direction has its share; one without is seen at once. A square matrix
by chance has one with next to none, so that it counts only beside others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.exchange.audit.maps import WritingMap

FLOOR = 0.01  # of what a random direction has: nine tenths of it were removed, or all
_GAP = 0.1  # of the next smallest
_LOOKED = 16  # directions that may have been removed together
_WIDE = 1.25
_NULLS = 1000


@dataclass(frozen=True, eq=False)
class AbsentDirection:
    """``names`` are the maps without it, of ``maps`` in all. ``share`` is what it has there in units of a random
    direction's (1); ``least`` is the least of 1,000 random directions.

    ``uniform``: it is close to the direction of equal numbers, which a LayerNorm takes away: maps are often centred so.
    """

    direction: Float[Tensor, " d"]
    names: tuple[str, ...]
    maps: int
    share: float
    least: float
    uniform: bool


def absent_from(maps: Sequence[WritingMap], seed: int = 0) -> tuple[AbsentDirection, ...]:
    """Directions with less than ``FLOOR`` in some maps where the next has ten times more."""
    if not maps:
        return ()
    width = maps[0].matrices.shape[1]
    joint = torch.zeros(width, width)
    candidates: list[Tensor] = []
    for one in maps:
        energy = _energy(one)
        joint += energy / len(maps)
        if one.inputs >= _WIDE * width:
            candidates += _missing(energy)
    if sum(one.inputs for one in maps) >= _WIDE * width:
        candidates = [*_missing(joint), *candidates]
    random = torch.randn(_NULLS, width, generator=torch.Generator().manual_seed(seed))
    random = random / random.norm(dim=1, keepdim=True)
    found = []
    for u in _distinct(candidates):
        without = [one for one in maps if float(_shares(one, u[None])[0]) < FLOOR]
        if without:
            own = torch.stack([_shares(one, u[None]) for one in without]).mean(0)
            nulls = torch.stack([_shares(one, random) for one in without]).mean(0)
            uniform = abs(float(u.sum())) / width**0.5 > 0.9
            names = tuple(one.name for one in without)
            found.append(AbsentDirection(u, names, len(maps), float(own[0]), float(nulls.min()), uniform))
    return tuple(found)


def _energy(one: WritingMap) -> Float[Tensor, "d d"]:
    """``W W^T`` over all experts, in units in which a random direction has 1."""
    found = torch.zeros(one.matrices.shape[1], one.matrices.shape[1], device=one.matrices.device)
    for matrix in one.matrices:
        w = matrix.float()
        found += w @ w.T
    return (found * (len(found) / found.trace().clamp_min(1e-30))).cpu()


def _shares(one: WritingMap, directions: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    total, square = torch.zeros(len(directions)), 0.0
    for matrix in one.matrices:
        w = matrix.float().cpu()
        total += (directions @ w).square().sum(1)
        square += float(w.square().sum())
    return total * (directions.shape[1] / max(square, 1e-30))


def _missing(energy: Float[Tensor, "d d"]) -> list[Tensor]:
    """The directions before the last gap among the smallest eigenvalues."""
    values, vectors = torch.linalg.eigh(energy)
    values = values[: _LOOKED + 1].clamp_min(0).tolist()
    before = [k for k in range(len(values) - 1) if values[k] < FLOOR and values[k] < _GAP * values[k + 1]]
    return [vectors[:, k] for k in range(before[-1] + 1)] if before else []


def _distinct(candidates: Sequence[Tensor]) -> list[Tensor]:
    """Those that lie outside what the ones before span."""
    kept: list[Tensor] = []
    for one in candidates:
        rest = one - sum(((one @ other) * other for other in kept), torch.zeros_like(one))
        if float(rest.norm()) > 0.7:
            kept.append(rest / rest.norm())
    return kept
