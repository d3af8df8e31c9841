"""Activations token by token, for what looks at single tokens: sparse autoencoders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import Row
from tillerman.models.batches import Batch, batches, token_budget
from tillerman.models.branches import DeepEnoughError
from tillerman.models.edit import edit_forward
from tillerman.models.memory import fitting
from tillerman.models.opened import OpenModel


@torch.no_grad()
def token_activations(
    opened: OpenModel, rows: Sequence[Row], point: HookPoint, *, first: int = 1
) -> Iterator[tuple[Int[Tensor, " t"], Float[Tensor, "t d"]]]:
    """Batch by batch, the activations of each row's tokens from ``read_from`` on, float32, with the row that
    each token belongs to.

    The ``first`` tokens of a row are left out wherever it is read from: the first token (BOS) gathers
    attention and its activation is tens of times longer than any other.
    """
    opened.parts.check(point)
    work = batches([row.tokens for row in rows], pad=opened.pad_id, side="right", budget=token_budget(opened.parts))
    for batch, h in fitting(opened.parts, work, partial(_one_pass, opened, point), Batch.halves):
        wanted = torch.zeros(batch.tokens.shape, dtype=torch.bool)
        for at, i in enumerate(batch.rows.tolist()):
            wanted[at, max(first, rows[i].read_from) : len(rows[i].tokens)] = True
        yield batch.rows[wanted.nonzero()[:, 0]], h[wanted.to(h.device)].float()


def _one_pass(opened: OpenModel, point: HookPoint, batch: Batch) -> Float[Tensor, "b s d"]:
    got: list[Tensor] = []

    def read(h: Tensor) -> Tensor:
        got.append(h)
        raise DeepEnoughError

    device = opened.device
    with edit_forward(opened.parts, {point: read}, lambda _: None), suppress(DeepEnoughError):
        opened.model(input_ids=batch.tokens.to(device), attention_mask=batch.mask.to(device), use_cache=False)
    return got[0]
