"""What vectors are trained for: that the model prefers one answer of each pair (BiPO, RePS), or that exchanging one
direction of its activations makes of its predictions those under another prompt (CDAS)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from tillerman.core.hookpoint import HookPoint
from tillerman.models.answers import AnswerBatch, Change, answer_logprobs, ask, predicting, unsteered
from tillerman.models.families import Anatomy
from tillerman.models.gradients import Taught
from tillerman.models.head import all_logits
from tillerman.models.memory import positions_at_once
from tillerman.models.opened import OpenModel
from tillerman.models.training import VectorObjective

_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Pairs:
    """Prompts with two answers each, the wanted one first, and the answers' unsteered log-probabilities."""

    batch: AnswerBatch
    reference: Float[Tensor, "b 2"]


@dataclass(frozen=True, eq=False)
class Preference(VectorObjective[Pairs]):
    """What losses over pairs of answers share."""

    examples: Sequence[Taught]

    def __len__(self) -> int:
        return len(self.examples)

    def ask(self, opened: OpenModel, chosen: Sequence[int], points: Sequence[HookPoint]) -> Pairs:
        batch = ask(opened, [self.examples[i] for i in chosen], points)
        with torch.no_grad():
            return Pairs(batch, answer_logprobs(opened, batch, points[0], lambda h: h))


