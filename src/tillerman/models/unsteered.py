"""Scores of the unsteered model, for which prompts share all that they begin with, and answers their prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.rows import Progress, silent
from tillerman.models.batches import Batch, batches, padded, token_budget
from tillerman.models.beginnings import Beginning, begin, clusters
from tillerman.models.branches import Branches, run_branches, run_stem
from tillerman.models.grid import answer_branches
from tillerman.models.head import option_head, token_logprobs
from tillerman.models.logits import option_logprobs
from tillerman.models.memory import fitting
from tillerman.models.opened import OpenModel


@torch.inference_mode()
def unsteered_options(
    opened: OpenModel,
    prompts: Sequence[Sequence[int]],
    options: Sequence[Sequence[int]],
    *,
    progress: Progress = silent,
) -> list[Float[Tensor, " o"]]:
    """What orders each prompt's option tokens: their log-probability up to a constant of the prompt. What prompts
    begin with (a system prompt, exemplars) runs once. For models that branch."""
    out: list[Tensor] = [torch.empty(0)] * len(prompts)
    for members, begun in _begun(opened, prompts):
        asked, wanted = [prompts[i] for i in members], [options[i] for i in members]
        if begun is None:
            found = option_logprobs(opened, asked, wanted, progress=progress)
        else:
            found = _after(opened, begun, asked, wanted, progress)
        for i, score in zip(members, found, strict=True):
            out[i] = score
    return out


@torch.inference_mode()
def unsteered_answers(
    opened: OpenModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[Sequence[int]]],
    *,
    progress: Progress = silent,
) -> list[Float[Tensor, " o"]]:
    """The mean log-probability per token, in nats, of each prompt's whole answers: branches of their prompt, which
    follows what prompts begin with. For models that branch."""
    out: list[Tensor] = [torch.empty(0)] * len(prompts)
    parts = opened.parts
    for members, begun in _begun(opened, prompts):
        first = 0 if begun is None else len(begun.tokens)
        sizes = [[*prompts[i][first:], *(t for answer in answers[i] for t in (0, *answer))] for i in members]
        asked = [(prompts[i][first:], answers[i]) for i in members]
        run = partial(_answered, opened, begun, asked)
        for cut, found in fitting(
            parts, batches(sizes, pad=opened.pad_id, budget=token_budget(parts)), run, Batch.halves
        ):
            for k, score in zip(cut.rows.tolist(), found, strict=True):
                out[members[k]] = score
            progress(len(found))
    return out


def _answered(
    opened: OpenModel,
    begun: Beginning | None,
    asked: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]],
    cut: Batch,
) -> list[Tensor]:
    """Of the rest of some prompts and their answers, what ``cut`` has of them, in its order."""
    parts, some = opened.parts, [asked[k] for k in cut.rows.tolist()]
    answers = [mine for _, mine in some]
    rest = padded([prompt for prompt, _ in some], pad=opened.pad_id)
    stem = run_stem(parts, rest, 1, after=None if begun is None else begun.stem)
    nothing = torch.zeros(len(some), max(len(answer) for one in answers for answer in one), dtype=torch.bool)
    branches, _, places = answer_branches(stem, answers, nothing[:, :1], nothing, opened.pad_id)
    hidden = run_branches(parts, stem, branches, {})
    row, option, query, token = places.to(opened.device).unbind(1)
    each = token_logprobs(parts, hidden[row, query][:, None], token).squeeze(1)
    sums = torch.zeros(len(some), int(option.max()) + 1, device=opened.device)
    totals = sums.index_put_((row, option), each, accumulate=True).cpu()
    return [
        mine[: len(one)] / torch.tensor([len(answer) for answer in one])
        for mine, one in zip(totals, answers, strict=True)
    ]


def _begun(opened: OpenModel, prompts: Sequence[Sequence[int]]) -> Iterator[tuple[tuple[int, ...], Beginning | None]]:
    """Prompts by the beginning they share, of which each leaves at least one token."""
    for cluster in clusters([prompt[:-1] for prompt in prompts]):
        yield cluster.rows, begin(opened.parts, prompts[cluster.rows[0]][: cluster.shared])


def _after(
    opened: OpenModel,
    begun: Beginning,
    prompts: Sequence[Sequence[int]],
    options: Sequence[Sequence[int]],
    progress: Progress,
) -> list[Tensor]:
    parts, first = opened.parts, len(begun.tokens)
    out: list[Tensor] = [torch.empty(0)] * len(prompts)
    rests = [prompt[first:] for prompt in prompts]

    def run(batch: Batch) -> Float[Tensor, "b o"]:
        real = batch.mask.to(opened.device).bool()
        branches = Branches(batch.tokens.to(opened.device), torch.where(real, 0, -1), real.cumsum(1) - 1)
        hidden = run_branches(parts, begun.stem, branches, {})
        last = hidden[torch.arange(len(hidden), device=hidden.device), real.sum(1) - 1][:, None]
        return option_head(parts, [options[i] for i in batch.rows.tolist()])(last)[0].float().cpu()

    work = batches(rests, pad=opened.pad_id, side="right", budget=token_budget(parts))
    for batch, scores in fitting(parts, work, run, Batch.halves):
        for at, i in enumerate(batch.rows.tolist()):
            out[i] = scores[at, : len(options[i])]
        progress(len(batch.rows))
    return out
