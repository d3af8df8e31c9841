"""Answers to a batch of prompts, run once unsteered, and asked under any change of the activations that predict them.

A prompt runs once for all hook points. A change acts on the prompt's last token and on the answers, so that to ask
again costs these tokens in the blocks above it, there and back where a gradient is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import Progress, silent
from tillerman.models.batches import padded, spans, token_budget
from tillerman.models.branches import Stem, pass_over, run_stem, unshared
from tillerman.models.cells import Variants
from tillerman.models.edit import Edit
from tillerman.models.gradients import Taught
from tillerman.models.grid import answer_branches, branch_fault, entering_of
from tillerman.models.head import token_logprobs
from tillerman.models.memory import fitting, in_two
from tillerman.models.opened import OpenModel
from tillerman.models.restart import Restart, border_of

# Of the activations of all answers, each at the token that predicts one of the answers' tokens.
Change = Callable[[Float[Tensor, "t d"]], Float[Tensor, "t d"]]


@dataclass(frozen=True, eq=False)
class AnswerBatch:
    """Some prompts with the same number ``k`` of answers to each, ready to be asked under changes above a border.

    ``places``: row, answer of the row, query and token of every answer token. ``slots``: which answer it belongs to,
    counted over all examples, so that ``slots // k`` is its example.
    """

    stem: Stem
    variants: Variants
    places: Int[Tensor, "t 4"]
    slots: Int[Tensor, " t"]
    k: int

    @property
    def examples(self) -> Int[Tensor, " t"]:
        return self.slots // self.k

    def per_answer(self, of_tokens: Float[Tensor, " t"]) -> Float[Tensor, "b k"]:
        """The sums over each answer's tokens."""
        sums = of_tokens.new_zeros(self.k * (1 + int(self.examples.max())))
        return sums.index_add(0, self.slots.to(sums.device), of_tokens).reshape(-1, self.k)

    @property
    def lengths(self) -> Float[Tensor, "b k"]:
        """Tokens of each answer."""
        return self.per_answer(torch.ones(len(self.slots), device=self.slots.device))


def ask(opened: OpenModel, examples: Sequence[Taught], points: Sequence[HookPoint]) -> AnswerBatch:
    """Run the prompts once, unsteered. A model that cannot branch has a row for every answer, prompt included."""
    branching = branch_fault(opened) is None
    rows = [
        (t.prompt, t.answers) if branching else (t.prompt, (a,))
        for t in examples
        for a in (t.answers[:1] if branching else t.answers)
    ]
    batch = padded([prompt for prompt, _ in rows], pad=opened.pad_id)
    borders = sorted({border_of(point) for point in points})
    stem = run_stem(opened.parts, batch, 1) if branching else unshared(opened.parts, batch)
    meant = torch.zeros(stem.tail.shape, dtype=torch.bool)
    meant[:, -1] = True
    longest = max(len(answer) for _, answers in rows for answer in answers)
    after = torch.ones(len(rows), longest, dtype=torch.bool)
    branches, here, places = answer_branches(stem, [answers for _, answers in rows], meant, after, opened.pad_id)
    entering = {border: h.clone() for border, h in entering_of(opened.parts, stem, branches, borders).items()}
    places = places.to(opened.device)
    slots = places[:, 0] * len(rows[0][1]) + places[:, 1]
    return AnswerBatch(stem, Variants(branches, here, entering), places, slots, len(examples[0].answers))


def predicting(opened: OpenModel, asked: AnswerBatch, point: HookPoint, change: Change) -> Float[Tensor, "t d"]:
    """What the head is given to predict every answer token, under a change at a hook point."""

    def edit(h: Tensor) -> Tensor:
        rows, _, queries, _ = asked.places.to(h.device).unbind(1)
        return h.index_put((rows, queries), change(h[rows, queries]).to(h))

    return _over(opened, asked, border_of(point), {point: edit})


def answer_logprobs(opened: OpenModel, asked: AnswerBatch, point: HookPoint, change: Change) -> Float[Tensor, "b k"]:
    """The log-probability of each whole answer under a change."""
    states = predicting(opened, asked, point, change)
    return asked.per_answer(token_logprobs(opened.parts, states[:, None], asked.places[:, 3]).squeeze(1))


@torch.no_grad()
def margins(
    opened: OpenModel,
    examples: Sequence[Taught],
    vectors: Mapping[HookPoint, Float[Tensor, " d"]],
    progress: Progress = silent,
) -> Float[Tensor, "n _"]:
    """How far the first answer of each example is above the second, in nats per token of either: unsteered, and with
    each vector added, by itself, from the prompt's last token on. ``progress`` is told of examples."""
    points = sorted(vectors)
    found = torch.empty(len(examples), 1 + len(points))
    cells = [len(t.prompt) + sum(map(len, t.answers)) for t in examples]
    order = sorted(range(len(examples)), key=cells.__getitem__)
    work = [order[start:stop] for start, stop in spans([cells[i] for i in order], token_budget(opened.parts))]

    def run(chosen: list[int]) -> Float[Tensor, "b _"]:
        asked = ask(opened, [examples[i] for i in chosen], points)
        changes: list[tuple[HookPoint, Change]] = [(points[0], lambda h: h)]
        changes += [(point, partial(_plus, vectors[point])) for point in points]
        each = [answer_logprobs(opened, asked, *one) / asked.lengths.to(opened.device) for one in changes]
        return torch.stack([of_two[:, 0] - of_two[:, 1] for of_two in each], 1).float().cpu()

    for chosen, values in fitting(opened.parts, work, run, lambda piece: [*map(list, in_two(piece))]):
        found[chosen] = values
        progress(len(chosen))
    return found


@torch.no_grad()
def unsteered(
    opened: OpenModel, asked: AnswerBatch, points: Sequence[HookPoint]
) -> tuple[dict[HookPoint, Float[Tensor, "t d"]], Float[Tensor, "t d"]]:
    """At the tokens that predict the answers: the activations at the hook points, and what the head is given."""
    got: dict[HookPoint, Tensor] = {}

    def keeper(point: HookPoint) -> Edit:
        def keep(h: Tensor) -> Tensor:
            rows, _, queries, _ = asked.places.to(h.device).unbind(1)
            got[point] = h[rows, queries]
            return h

        return keep

    lowest = min(border_of(point) for point in points)
    states = _over(opened, asked, lowest, {point: keeper(point) for point in points})
    return got, states


def _plus(v: Float[Tensor, " d"], h: Float[Tensor, "t d"]) -> Float[Tensor, "t d"]:
    return h + v.to(h)


def _over(opened: OpenModel, asked: AnswerBatch, border: int, edits: Mapping[HookPoint, Edit]) -> Float[Tensor, "t d"]:
    restart = Restart(border, asked.variants.entering[border])
    hidden = pass_over(opened.parts, asked.stem, asked.variants.branches, edits, restart=restart)
    rows, _, queries, _ = asked.places.unbind(1)
    return hidden[rows, queries]
