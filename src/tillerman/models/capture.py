"""Read activations: only the hook points asked for, and no block above the deepest of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.errors import UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import Progress, Row, silent
from tillerman.models.batches import BATCH_TOKENS, Batch, batches
from tillerman.models.edit import edit_forward
from tillerman.models.opened import OpenModel

READS = ("last", "mean")


class _DeepEnoughError(Exception):
    """Ends a forward pass once the deepest hook point was read."""


@torch.no_grad()  # not inference mode: what is given back must be ordinary tensors
def capture(
    opened: OpenModel,
    rows: Sequence[Row],
    points: Sequence[HookPoint],
    *,
    read: str = "last",
    budget: int = BATCH_TOKENS,
    progress: Progress = silent,
) -> dict[HookPoint, Float[Tensor, "n _"]]:
    """The activation of every row at every hook point, float32 on the CPU.

    ``read`` is ``last`` (the row's last token) or ``mean`` (over its tokens from ``read_from`` on).
    """
    if read not in READS:
        raise UsageError(f"read {read!r}: choose among {', '.join(READS)}")
    points = sorted(set(points))
    for point in points:
        opened.parts.check(point)
    out = {point: torch.empty(len(rows), opened.parts.width_at(point)) for point in points}
    # Right padding: a causal model's real tokens then never see it, so no family can go wrong.
    for batch in batches([row.tokens for row in rows], pad=opened.pad_id, side="right", budget=budget):
        weights = _weights(batch, rows, read).to(opened.device)
        for point, values in _read(opened, batch, points, weights).items():
            out[point][batch.rows] = values.float().cpu()
        progress(len(batch.rows))
    return out


def _weights(batch: Batch, rows: Sequence[Row], read: str) -> Float[Tensor, "b s"]:
    weights = torch.zeros(batch.tokens.shape)
    for at, i in enumerate(batch.rows.tolist()):
        length = len(rows[i].tokens)
        start = length - 1 if read == "last" else rows[i].read_from
        weights[at, start:length] = 1.0 / (length - start)
    return weights


def _read(
    opened: OpenModel, batch: Batch, points: Sequence[HookPoint], weights: Float[Tensor, "b s"]
) -> dict[HookPoint, Float[Tensor, "b _"]]:
    got: dict[HookPoint, Tensor] = {}

    def reader(point: HookPoint) -> Callable[[Tensor], Tensor]:
        def read(h: Tensor) -> Tensor:
            got[point] = torch.einsum("bs,bsd->bd", weights, h.float())
            if len(got) == len(points):
                raise _DeepEnoughError
            return h

        return read

    device = opened.device
    edits = {point: reader(point) for point in points}
    with edit_forward(opened.parts, edits, lambda _: None), suppress(_DeepEnoughError):
        opened.model(input_ids=batch.tokens.to(device), attention_mask=batch.mask.to(device), use_cache=False)
    return got
