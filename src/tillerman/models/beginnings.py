"""Which prompts begin alike, so that their beginning is run once: a system prompt that all share, or exemplars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from tillerman.models.batches import Batch, common_prefix, padded
from tillerman.models.branches import Stem, run_stem
from tillerman.models.families import Anatomy

# A beginning takes a pass of one row, and those that follow it passes of their own. That costs about as much as so
# many tokens in a full batch.
FIXED = 64


@dataclass(frozen=True)
class Cluster:
    """Prompts, by their places in the caller's list, whose first ``shared`` tokens are the same (0: not run apart)."""

    rows: tuple[int, ...]
    shared: int


def clusters(prompts: Sequence[Sequence[int]]) -> list[Cluster]:
    """Prompts by the beginnings that save most: as many tokens as they have, for each prompt but one.

    Every prompt is in one cluster. A prompt counts once, however often it is there; no beginning is longer than any
    of its prompts.
    """
    places: dict[tuple[int, ...], list[int]] = {}
    for i, prompt in enumerate(prompts):
        places.setdefault(tuple(prompt), []).append(i)
    order = sorted(places)
    found, alone = [], set(range(len(order)))
    for start, stop, shared in _best(order):
        found.append(Cluster(tuple(i for prompt in order[start:stop] for i in places[prompt]), shared))
        alone -= set(range(start, stop))
    rest = tuple(sorted(i for at in alone for i in places[order[at]]))
    return [*found, *([Cluster(rest, 0)] if rest else [])]


@dataclass
class _Node:
    """Neighbours from ``start`` on that share ``depth`` tokens, and the best beginnings inside."""

    depth: int
    start: int
    gain: int = 0
    found: list[tuple[int, int, int]] = field(default_factory=list)


def _best(order: Sequence[tuple[int, ...]]) -> list[tuple[int, int, int]]:
    """Of sorted prompts: start, stop and length of the beginnings that save most. The prompts' tree of common
    prefixes from its leaves up: a node is taken where it saves more than the best inside it."""
    open_nodes: list[_Node] = []
    done = _Node(0, 0)
    for stop in range(1, len(order) + 1):
        depth = common_prefix(order[stop - 1], order[stop]) if stop < len(order) else -1
        done = _Node(depth, stop - 1)
        while open_nodes and open_nodes[-1].depth > depth:
            node = open_nodes.pop()
            gain, found = node.gain + done.gain, node.found + done.found
            own = node.depth * (stop - node.start - 1) - FIXED
            if own > gain:
                gain, found = own, [(node.start, stop, node.depth)]
            done = _Node(depth, node.start, gain, found)
        if open_nodes and open_nodes[-1].depth == depth:
            open_nodes[-1].gain += done.gain
            open_nodes[-1].found += done.found
        else:
            open_nodes.append(done)
    return done.found


@dataclass(frozen=True, eq=False)
class Beginning:
    """The first tokens of some prompts, run once and unsteered; ``stem`` is what follows them."""

    tokens: tuple[int, ...]
    stem: Stem

    @property
    def batch(self) -> Batch:
        return _one(self.tokens)


def begin(parts: Anatomy, tokens: Sequence[int]) -> Beginning | None:
    """None for no tokens."""
    return Beginning(tuple(tokens), run_stem(parts, _one(tokens), 0)) if len(tokens) else None


def rests(batch: Batch, shared: int) -> Batch:
    """A left-padded batch without the first ``shared`` tokens of every prompt."""
    return Batch(batch.rows, batch.tokens[:, shared:], ordinal(batch)[:, shared:].gt(shared).long())


def ordinal(batch: Batch) -> Int[Tensor, "b s"]:
    """Which of its prompt's tokens each is, from 1 on; 0 for padding."""
    return batch.mask.cumsum(1) * batch.mask


def _one(tokens: Sequence[int]) -> Batch:
    batch = padded([tokens], pad=0)
    return Batch(torch.zeros(1, dtype=torch.long), batch.tokens, batch.mask)
