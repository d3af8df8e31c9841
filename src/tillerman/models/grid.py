"""Scores of answer options under many edits of the same prompts: the inner loop of a search.

Edits of the last tokens leave the keys and values of all earlier tokens as they are, and the blocks
below the edited one too. So a prompt runs once, and a cell costs its last tokens in the blocks above.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tillerman.core.errors import ModelError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import Progress, silent
from tillerman.models.batches import Batch, batches, token_budget
from tillerman.models.branches import Branches, DeepEnoughError, Stem, run_branches, run_stem
from tillerman.models.cells import GridCell, Variants, cells_in_passes
from tillerman.models.edit import Edit, edit_forward
from tillerman.models.families import Anatomy
from tillerman.models.head import option_head, token_logprobs
from tillerman.models.logits import option_logprobs
from tillerman.models.opened import OpenModel
from tillerman.models.restart import border_of, entry

_LOG = logging.getLogger(__name__)
_FAULTS: WeakKeyDictionary[OpenModel, str | None] = WeakKeyDictionary()


def tail_of(meant: Bool[Tensor, "b s"]) -> int:
    """How many last columns hold every token that a scope means; 0 if it means none."""
    columns = meant.any(0).nonzero()
    return meant.shape[1] - int(columns[0]) if len(columns) else 0


@torch.inference_mode()
def grid_scores(
    opened: OpenModel,
    batch: Batch,
    options: Sequence[Sequence[int]],
    cells: Sequence[GridCell],
    meant: Bool[Tensor, "b s"],
    *,
    progress: Progress = silent,
) -> Float[Tensor, "c b o"]:
    """The logit of each prompt's option tokens under each cell, ``-inf`` beyond a prompt's last option.

    Logits order options as log-probabilities do, and need no pass over the vocabulary. ``meant`` marks
    the tokens that the cells edit. ``progress`` is told prompts times cells.
    """
    parts, device = opened.parts, opened.device
    tail = max(1, tail_of(meant))
    stem = run_stem(parts, batch, tail, sorted({border_of(cell.point) for cell in cells}))
    ends = Branches(stem.tail, torch.where(stem.tail_real, 0, -1), (stem.tail_real.cumsum(1) - 1).clamp(min=0))
    variants = Variants(ends, meant[:, meant.shape[1] - tail :].to(device), stem.entering)
    head = option_head(parts, options)
    out = torch.full((len(cells), len(batch.rows), max(map(len, options))), -torch.inf)
    for group, hidden in cells_in_passes(opened, stem, variants, cells, progress):
        out[group] = head(hidden[:, :, -1]).float().cpu()
    for row, tokens in enumerate(options):
        out[:, row, len(tokens) :] = -torch.inf
    return out


@torch.inference_mode()
def grid_answer_scores(
    opened: OpenModel,
    batch: Batch,
    answers: Sequence[Sequence[Sequence[int]]],
    cells: Sequence[GridCell],
    meant: Bool[Tensor, "b s"],
    meant_after: Bool[Tensor, "b a"],
    *,
    progress: Progress = silent,
) -> Float[Tensor, "c b o"]:
    """The mean log-probability per token of each prompt's whole answers under each cell, ``-inf`` beyond a
    prompt's last answer. ``meant_after[b, j]`` says whether the cells edit the j-th token after prompt b.
    """
    parts, device = opened.parts, opened.device
    tail = max(1, tail_of(meant))
    stem = run_stem(parts, batch, tail)
    branches, here, places = answer_branches(
        stem, answers, meant[:, meant.shape[1] - tail :], meant_after, opened.pad_id
    )
    entering = entering_of(parts, stem, branches, sorted({border_of(cell.point) for cell in cells}))
    out = torch.full((len(cells), len(batch.rows), max(map(len, answers))), -torch.inf)
    rows, options, queries, tokens = places.to(device).unbind(1)
    lengths = torch.zeros(out.shape[1:], device=device)
    lengths.index_put_((rows, options), torch.ones(len(places), device=device), accumulate=True)
    for group, hidden in cells_in_passes(opened, stem, Variants(branches, here, entering), cells, progress):
        each = token_logprobs(parts, hidden[rows, :, queries], tokens)
        sums = torch.zeros(*lengths.shape, len(group), device=device)
        sums.index_put_((rows, options), each, accumulate=True)
        means = torch.where(lengths[..., None] > 0, sums / lengths[..., None], -torch.inf)
        out[group] = means.permute(2, 0, 1).cpu()
    return out


def answer_branches(
    stem: Stem,
    answers: Sequence[Sequence[Sequence[int]]],
    meant: Bool[Tensor, "b t"],
    meant_after: Bool[Tensor, "b a"],
    pad: int,
) -> tuple[Branches, Bool[Tensor, "b q"], Int[Tensor, "n 4"]]:
    """Each answer but its last token, after a copy of the prompt's last tokens; which tokens are edited; and
    of every answer token its row, answer, the query that predicts it, and the token."""
    tail = stem.tail.shape[1]
    starts = [[0, *accumulate(tail + len(answer) - 1 for answer in mine)] for mine in answers]
    queries = max(start[-1] for start in starts)
    tokens = torch.full((len(answers), queries), pad)
    owner, step = torch.full_like(tokens, -1), torch.zeros_like(tokens)
    here = torch.zeros_like(tokens, dtype=torch.bool)
    places = []
    real, ends = stem.tail_real.cpu(), stem.tail.cpu()
    for row, mine in enumerate(answers):
        for k, answer in enumerate(mine):
            at, after = starts[row][k], starts[row][k] + tail
            stop = starts[row][k + 1]
            tokens[row, at:after], tokens[row, after:stop] = ends[row], torch.tensor(answer[:-1])
            owner[row, at:stop] = k
            owner[row, at:after][~real[row]] = -1
            step[row, at:stop] = ((owner[row, at:stop] == k).cumsum(0) - 1).clamp(min=0)
            here[row, at:after], here[row, after:stop] = meant[row], meant_after[row, : len(answer) - 1]
            places += [[row, k, after - 1 + j, token] for j, token in enumerate(answer)]
    device = stem.tail.device
    return Branches(tokens.to(device), owner.to(device), step.to(device)), here.to(device), torch.tensor(places)


def entering_of(parts: Anatomy, stem: Stem, branches: Branches, borders: Sequence[int]) -> dict[int, Tensor]:
    """What enters each border at the tokens of unsteered branches."""
    kept: dict[int, Tensor] = {}

    def keeper(border: int) -> Edit:
        def keep(h: Tensor) -> Tensor:
            kept[border] = h
            if len(kept) == len(borders):
                raise DeepEnoughError
            return h

        return keep

    with suppress(DeepEnoughError):
        run_branches(parts, stem, branches, {entry(parts, border): keeper(border) for border in borders})
    return kept


@torch.inference_mode()
def prefixed_scores(
    opened: OpenModel,
    prompts: Sequence[Sequence[int]],
    options: Sequence[Sequence[int]],
    shared: int,
    *,
    progress: Progress = silent,
) -> list[Float[Tensor, " o"]]:
    """The logit of each prompt's option tokens. The first ``shared`` tokens, the same in all prompts and
    fewer than any has, run once (few-shot exemplars, a long system prompt). Unsteered."""
    parts = opened.parts
    out: list[Tensor] = [torch.empty(0)] * len(prompts)
    (prefix,) = batches([prompts[0][:shared]], pad=opened.pad_id)
    stem = run_stem(parts, prefix, 0)
    budget = token_budget(parts)
    for batch in batches([p[shared:] for p in prompts], pad=opened.pad_id, side="right", budget=budget):
        real = batch.mask.to(opened.device).bool()
        branches = Branches(batch.tokens.to(opened.device), torch.where(real, 0, -1), real.cumsum(1) - 1)
        hidden = run_branches(parts, stem, branches, {})
        last = hidden[torch.arange(len(hidden), device=hidden.device), real.sum(1) - 1][:, None]
        members = batch.rows.tolist()
        scores = option_head(parts, [options[i] for i in members])(last)[0].float().cpu()
        for at, i in enumerate(members):
            out[i] = scores[at, : len(options[i])]
        progress(len(members))
    return out


def branch_fault(opened: OpenModel) -> str | None:
    """Why this model cannot branch, or None: two prompts of unequal length, in branches and plainly.

    Asked once per model; a fault is logged then. The search works all the same, one pass per cell.
    """
    if opened not in _FAULTS:
        try:
            apart = _self_check(opened)
            fault = None if apart <= _tolerance(opened) else f"scores differ by {apart:.1g} of their scale"
        except (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError, ModelError) as error:
            fault = f"{type(error).__name__}: {error}"
        _FAULTS[opened] = fault
        if fault is not None:
            _LOG.warning("%s cannot run branches (%s); every cell takes its own pass", opened.id, fault)
    return _FAULTS[opened]


def _tolerance(opened: OpenModel) -> float:
    """Half precision rounds differently for every shape of a pass."""
    return 1e-4 if opened.parts.causal.dtype == torch.float32 else 0.05


@torch.inference_mode()
def _self_check(opened: OpenModel) -> float:
    """The largest difference of two edited scores, as a share of the scores' spread."""
    vocabulary = int(opened.model.config.get_text_config().vocab_size)
    rows = [[(7 * k + 3) % vocabulary for k in range(n)] for n in (9, 6)]
    (batch,) = batches(rows, pad=opened.pad_id)
    point = HookPoint(opened.layers // 2)
    direction = torch.linspace(-1, 1, opened.parts.width)
    meant = torch.zeros(batch.tokens.shape, dtype=torch.bool)
    meant[:, -2:] = True
    tokens = [vocabulary // 3, vocabulary // 2]
    sizes: list[Tensor] = []

    def edit(h: Tensor) -> Tensor:
        sizes.append(h.float().norm(dim=-1).mean() / direction.norm())
        here = meant.to(h.device)[..., None]
        return torch.where(here, h + float(sizes[0]) * direction.to(h), h)

    with edit_forward(opened.parts, {point: edit}, lambda _: None):
        plain = option_logprobs(opened, rows, [tokens, tokens])
    cells = [GridCell(point, direction, 0.0), GridCell(point, direction, float(sizes[0]))]
    ours = grid_scores(opened, batch, [tokens, tokens], cells, meant)[1]
    theirs = torch.stack([plain[i] for i in batch.rows.tolist()])
    differences = (ours[:, 0] - ours[:, 1]) - (theirs[:, 0] - theirs[:, 1])
    return float(differences.abs().max() / (theirs[:, 0] - theirs[:, 1]).abs().max().clamp(min=1e-3))
