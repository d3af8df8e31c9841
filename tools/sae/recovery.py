"""How good an autoencoder is: what it leaves unexplained, and what the model loses when it is spliced in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import Tensor

from tillerman.core.rows import Row
from tillerman.models.edit import edit_forward
from tillerman.models.logits import answer_logprobs
from tillerman.models.opened import OpenModel
from tillerman.models.sae.autoencoder import SAE
from tillerman.models.sae.quality import quality


def loss(opened: OpenModel, rows: list[Row], sae: SAE, change: Callable[[Tensor], Tensor] | None) -> float:
    """Nats per token with the activation at the autoencoder's hook point changed. The first token is left as it is:
    it was no part of the training."""

    def edit(h: Tensor) -> Tensor:
        assert change is not None
        return torch.cat([h[:, :1], change(h[:, 1:]).to(h.dtype)], dim=1)

    values, weights = [], []
    for row in rows:  # one by one: padding would move the first column
        with edit_forward(opened.parts, {} if change is None else {sae.point: edit}, lambda _: None):
            values.append(float(answer_logprobs(opened, [row])[0]))
        weights.append(len(row.tokens) - row.read_from)
    return -sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)


@torch.inference_mode()
def measure(opened: OpenModel, sae: SAE, rows: list[Row]) -> dict[str, float]:
    """``recovered``: (loss without the activation - loss spliced in) / (loss without - loss of the model)."""
    plain = loss(opened, rows, sae, None)
    spliced = loss(opened, rows, sae, sae.reconstruct)
    without = loss(opened, rows, sae, torch.zeros_like)
    figures = {**asdict(quality(opened, sae, rows)), "loss": plain, "spliced": spliced, "without": without}
    return figures | {"recovered": (without - spliced) / (without - plain)}
