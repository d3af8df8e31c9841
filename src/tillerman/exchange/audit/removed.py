"""Directions that were taken out of weights, ``W' = W - s u (u . W)``: told by the base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.exchange.audit.maps import oriented
from tillerman.models.families import Anatomy

_RANK_ONE = 0.5  # of the squared change in one direction; of a change without one it is some 4 / n
_SAME = 0.7  # a cosine that two directions of different origin do not reach
_ROUNDS = 30


@dataclass(frozen=True, eq=False)
class RankOne:
    """A change ``W' - W`` of which ``share`` (of its square) lies in one direction of what the map writes, or reads.

    ``amount``: ``s`` where the change is a projection, 1 for a direction that is gone; None where it is another."""

    name: str
    share: float
    direction: Float[Tensor, " d"]
    reads: bool
    amount: float | None


@dataclass(frozen=True, eq=False)
class RemovedDirection:
    """One direction, and the weights that it was removed from."""

    direction: Float[Tensor, " d"]
    changes: tuple[RankOne, ...]

    @property
    def amounts(self) -> tuple[float, float]:
        """The least and the most that was removed anywhere."""
        found = [change.amount or 0.0 for change in self.changes]
        return min(found), max(found)


@dataclass(frozen=True)
class OtherChange:
    """A weight that differs in another way: ``size`` is the length of the change in units of the base's weight."""

    name: str
    size: float
    shape: bool = False  # another shape: not compared


def differences(
    parts: Anatomy, base: Mapping[str, Tensor], known: frozenset[str]
) -> tuple[tuple[RankOne, ...], tuple[OtherChange, ...]]:
    """Every weight that differs from the base's of the same name, but those that are ``known``.

    The first are changes in one direction, the others any other change."""
    ones: list[RankOne] = []
    others: list[OtherChange] = []
    for name, weight in _once(parts):
        if name in known:
            continue
        before = base.get(name)
        if before is None or before.shape != weight.shape:
            others.append(OtherChange(name, float("nan"), shape=True))
        elif not torch.equal(weight.cpu(), before.to(weight.dtype).cpu()):
            here = list(_in_one_direction(parts, name, before, weight))
            ones += here
            if not here:
                change = (weight.float().cpu() - before.float().cpu()).norm()
                others.append(OtherChange(name, float(change / before.float().norm().cpu().clamp_min(1e-12))))
    return tuple(ones), tuple(others)


def _once(parts: Anatomy) -> Iterator[tuple[str, Tensor]]:
    """Weights that are tied come once."""
    yield from ((name, p.detach()) for name, p in parts.causal.named_parameters() if p.is_floating_point())


def _in_one_direction(parts: Anatomy, name: str, before: Tensor, after: Tensor) -> Iterator[RankOne]:
    if before.ndim not in (2, 3):
        return
    old, new = (oriented(parts, name, one.float().cpu()) for one in (before, after))
    if old.ndim == 2:
        found = _rank_one(name, old, new, parts.width)
        if found is not None:
            yield found
        return
    for expert, (w, changed) in enumerate(zip(old, new, strict=True)):
        if not torch.equal(w, changed):
            found = _rank_one(f"{name}[{expert}]", w, changed, parts.width)
            if found is not None:
                yield found


def _rank_one(name: str, old: Float[Tensor, "o i"], new: Float[Tensor, "o i"], width: int) -> RankOne | None:
    change = new - old
    left, right, share = _first_singular(change)
    if share < _RANK_ONE:
        return None
    for u, other, w, reads in ((left, right, old, False), (right, left, old.T, True)):
        along = w.T @ u  # what the map has along u
        length = along.norm()
        if len(u) == width and length > 0 and abs(float(along @ other)) >= _SAME * float(length):
            amount = -float((u @ (change.T if reads else change)) @ along) / float(length) ** 2
            return RankOne(name, share, u, reads, amount)
    return RankOne(name, share, left, False, None) if len(left) == width else RankOne(name, share, right, True, None)


def _first_singular(change: Float[Tensor, "o i"]) -> tuple[Tensor, Tensor, float]:
    """Both first singular vectors, and the share of the squared change that they make, by power iteration."""
    right = change[int(change.norm(dim=1).argmax())]
    right = right / right.norm()
    for _ in range(_ROUNDS):
        left = change @ right
        left = left / left.norm()
        right = change.T @ left
        right = right / right.norm()
    return left, right, float((change @ right).square().sum() / change.square().sum())


def shared(changes: Sequence[RankOne]) -> tuple[RemovedDirection, ...]:
    """Projections by their direction, those that were removed from most weights first."""
    groups: list[list[RankOne]] = []
    for change in changes:
        if change.amount is None:
            continue
        near = next((g for g in groups if abs(float(g[0].direction @ change.direction)) >= _SAME), None)
        if near is None:
            groups.append([change])
        else:
            near.append(change)
    found = [RemovedDirection(_mean(group), tuple(group)) for group in groups]
    return tuple(sorted(found, key=lambda one: -len(one.changes)))


def _mean(group: Sequence[RankOne]) -> Float[Tensor, " d"]:
    first = group[0].direction
    total = torch.stack([one.direction * torch.sign(one.direction @ first) for one in group]).sum(0)
    return torch.nn.functional.normalize(total, dim=0)
