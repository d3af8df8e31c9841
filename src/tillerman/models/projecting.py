"""What every token of a row's answer projects on given directions: nothing is kept of the stream itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import Progress, Row, silent
from tillerman.models.batches import Batch, batches, token_budget
from tillerman.models.branches import DeepEnoughError
from tillerman.models.edit import Edit, edit_forward
from tillerman.models.memory import fitting
from tillerman.models.opened import OpenModel

Projected = dict[HookPoint, Float[Tensor, "n k"]]  # of one row


def projections(
    opened: OpenModel,
    rows: Sequence[Row],
    directions: Mapping[HookPoint, Float[Tensor, "k d"]],
    *,
    progress: Progress = silent,
) -> Iterator[tuple[int, Projected]]:
    """Of each row, with its place in the caller's list: ``h . v`` of its tokens from ``read_from`` on, at every hook
    point with each of its k directions (give them unit length), float32 on the CPU. In no order."""
    for point in directions:
        opened.parts.check(point)
    # Right padding: a causal model's real tokens never see it.
    work = batches([row.tokens for row in rows], pad=opened.pad_id, side="right", budget=token_budget(opened.parts))
    for batch, found in fitting(opened.parts, work, partial(_one_pass, opened, directions), Batch.halves):
        for at, place in enumerate(batch.rows.tolist()):
            start, stop = rows[place].read_from, len(rows[place].tokens)
            yield place, {point: values[at, start:stop] for point, values in found.items()}
        progress(len(batch.rows))


@torch.no_grad()
def _one_pass(
    opened: OpenModel, directions: Mapping[HookPoint, Float[Tensor, "k d"]], batch: Batch
) -> dict[HookPoint, Float[Tensor, "b s k"]]:
    found: dict[HookPoint, Tensor] = {}

    def reader(point: HookPoint) -> Edit:
        def read(h: Tensor) -> Tensor:
            found[point] = (h.float() @ directions[point].to(h.device).T).cpu()
            if len(found) == len(directions):
                raise DeepEnoughError
            return h

        return read

    edits = {point: reader(point) for point in sorted(directions)}
    device = opened.device
    with edit_forward(opened.parts, edits, lambda _: None), suppress(DeepEnoughError):
        opened.model(input_ids=batch.tokens.to(device), attention_mask=batch.mask.to(device), use_cache=False)
    return found
