"""Train vectors by gradient, one per hook point, so that the model prefers one answer of each pair.

The weights are frozen. A prompt runs once per step for all hook points; a vector acts on the prompt's last token
and on the answers, so a step costs these tokens in the blocks above it, there and back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from tillerman.core.errors import IN_FLOAT32, FitError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import Progress, silent
from tillerman.models.batches import padded
from tillerman.models.branches import Stem, pass_over, run_stem, unshared
from tillerman.models.cells import Variants
from tillerman.models.gradients import Taught, only_wanted
from tillerman.models.grid import answer_branches, branch_fault, entering_of
from tillerman.models.head import token_logprobs
from tillerman.models.memory import fitting, in_two
from tillerman.models.opened import OpenModel
from tillerman.models.restart import Restart, border_of


@dataclass(frozen=True)
class TrainingOptions:
    """``steps`` of Adam with ``pairs`` examples each, whatever the number of examples. ``rate``: how far one step
    moves the vector, in units of the stream there; it falls to 0 over the run as half a cosine. ``beta`` as in
    the loss."""

    steps: int = 40
    pairs: int = 16
    rate: float = 0.1
    beta: float = 0.1


@dataclass(frozen=True, eq=False)
class AnswerBatch:
    """Some prompts with both answers to each, ready to be scored under any change above a border.

    ``places``: row, answer of the row, query and token of every answer token. ``reference``: the unsteered
    margins.
    """

    stem: Stem
    variants: Variants
    places: Int[Tensor, "t 4"]
    reference: Float[Tensor, " b"]


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
    plain = AnswerBatch(stem, Variants(branches, here, entering), places.to(opened.device), torch.zeros(len(examples)))
    with torch.no_grad():
        reference = margins(opened, plain, points[0], torch.zeros(opened.parts.width_at(points[0])))
    return AnswerBatch(stem, plain.variants, plain.places, reference)


def margins(
    opened: OpenModel, asked: AnswerBatch, point: HookPoint, change: Float[Tensor, " d"]
) -> Float[Tensor, " b"]:
    """``log p(wanted) - log p(other)`` of whole answers, with the change added at the prompt's last token and at
    every token of the answers."""

    def edit(h: Tensor) -> Tensor:
        return torch.where(asked.variants.meant[..., None], h + change.to(h.device, h.dtype), h)

    border = border_of(point)
    restart = Restart(border, asked.variants.entering[border])
    hidden = pass_over(opened.parts, asked.stem, asked.variants.branches, {point: edit}, restart=restart)
    rows, options, queries, tokens = asked.places.unbind(1)
    each = token_logprobs(opened.parts, hidden[rows, queries][:, None], tokens).squeeze(1)
    per_row = int(options.max()) + 1
    sums = each.new_zeros(len(asked.variants.meant) * per_row).index_add(0, rows * per_row + options, each)
    wanted, other = sums.reshape(-1, 2).unbind(1)
    return wanted - other


def preference_loss(
    opened: OpenModel, asked: AnswerBatch, point: HookPoint, vector: Float[Tensor, " d"], sign: int, beta: float
) -> Float[Tensor, ""]:
    """``-log sigmoid(sign beta (m(sign v) - m(0)))``, the mean over the pairs; m is the margin of the answers
    (BiPO: Cao et al., arXiv 2406.00045, equation 3)."""
    gain = margins(opened, asked, point, sign * vector) - asked.reference.to(opened.device)
    return -logsigmoid(sign * beta * gain).mean()


@torch.inference_mode(False)  # tensors made in it could not be saved for a backward pass
def train_vectors(
    opened: OpenModel,
    examples: Sequence[Taught],
    stream_norms: Mapping[HookPoint, float],
    options: TrainingOptions,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[HookPoint, Float[Tensor, " d"]]:
    """A vector for every hook point of ``stream_norms``, trained from 0 by Adam on its own loss; float32 on the CPU.

    All of them see the same pairs and signs in the same order. ``progress`` is told what share of the examples
    stands for the steps done.
    """
    vectors = {p: torch.zeros(opened.parts.width_at(p), device=opened.device) for p in stream_norms}
    groups = [
        {"params": [v.requires_grad_()], "lr": _rate(options, stream_norms[p], len(v))} for p, v in vectors.items()
    ]
    adam = torch.optim.Adam(groups)
    falling = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: (1 + math.cos(math.pi * step / options.steps)) / 2)
    steps = list(_steps(len(examples), options, seed))
    run = partial(_gradients, opened, examples, vectors, options.beta)
    work, done = [_Step(k, chosen, sign) for k, (chosen, sign) in enumerate(steps)], 0
    adam.zero_grad()
    # One piece after the other, each when it is asked for: a step whose pairs come in halves ends with the second.
    for piece, gradients in fitting(opened.parts, work, run, _Step.halves):
        count = len(steps[piece.number][0])
        for vector, gradient in zip(vectors.values(), gradients, strict=True):
            mine = gradient / count
            vector.grad = mine if vector.grad is None else vector.grad + mine
        done += len(piece.chosen)
        if done < count:
            continue
        adam.step()
        falling.step()
        adam.zero_grad()
        step, done = piece.number, 0
        progress((step + 1) * len(examples) // options.steps - step * len(examples) // options.steps)
    return {p: v.detach().float().cpu() for p, v in vectors.items()}


@dataclass(frozen=True)
class _Step:
    """A step's examples, or half of them, and the sign under which they are shown the vectors."""

    number: int
    chosen: Sequence[int]
    sign: int

    def halves(self) -> tuple[_Step, ...]:
        return tuple(replace(self, chosen=part) for part in in_two(self.chosen))


def _gradients(
    opened: OpenModel, examples: Sequence[Taught], vectors: Mapping[HookPoint, Tensor], beta: float, step: _Step
) -> list[Tensor]:
    """Of the sum of a step's losses over its examples, for every vector."""
    asked = ask(opened, [examples[i] for i in step.chosen], list(vectors))
    found: list[Tensor] = []
    with only_wanted(opened.parts, ()):
        for point, vector in vectors.items():
            loss = preference_loss(opened, asked, point, vector, step.sign, beta)
            if not bool(torch.isfinite(loss)):
                raise FitError(f"{point}: the loss is not finite; {IN_FLOAT32}")
            found += torch.autograd.grad(loss * len(step.chosen), [vector])
    return found


def _rate(options: TrainingOptions, stream_norm: float, width: int) -> float:
    """Adam moves every coordinate by its rate at most, so the vector by ``sqrt(d)`` times as much."""
    return options.rate * stream_norm / math.sqrt(width)


def _steps(count: int, options: TrainingOptions, seed: int) -> Iterator[tuple[list[int], int]]:
    """The examples of every step, and the sign under which they are shown the vector."""
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    for _ in range(options.steps):
        if not order:
            order = torch.randperm(count, generator=generator).tolist()
        sign = 1 if float(torch.rand((), generator=generator)) < 0.5 else -1
        yield order[: options.pairs], sign
        order = order[options.pairs :]