@dataclass(frozen=True, eq=False)
class BothWays(Preference):
    """``-log sigmoid(s beta (m(s v) - m(0)))``; m is the margin ``log p(wanted) - log p(other)`` of whole answers, s a
    sign that is drawn for each step (BiPO: Cao et al., arXiv 2406.00045, equation 3)."""

    beta: float = 0.1

    def draw(self, generator: torch.Generator, chosen: Sequence[int]) -> list[float]:
        sign = 1.0 if float(torch.rand((), generator=generator)) < 0.5 else -1.0
        return [sign] * len(chosen)

    def loss(
        self, opened: OpenModel, asked: Pairs, point: HookPoint, vector: Float[Tensor, " d"], drawn: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        logprobs = answer_logprobs(opened, asked.batch, point, _added(asked.batch, vector, drawn))
        wanted, other = (logprobs - asked.reference).unbind(1)
        return -logsigmoid(drawn * self.beta * (wanted - other))


@dataclass(frozen=True, eq=False)
class SteerAndSuppress(Preference):
    """``-log sigmoid(D+) - log sigmoid(D-)`` (RePS: Wu et al., arXiv 2505.20809, section 4), with

        D+ = b+ log p(wanted | h + a v) / |wanted| - log p(other | h + a v) / |other|
        D- = b- log p(other | N(h)) / |other| - log p(wanted | N(h)) / |wanted|
        N(h) = h - max(h . u, 0) u,  u = v / |v|
        b+ = max(log p(other) - log p(wanted), 1),  b- = max(log p(wanted) - log p(other), 1),  both unsteered

    and a strength a that is drawn for each example among ``factors`` evenly spaced ones with mean 1. At v = 0 there is
    no direction to take out, and the gradient is that of the first half."""

    factors: int = 10

    def draw(self, generator: torch.Generator, chosen: Sequence[int]) -> list[float]:
        places = torch.randint(1, self.factors + 1, (len(chosen),), generator=generator)
        return [2 * int(k) / (self.factors + 1) for k in places]

    def loss(
        self, opened: OpenModel, asked: Pairs, point: HookPoint, vector: Float[Tensor, " d"], drawn: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        batch, lengths = asked.batch, asked.batch.lengths
        steered = answer_logprobs(opened, batch, point, _added(batch, vector, drawn)) / lengths
        suppressed = answer_logprobs(opened, batch, point, lambda h: without(h, vector)) / lengths
        lead = asked.reference[:, 0] - asked.reference[:, 1]
        towards = (-lead).clamp_min(1) * steered[:, 0] - steered[:, 1]
        away = lead.clamp_min(1) * suppressed[:, 1] - suppressed[:, 0]
        return -logsigmoid(towards) - logsigmoid(away)


def without(h: Float[Tensor, "t d"], vector: Float[Tensor, " d"]) -> Float[Tensor, "t d"]:
    """``h - max(h . u, 0) u``: what points along the vector is taken out, what points against it stays."""
    unit = _unit(vector).to(h.device)
    return h - (h.float() @ unit).relu()[:, None] * unit


@dataclass(frozen=True)
class Counterfactual:
    """A question as the model is asked it plainly and under a prompt, and two answers: the prompt's and the plain one.
    A ``sign`` of -1 turns what is exchanged round, for the null."""

    plain: tuple[int, ...]
    told: tuple[int, ...]
    wanted: tuple[int, ...]
    other: tuple[int, ...]
    sign: float = 1.0


@dataclass(frozen=True, eq=False)
class Exchanged:
    """Bases of which something is exchanged, and at the same tokens of their sources the activations that it is taken
    from and what the head is given there, unsteered. Two rows for each example: the plain question with the wanted
    answer, whose source is the told one, and the told question with the other answer, whose source is the plain one."""

    base: AnswerBatch
    sources: Mapping[HookPoint, Float[Tensor, "t d"]]
    target: Float[Tensor, "t d"]


@dataclass(frozen=True, eq=False)
class Exchange(VectorObjective[Exchanged]):
    """``1/|y| sum_k JS(p(. | y_<k, base; h + s (u . (h' - h)) u), p(. | y_<k, source))``, of both bases together
    (CDAS: Bao et al., arXiv 2602.05234): the activation h of the base gets the component of the source's h' along the
    unit direction u, and the predictions over the whole vocabulary are to be the source's. JS in nats; s the example's
    sign. u is the vector's direction, which begins as that of ``starts``, or at random."""

    examples: Sequence[Counterfactual]
    starts: Mapping[HookPoint, Float[Tensor, " d"]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.examples)

    def draw(self, generator: torch.Generator, chosen: Sequence[int]) -> list[float]:
        return [self.examples[i].sign for i in chosen]

    def start(self, point: HookPoint, width: int, stream_norm: float, seed: int) -> Float[Tensor, " d"]:
        given = self.starts.get(point)
        way = torch.randn(width, generator=torch.Generator().manual_seed(seed)) if given is None else given
        return stream_norm * _unit(way)

    def ask(self, opened: OpenModel, chosen: Sequence[int], points: Sequence[HookPoint]) -> Exchanged:
        some = [self.examples[i] for i in chosen]
        bases = [Taught(q, (a,)) for e in some for q, a in ((e.plain, e.wanted), (e.told, e.other))]
        sources = [Taught(q, (a,)) for e in some for q, a in ((e.told, e.wanted), (e.plain, e.other))]
        return Exchanged(ask(opened, bases, points), *unsteered(opened, ask(opened, sources, points), points))

    def loss(
        self,
        opened: OpenModel,
        asked: Exchanged,
        point: HookPoint,
        vector: Float[Tensor, " d"],
        drawn: Float[Tensor, " b"],
    ) -> Float[Tensor, " b"]:
        signs = drawn.repeat_interleave(2)[asked.base.examples][:, None]

        def exchange(h: Tensor) -> Tensor:
            unit = _unit(vector).to(h.device)
            return h + signs.to(h.device) * ((asked.sources[point] - h).float() @ unit)[:, None] * unit

        states = predicting(opened, asked.base, point, exchange)
        apart: Tensor = _Divergence.apply(states, asked.target, opened.parts)  # type: ignore[no-untyped-call]
        return (asked.base.per_answer(apart) / asked.base.lengths).reshape(-1, 2).sum(1)

    @torch.inference_mode(False)
    @torch.no_grad()
    def divergences(
        self, opened: OpenModel, vectors: Mapping[HookPoint, Float[Tensor, " d"]], at_once: int
    ) -> dict[HookPoint, tuple[float, float]]:
        """The mean over the examples of half the loss, with nothing exchanged and with the vector's component."""
        sums = {point: torch.zeros(2, dtype=torch.float64) for point in vectors}
        for start in range(0, len(self), at_once):
            chosen = range(start, min(start + at_once, len(self)))
            asked = self.ask(opened, chosen, list(vectors))
            signs = torch.tensor([self.examples[i].sign for i in chosen], device=opened.device)
            for point, vector in vectors.items():
                for k, some in enumerate((0 * vector, vector)):
                    found = self.loss(opened, asked, point, some.to(opened.device), signs)
                    sums[point][k] += float(found.cpu().double().sum()) / 2 / len(self)
        return {point: (float(before), float(after)) for point, (before, after) in sums.items()}


def gaps(
    opened: OpenModel, examples: Sequence[Counterfactual], points: Sequence[HookPoint], at_once: int
) -> dict[HookPoint, Float[Tensor, " d"]]:
    """The mean of ``s (h' - h)``, h' under the prompt and h without it, at the tokens that predict wanted answers."""
    sums = {point: torch.zeros(opened.parts.width_at(point), dtype=torch.float64) for point in points}
    count = 0
    for start in range(0, len(examples), at_once):
        some = examples[start : start + at_once]
        sides = [ask(opened, [Taught(q, (e.wanted,)) for e, q in asked], points) for asked in _both(some)]
        (told, _), (plain, _) = (unsteered(opened, side, points) for side in sides)
        signs = torch.tensor([e.sign for e in some], dtype=torch.float64)[sides[0].examples.cpu()]
        count += len(signs)
        for point in points:
            sums[point] += signs @ (told[point].cpu().double() - plain[point].cpu().double())
    return {point: (total / count).float() for point, total in sums.items()}


def _both(some: Sequence[Counterfactual]) -> list[list[tuple[Counterfactual, tuple[int, ...]]]]:
    return [[(e, e.told) for e in some], [(e, e.plain) for e in some]]


class _Divergence(torch.autograd.Function):
    """Jensen-Shannon divergence, in nats, of the predictions that the head makes of two states; its gradient to the
    first. The logits of the whole vocabulary are made for some tokens at a time, and none is kept."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, target: Tensor, parts: Anatomy) -> Tensor:
        size = max(1, positions_at_once(parts) // 6)
        slopes: list[Tensor] = []
        values: list[Tensor] = []
        for mine, theirs in zip(torch.split(states.detach(), size), torch.split(target, size), strict=True):
            with torch.enable_grad():
                leaf = mine.requires_grad_()
                value = _jensen_shannon(all_logits(parts, leaf), all_logits(parts, theirs).detach())
                slopes += torch.autograd.grad(value.sum(), [leaf])
            values.append(value.detach())
        ctx.save_for_backward(torch.cat(slopes))
        return torch.cat(values)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        return given[0][:, None].to(slopes) * slopes, None, None


def _jensen_shannon(some: Float[Tensor, "n v"], other: Float[Tensor, "n v"]) -> Float[Tensor, " n"]:
    """``KL(p || m) / 2 + KL(q || m) / 2`` with ``m = (p + q) / 2``, at most log 2."""
    p, q = some.float().log_softmax(-1), other.float().log_softmax(-1)
    mixed = torch.logaddexp(p, q) - math.log(2)
    return ((p.exp() * (p - mixed)).sum(-1) + (q.exp() * (q - mixed)).sum(-1)) / 2


def _added(batch: AnswerBatch, vector: Float[Tensor, " d"], drawn: Float[Tensor, " b"]) -> Change:
    return lambda h: h + (drawn[batch.examples][:, None] * vector).to(h)


def _unit(vector: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
    unit: Tensor = vector / vector.norm().clamp_min(_TINY)
    return unit
