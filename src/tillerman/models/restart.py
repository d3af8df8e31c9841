"""Start a forward pass at the first block that an edit can change.

Below an edited block nothing differs from the unsteered pass, so a search over many strengths at one
hook point runs those blocks once, keeps what enters the next one, and starts there. The numbers are
the same bits: the same kernels run on the same tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.hookpoint import HookPoint
from tillerman.models.batches import Batch
from tillerman.models.edit import edit_forward
from tillerman.models.families import Anatomy

MEMORY = 512 * 2**20  # bytes of kept activations; beyond it every pass starts at the embedding


@dataclass(frozen=True, eq=False)
class Restart:
    """What enters block ``border`` in the unsteered pass, for every batch of one fixed list."""

    border: int
    hidden: tuple[Float[Tensor, "_ _ d"], ...]  # batches differ in size


def border_of(point: HookPoint) -> int:
    """The first block that has to run when this hook point is edited."""
    return point.layer + 1 if point.site == "resid_post" else point.layer


def fits(parts: Anatomy, batches: Sequence[Batch], borders: int) -> bool:
    """Whether so many borders of these batches stay within the memory allowed."""
    tokens = sum(batch.tokens.numel() for batch in batches)
    return tokens * parts.width * borders * parts.causal.dtype.itemsize <= MEMORY


@torch.inference_mode()
def restarts(
    parts: Anatomy, batches: Sequence[Batch], borders: Sequence[int], run: Callable[[Batch], object]
) -> dict[int, Restart]:
    """Run every batch once, unsteered, and keep what enters each border. ``run`` must be the pass that
    is restarted later, so that masks and positions are the same."""
    kept: dict[int, list[Tensor]] = {border: [] for border in borders}

    def keeper(border: int) -> Callable[[Tensor], Tensor]:
        def keep(h: Tensor) -> Tensor:
            kept[border].append(h)
            return h

        return keep

    edits = {_entry(parts, border): keeper(border) for border in kept}
    with edit_forward(parts, edits, lambda _: None):
        for batch in batches:
            run(batch)
    return {border: Restart(border, tuple(hidden)) for border, hidden in kept.items()}


@contextmanager
def starting(parts: Anatomy, restart: Restart | None, batch: int) -> Iterator[None]:
    """Inside the block, passes of batch number ``batch`` leave out the blocks below the border.

    These blocks' ``forward`` is replaced on the instance and put back; their hooks still run, so an edit
    of the last one left out still acts on what it hands on.
    """
    skipped = () if restart is None else parts.blocks[: restart.border]
    before = [block.__dict__.get("forward") for block in skipped]
    try:
        for i, block in enumerate(skipped):
            assert restart is not None
            last = i == restart.border - 1
            block.__dict__["forward"] = _hand_on(restart.hidden[batch] if last else None)
        yield
    finally:
        for block, old in zip(skipped, before, strict=True):
            if old is None:
                block.__dict__.pop("forward", None)
            else:
                block.__dict__["forward"] = old


def _entry(parts: Anatomy, border: int) -> HookPoint:
    if border == len(parts.blocks):
        return HookPoint(border - 1, "resid_post")
    return HookPoint(border, "resid_pre")


def _hand_on(kept: Tensor | None) -> Callable[..., Tensor]:
    def forward(*args: Any, **kwargs: Any) -> Tensor:
        given: Tensor = args[0] if args else kwargs["hidden_states"]
        return given if kept is None else kept

    return forward
