"""The same random numbers for every row of a batch: then a text depends on neither its neighbours nor its place."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from tillerman.core.errors import MetricError

USUAL_TOP_K = 50  # of ``generate``, for a model that says nothing
BROKEN = "the model gives no finite probabilities to draw a token from; a smaller strength may keep it in one piece"


class SharedDraws(LogitsProcessor):
    """Leaves one token: that with the largest log-probability plus a Gumbel number, which is a draw from the
    probabilities (Gumbel 1954). A step's numbers are the same for all rows, so two rows with the same probabilities
    draw the same token.

    As ``generate`` draws: after the temperature, among the tokens that the model's settings leave. ``MetricError``
    where a row has no finite probabilities.
    """

    def __init__(self, temperature: float, seed: int, top_k: int | None, top_p: float | None) -> None:
        self._random = torch.Generator().manual_seed(seed)
        self._narrow: list[LogitsProcessor] = [TemperatureLogitsWarper(temperature)]
        if top_k != 0:
            self._narrow.append(TopKLogitsWarper(USUAL_TOP_K if top_k is None else top_k))
        if top_p is not None and top_p < 1:
            self._narrow.append(TopPLogitsWarper(top_p))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        for one in self._narrow:
            scores = one(input_ids, scores)
        numbers = -torch.empty(scores.shape[1]).exponential_(generator=self._random).log()
        best, drawn = (scores + numbers.to(scores)).max(1, keepdim=True)
        if not bool(torch.isfinite(best).all()):
            raise MetricError(BROKEN)
        return torch.full_like(scores, -torch.inf).scatter(1, drawn, 0.0)
