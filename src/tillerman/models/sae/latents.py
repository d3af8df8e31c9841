"""Rows as an autoencoder sees them: encoded token by token, then pooled over the tokens that are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.errors import FitError
from tillerman.core.rows import Progress, Row, silent
from tillerman.models.opened import OpenModel
from tillerman.models.sae.autoencoder import SAE
from tillerman.models.sae.quality import CHUNK
from tillerman.models.tokens import token_activations


@dataclass(frozen=True, eq=False)
class Latents:
    """Mean and largest activation of every atom over the tokens read of each row."""

    mean: Float[Tensor, "n f"]
    peak: Float[Tensor, "n f"]

    def __getitem__(self, rows: slice) -> Latents:
        return Latents(self.mean[rows], self.peak[rows])


@torch.no_grad()
def read_latents(
    opened: OpenModel, sae: SAE, rows: Sequence[Row], *, read: str, progress: Progress = silent
) -> Latents:
    """``read`` is ``last`` or ``mean``, as in ``capture``; the first token of a row is left out."""
    wanted = [replace(row, read_from=len(row.tokens) - 1) for row in rows] if read == "last" else list(rows)
    short = next((row for row in wanted if len(row.tokens) <= max(1, row.read_from)), None)
    if short is not None:
        raise FitError("a row of one token cannot be read through an autoencoder: the first token is left out")
    local = sae.to(opened.device)
    mean, peak = torch.zeros(len(rows), sae.atoms), torch.full((len(rows), sae.atoms), -torch.inf)
    counts = torch.zeros(len(rows))
    for owners, values in token_activations(opened, wanted, sae.point):
        for rows_here, h in zip(owners.split(CHUNK), values.split(CHUNK), strict=True):  # type: ignore[no-untyped-call]
            latents = local.encode(h).cpu()
            mean.index_add_(0, rows_here, latents)
            peak.scatter_reduce_(0, rows_here[:, None].expand_as(latents), latents, "amax")
            counts.index_add_(0, rows_here, torch.ones(len(rows_here)))
        progress(len(set(owners.tolist())))
    return Latents(mean / counts[:, None], peak)
