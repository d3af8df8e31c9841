"""Count which experts a mixture-of-experts model chooses, over all tokens and over marked ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import Progress, Row, silent
from tillerman.models.batches import Batch, batches, token_budget
from tillerman.models.edit import Edit, edit_forward
from tillerman.models.memory import fitting
from tillerman.models.opened import OpenModel


@dataclass(frozen=True, eq=False)
class RoutingCounts:
    """Of ``tokens`` tokens: how many have each of w marks, how many chose each expert of each of l layers, and
    how many did both. ``norms``: the mean norm of the chosen experts' weights, per layer."""

    tokens: int
    marked: Float[Tensor, " w"]
    chosen: Float[Tensor, "l e"]
    both: Float[Tensor, "w l e"]
    norms: Float[Tensor, " l"]


@torch.no_grad()
def count_routing(
    opened: OpenModel,
    rows: Sequence[Row],
    marks: Sequence[Bool[Tensor, "w _"]],
    points: Sequence[HookPoint],
    *,
    progress: Progress = silent,
) -> RoutingCounts:
    """One pass over ``rows``, unsteered; ``marks[i]`` says which tokens of row i have which mark. ``points`` are
    the ``router_weights`` of the layers to look at."""
    seen: dict[HookPoint, Tensor] = {}

    def keep(point: HookPoint) -> Edit:
        def edit(weights: Float[Tensor, "b s e"]) -> Float[Tensor, "b s e"]:
            seen[point] = weights
            return weights

        return edit

    experts = opened.parts.width_at(points[0])
    total, marked = 0, torch.zeros(len(marks[0]), dtype=torch.float64)
    chosen = torch.zeros(len(points), experts, dtype=torch.float64)
    both = torch.zeros(len(marked), len(points), experts, dtype=torch.float64)
    norms = torch.zeros(len(points), dtype=torch.float64)
    edits = {point: keep(point) for point in points}

    def run(batch: Batch) -> None:
        with edit_forward(opened.parts, edits, lambda _: None):
            opened.parts.decoder(
                input_ids=batch.tokens.to(opened.device), attention_mask=batch.mask.to(opened.device), use_cache=False
            )

    work = batches([row.tokens for row in rows], pad=opened.pad_id, budget=token_budget(opened.parts))
    for batch, _ in fitting(opened.parts, work, run, Batch.halves):
        real = batch.mask.bool()
        mark = torch.cat([marks[i] for i in batch.rows.tolist()], dim=1).double()  # real tokens, row after row
        total += int(real.sum())
        marked += mark.sum(1)
        for at, point in enumerate(points):
            weights = seen[point].float().cpu()[real]
            hit = (weights != 0).double()
            chosen[at] += hit.sum(0)
            both[:, at] += mark @ hit
            norms[at] += weights.double().norm(dim=-1).sum()
        progress(len(batch.rows))
    return RoutingCounts(total, marked, chosen, both, norms / total)


def npmi(counts: RoutingCounts) -> Float[Tensor, "w l e"]:
    """Normalised pointwise mutual information of each mark with each expert, in [-1, 1] (RICE, arXiv 2505.14681,
    section 3): ``[log2(k/M) + log2(T/K)] / log2(T/k)``; -1 where they never meet, 1 where every token is both."""
    k, t = counts.both, float(counts.tokens)
    m, chosen = counts.marked[:, None, None], counts.chosen[None]
    value = (torch.log2(k / m) + torch.log2(t / chosen)) / torch.log2(t / k)
    value = torch.where(k == t, 1.0, value)
    return torch.where(k > 0, value, -1.0)
