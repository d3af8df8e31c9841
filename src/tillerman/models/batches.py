"""Token rows in batches: sorted by length, filled up to a number of tokens and of rows, padded on one side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from tillerman.models.families import Anatomy
from tillerman.models.memory import free_bytes, within

CPU_TOKENS = 1024  # what stays in a core's caches: batches of 4,096 tokens ran a fifth slower
LEAST_TOKENS, MOST_TOKENS = 1024, 65536
ENOUGH_TOKENS = 4096  # a batch of so many keeps an accelerator busy: more are not bought with padding,
MOST_PADDING = 0.25  # of which this share is then too much


def token_budget(parts: Anatomy) -> int:
    """Tokens per pass: on an accelerator what a quarter of the free memory holds, elsewhere a fixed number.

    A token of a stem keeps keys and values of every block, and passes through a few activations. What is written of
    logits has a room of its own (``models.memory``).
    """
    free = free_bytes(parts)
    if free is None:
        return within(parts, CPU_TOKENS)
    per_token = parts.causal.dtype.itemsize * parts.width * (2 * len(parts.blocks) + 32)
    return within(parts, int(min(MOST_TOKENS, max(LEAST_TOKENS, free // 4 // per_token))))


@dataclass(frozen=True)
class Batch:
    """``rows[i]`` is the place in the caller's list of batch row i."""

    rows: Int[Tensor, " b"]
    tokens: Int[Tensor, "b s"]
    mask: Int[Tensor, "b s"]

    @property
    def positions(self) -> Int[Tensor, "b s"]:
        return (self.mask.cumsum(1) - 1).clamp(min=0)

    def halves(self) -> tuple[Batch, ...]:
        """The first and the other rows; of one row itself."""
        middle = len(self.rows) // 2
        places = (slice(0, middle), slice(middle, None)) if middle else (slice(None),)
        return tuple(Batch(self.rows[at], self.tokens[at], self.mask[at]) for at in places)


def batches(
    rows: Sequence[Sequence[int]], *, pad: int, side: str = "left", budget: int = CPU_TOKENS, most: int | None = None
) -> Iterator[Batch]:
    """Batches of at most ``budget`` tokens, padding counted (a longer row goes alone), and ``most`` rows."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for start, stop in spans([len(rows[i]) for i in order], budget, most):
        yield _padded(rows, order[start:stop], pad, side)


def spans(lengths: Sequence[int], budget: int, most: int | None = None) -> Iterator[tuple[int, int]]:
    """Where to cut rows of growing length, so that a piece has at most ``budget`` tokens and ``most`` rows, and little
    padding where the budget is large."""
    start = 0
    while start < len(lengths):
        stop, real = start + 1, lengths[start]
        while stop < len(lengths) and stop - start != most:
            size, more = (stop + 1 - start) * lengths[stop], real + lengths[stop]
            if size > budget or (real >= ENOUGH_TOKENS and size - more > MOST_PADDING * size):
                break
            stop, real = stop + 1, more
        yield start, stop
        start = stop


def padded(rows: Sequence[Sequence[int]], *, pad: int, side: str = "left") -> Batch:
    """All rows as one batch, in the order they have."""
    return _padded(rows, range(len(rows)), pad, side)


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many first tokens two rows share."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _padded(rows: Sequence[Sequence[int]], chosen: Sequence[int], pad: int, side: str) -> Batch:
    longest = max(len(rows[i]) for i in chosen)
    tokens = torch.full((len(chosen), longest), pad)
    mask = torch.zeros(len(chosen), longest, dtype=torch.long)
    for at, i in enumerate(chosen):
        place = slice(longest - len(rows[i]), longest) if side == "left" else slice(0, len(rows[i]))
        tokens[at, place] = torch.tensor(rows[i])
        mask[at, place] = 1
    return Batch(torch.tensor(chosen), tokens, mask)
