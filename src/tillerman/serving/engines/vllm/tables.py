"""The tables that a worker's blocks are steered from, and the operators that steer: each token has a row of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.serving.changes import NUMBERS, Change, written


@torch.library.custom_op("tillerman::add_rows", mutates_args=("hits",))
def add_rows(h: Tensor, table: Tensor, rows: Tensor, hits: Tensor) -> Tensor:
    """``h + table[rows]`` for the first tokens of a step, and one more pass counted. In a captured graph both are there
    or neither: the count is the witness."""
    hits.add_(1)
    return h + table.index_select(0, rows[: h.shape[0]])


@add_rows.register_fake
def _(h: Tensor, table: Tensor, rows: Tensor, hits: Tensor) -> Tensor:
    return torch.empty_like(h)


@torch.library.custom_op("tillerman::change_rows", mutates_args=("hits",))
def change_rows(
    h: Tensor,
    stream: Tensor,
    table: Tensor,
    readers: Tensor,
    writers: Tensor,
    numbers: Tensor,
    mix: Tensor,
    rows: Tensor,
    hits: Tensor,
) -> Tensor:
    """The same with operators that read: ``h`` and what ``serving.changes`` does to the stream of which h is a part.
    Rounded once; tokens of row 0 keep their bits, whatever they hold."""
    hits.add_(1)
    at = rows[: h.shape[0]]
    made = written(stream, readers[at], writers[at], numbers[at], mix[at])
    changed = (h.float() + (table[at].float() + made)).to(h.dtype)
    return torch.where((at > 0)[:, None], changed, h)


@change_rows.register_fake
def _(
    h: Tensor,
    stream: Tensor,
    table: Tensor,
    readers: Tensor,
    writers: Tensor,
    numbers: Tensor,
    mix: Tensor,
    rows: Tensor,
    hits: Tensor,
) -> Tensor:
    return torch.empty_like(h)


class BlockTable:
    """What is done at one block, a row for each kind of token; row 0 is nothing. ``reads`` readers in every row;
    without any it is added only. Allocated at its final size, sums in the model's type, all else in float32."""

    def __init__(self, rows: int, reads: int, width: int, like: Tensor) -> None:
        def zeros(*size: int) -> Tensor:
            return like.new_zeros(rows, *size, dtype=torch.float32)

        self.reads = reads
        self.sums: Float[Tensor, "rows d"] = like.new_zeros(rows, width)
        self.readers: Float[Tensor, "rows r d"] = zeros(reads, width)
        self.writers: Float[Tensor, "rows r d"] = zeros(reads, width)
        self.numbers: Float[Tensor, "rows r 5"] = zeros(reads, NUMBERS)
        self.mix: Float[Tensor, "rows r r"] = zeros(reads, reads)

    def write(self, row: int, change: Change) -> None:
        self.sums[row].copy_(change.sum)
        if not self.reads:
            return
        self.readers[row].copy_(change.readers)
        self.writers[row].copy_(change.writers)
        self.numbers[row].copy_(change.numbers)
        self.mix[row].copy_(change.mix)

    def steering(self, rows: Tensor, hits: Tensor) -> Callable[[Tensor, Tensor | None], Tensor]:
        """A function of h and the rest of the stream, None where h is all of it, to h as it is changed. Its tensors are
        its own, so that a graph that is captured or compiled holds them."""
        told = self.sums, self.readers, self.writers, self.numbers, self.mix
        sums = self.sums

        def add(h: Tensor, rest: Tensor | None) -> Tensor:
            added: Tensor = add_rows(h, sums, rows, hits)
            return added

        def change(h: Tensor, rest: Tensor | None) -> Tensor:
            changed: Tensor = change_rows(h, h if rest is None else h + rest, *told, rows, hits)
            return changed

        return change if self.reads else add
