"""How a row's next token is taken from its logits: by the row's own numbers, so that no row depends on another's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.serving.engine import Drawing

_MOST_LIKELY = 512  # tokens looked at first for top_p: a sort of a whole vocabulary is dear


@dataclass(frozen=True)
class DrawnToken:
    """A token, its log-probability under the model, and the likeliest ones with theirs, the likeliest first."""

    token: int
    logprob: float | None = None
    others: tuple[tuple[int, float], ...] = ()


class Taker:
    """One row's settings, its generator and the tokens that it has taken so far."""

    def __init__(self, drawing: Drawing) -> None:
        self.drawing = drawing
        self._numbers = torch.Generator().manual_seed(drawing.seed % 2**63)
        self._taken: Counter[int] = Counter()
        self._forced = 0  # of the given tokens, taken so far

    @property
    def plain(self) -> bool:
        """Whether the largest logit says which token it is."""
        given = self.drawing
        return given.temperature == 0 and not (given.logit_bias or self._penalised or given.forced)

    @property
    def _penalised(self) -> bool:
        return bool(self.drawing.presence_penalty or self.drawing.frequency_penalty)

    def take(self, logits: Float[Tensor, " v"]) -> int:
        """Bias and penalties first, then temperature, top_k, top_p and a draw: the largest of log-probability plus
        Gumbel number (Gumbel 1954). A difference of rounding between two batches so changes a draw only where two
        tokens are within it, whatever the size of the vocabulary. Forced tokens come before all of it."""
        given = self.drawing
        if self._forced < len(given.forced):
            self._forced += 1
            return given.forced[self._forced - 1]
        scores = self._biased(logits.float())
        if given.temperature > 0:
            scores = (scores - scores.max()) / given.temperature
            scores = narrowed(scores, given.top_k, given.top_p)
            # exponential_ draws the same and takes five times as long
            waiting = torch.rand(len(scores), generator=self._numbers).log_().neg_()
            scores = scores - waiting.log_().to(scores.device)
        return int(scores.argmax())

    def note(self, token: int) -> None:
        if self._penalised:
            self._taken[token] += 1

    def _biased(self, scores: Float[Tensor, " v"]) -> Float[Tensor, " v"]:
        """With the bias, less the penalties of the tokens taken so far: ``presence + count * frequency``."""
        given = self.drawing
        change = {token: float(bias) for token, bias in given.logit_bias.items()}
        for token, count in self._taken.items():
            penalty = given.presence_penalty + count * given.frequency_penalty
            change[token] = change.get(token, 0.0) - penalty
        if not change:
            return scores
        places = torch.tensor(list(change), device=scores.device)
        return scores.index_add(0, places, torch.tensor(list(change.values()), device=scores.device))


def draw(logits: Float[Tensor, "b v"], takers: Sequence[Taker]) -> list[DrawnToken | None]:
    """Each row's next token; None for a row whose logits are no numbers to draw by."""
    best, likeliest = logits.max(1)
    told = torch.stack([torch.isfinite(best).long(), likeliest], 1).tolist()
    found: list[DrawnToken | None] = []
    for row, (taker, (finite, token)) in enumerate(zip(takers, told, strict=True)):
        if not finite:
            found.append(None)
            continue
        taken = token if taker.plain else taker.take(logits[row])
        taker.note(taken)
        wanted = taker.drawing.logprobs
        found.append(DrawnToken(taken) if wanted is None else _with_logprobs(logits[row], taken, wanted))
    return found


def _with_logprobs(logits: Float[Tensor, " v"], token: int, alternatives: int) -> DrawnToken:
    """Of the model's own distribution, before bias, penalties and temperature."""
    logprobs = logits.float().log_softmax(0)
    top = logprobs.topk(min(alternatives, len(logprobs)))
    others = tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True))
    return DrawnToken(token, float(logprobs[token]), others)


def narrowed(scores: Float[Tensor, " v"], top_k: int, top_p: float) -> Float[Tensor, " v"]:
    """Without the tokens that are not among the ``top_k`` likeliest, or not among the fewest that together have the
    probability ``top_p``."""
    if 0 < top_k < len(scores):
        scores = torch.where(scores < scores.topk(top_k).values[-1], -torch.inf, scores)
    if top_p >= 1:
        return scores
    logprobs = scores.log_softmax(0)
    some = logprobs.topk(min(_MOST_LIKELY, len(scores))).values
    if float(some.exp().sum()) < top_p:
        some = logprobs.sort(descending=True).values
    before = some.exp().cumsum(0) - some.exp()
    last = some[max(0, int((before < top_p).sum()) - 1)]
    return torch.where(logprobs < last, -torch.inf, scores)
