"""A direction that is read off activations and added to them: what it is trained for, and what it reads (ReFT-r1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from tillerman.core.hookpoint import HookPoint
from tillerman.models.answers import AnswerBatch, answer_logprobs, ask, unsteered
from tillerman.models.gradients import Taught
from tillerman.models.opened import OpenModel
from tillerman.models.training import VectorObjective


@dataclass(frozen=True, eq=False)
class ReadAndAdd(VectorObjective[AnswerBatch]):
    """``-log p(y | h + m w) / |y| + penalty * sum of the a_i that are not among the k largest / (|y| s)``, with

        a_i = max(h_i . w, 0),  m = sum of the k largest a_i / k

    over the tokens i that predict the answer y, all of them if it has fewer than k (ReFT-r1: Wu et al., arXiv
    2501.17148). ``w`` is the vector's direction; the vector itself is kept as long as the stream, s, so that a step
    turns it by its rate. Examples have one answer each. ``starts``: where the direction begins."""

    examples: Sequence[Taught]
    starts: Mapping[HookPoint, Float[Tensor, " d"]]
    stream_norms: Mapping[HookPoint, float]
    largest: int = 8
    penalty: float = 1.0

    def __len__(self) -> int:
        return len(self.examples)

    def start(self, point: HookPoint, width: int, stream_norm: float, seed: int) -> Float[Tensor, " d"]:
        return self.settled(point, self.starts[point])

    def settled(self, point: HookPoint, vector: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        return self.stream_norms[point] * normalize(vector, dim=0)

    def ask(self, opened: OpenModel, chosen: Sequence[int], points: Sequence[HookPoint]) -> AnswerBatch:
        return ask(opened, [self.examples[i] for i in chosen], points)

    def loss(
        self, opened: OpenModel, asked: AnswerBatch, point: HookPoint, vector: Float[Tensor, " d"], drawn: Tensor
    ) -> Float[Tensor, " b"]:
        w = normalize(vector, dim=0)
        others: list[Tensor] = []

        def add(h: Float[Tensor, "t d"]) -> Float[Tensor, "t d"]:
            there = w.to(h.device)
            read = by_answer(asked, latents(h, there))
            largest, places = read.topk(min(self.largest, read.shape[1]), dim=1)
            others.append(read.scatter(1, places, 0.0).sum(1))
            tokens = asked.lengths.squeeze(1).to(h.device).clamp_max(self.largest)
            return h + ((largest.sum(1) / tokens)[asked.examples.to(h.device), None] * there).to(h)

        logprobs = answer_logprobs(opened, asked, point, add).squeeze(1)
        (beyond,) = others
        penalty = self.penalty / self.stream_norms[point]
        return (penalty * beyond.to(logprobs) - logprobs) / asked.lengths.squeeze(1).to(logprobs)


def latents(h: Float[Tensor, "t d"], w: Float[Tensor, " d"]) -> Float[Tensor, " t"]:
    """``max(h . w, 0)``."""
    return (h.float() @ w).relu()


def by_answer(asked: AnswerBatch, of_tokens: Float[Tensor, " t"]) -> Float[Tensor, "b t"]:
    """A row for each of the answers, 0 at the tokens of the others."""
    rows = of_tokens.new_zeros(int(asked.slots.max()) + 1, len(of_tokens))
    return rows.index_put((asked.slots.to(rows.device), torch.arange(len(of_tokens), device=rows.device)), of_tokens)


def means_of_answers(
    opened: OpenModel, examples: Sequence[Taught], points: Sequence[HookPoint], at_once: int
) -> dict[HookPoint, Float[Tensor, "k d"]]:
    """Of the activations that predict the first answers, the second ones and so on, over the tokens of all examples."""
    k = len(examples[0].answers)
    sums = {point: torch.zeros(k, opened.parts.width_at(point), dtype=torch.float64) for point in points}
    counts = torch.zeros(k, dtype=torch.float64)
    for asked, read in _read(opened, examples, points, at_once):
        which = (asked.slots % k).cpu()
        counts += which.bincount(minlength=k)
        for point in points:
            sums[point].index_add_(0, which, read[point].cpu().double())
    return {point: (total / counts[:, None]).float() for point, total in sums.items()}


def largest_latents(
    opened: OpenModel, examples: Sequence[Taught], directions: Mapping[HookPoint, Float[Tensor, " d"]], at_once: int
) -> dict[HookPoint, Float[Tensor, "n k"]]:
    """Of every answer the largest latent along a direction, over the tokens that predict it; unsteered."""
    found: dict[HookPoint, list[Tensor]] = {point: [] for point in directions}
    for asked, read in _read(opened, examples, list(directions), at_once):
        for point, h in read.items():
            each = by_answer(asked, latents(h, directions[point].to(h.device))).amax(1)
            found[point].append(each.reshape(-1, asked.k).cpu())
    return {point: torch.cat(each) for point, each in found.items()}


@torch.inference_mode(False)
@torch.no_grad()
def _read(
    opened: OpenModel, examples: Sequence[Taught], points: Sequence[HookPoint], at_once: int
) -> Iterator[tuple[AnswerBatch, Mapping[HookPoint, Float[Tensor, "t d"]]]]:
    for start in range(0, len(examples), at_once):
        asked = ask(opened, examples[start : start + at_once], points)
        yield asked, unsteered(opened, asked, points)[0]
