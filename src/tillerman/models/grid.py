"""Scores of answer options under many edits of the same prompts: the inner loop of a search.

Edits of the last tokens leave the keys and values of all earlier tokens as they are, and the blocks
below the edited one too. So a prompt runs once, and a cell costs its last tokens in the blocks above.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tillerman.core.errors import ModelError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import Progress, silent
from tillerman.models.batches import Batch, batches
from tillerman.models.beginnings import Beginning, begin, ordinal, rests
from tillerman.models.branches import Branches, DeepEnoughError, Stem, run_branches, run_stem
from tillerman.models.cells import GridCell, Lead, Variants, cells_in_passes
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


def stem_for(
    parts: Anatomy, batch: Batch, meant: Bool[Tensor, "b s"], borders: Sequence[int], beginning: Beginning | None
) -> tuple[Stem, Bool[Tensor, "b t"], Lead | None]:
    """What no cell changes, run once; which of the last tokens cells edit; and the beginning, where they edit it too.
    Where they do not edit it alike in all prompts it is not shared."""
    if beginning is not None:
        size = len(beginning.tokens)
        rest, mine = rests(batch, size), meant[:, size:] & ordinal(batch)[:, size:].gt(size)
        inside = meant[ordinal(batch).gt(0) & ordinal(batch).le(size)].view(-1, size)
        if not bool(inside.any()):
            tail = max(1, tail_of(mine))
            stem = run_stem(parts, rest, tail, borders, after=beginning.stem)
            return stem, mine[:, mine.shape[1] - tail :], None
        if bool((inside == inside[0]).all()):
            entering = run_stem(parts, beginning.batch, size, borders).entering
            lead = Lead(beginning.batch, inside[:1].to(parts.device), entering)
            return run_stem(parts, rest, mine.shape[1], borders, after=beginning.stem), mine, lead
    tail = max(1, tail_of(meant))
    return run_stem(parts, batch, tail, borders), meant[:, meant.shape[1] - tail :], None


@dataclass(frozen=True, eq=False)
class Ready:
    """Prompts that were run once, unsteered, and wait for cells. ``places`` as ``answer_branches`` gives them; None
    where an option is one token."""

    stem: Stem
    variants: Variants
    lead: Lead | None
    places: Int[Tensor, "n 4"] | None = None


@torch.inference_mode()
def ready_for_options(
    opened: OpenModel,
    batch: Batch,
    meant: Bool[Tensor, "b s"],
    borders: Sequence[int],
    beginning: Beginning | None = None,
) -> Ready:
    """For cells that begin at one of ``borders``; all else as ``grid_scores`` takes it."""
    stem, here, lead = stem_for(opened.parts, batch, meant, borders, beginning)
    ends = Branches(stem.tail, torch.where(stem.tail_real, 0, -1), (stem.tail_real.cumsum(1) - 1).clamp(min=0))
    return Ready(stem, Variants(ends, here.to(opened.device), stem.entering), lead)


@torch.inference_mode()
def ready_for_answers(
    opened: OpenModel,
    batch: Batch,
    answers: Sequence[Sequence[Sequence[int]]],
    meant: Bool[Tensor, "b s"],
    meant_after: Bool[Tensor, "b a"],
    borders: Sequence[int],
    beginning: Beginning | None = None,
) -> Ready:
    """The same for ``grid_answer_scores``: the answers too were run once."""
    stem, ends, lead = stem_for(opened.parts, batch, meant, borders, beginning)
    branches, here, places = answer_branches(stem, answers, ends, meant_after, opened.pad_id)
    entering = entering_of(opened.parts, stem, branches, borders)
    return Ready(stem, Variants(branches, here, entering), lead, places.to(opened.device))


@torch.inference_mode()
def grid_scores(
    opened: OpenModel,
    batch: Batch,
    options: Sequence[Sequence[int]],
    cells: Sequence[GridCell],
    meant: Bool[Tensor, "b s"],
    *,
    beginning: Beginning | None = None,
    ready: Ready | None = None,
    progress: Progress = silent,
) -> Float[Tensor, "c b o"]:
    """The logit of each prompt's option tokens under each cell, ``-inf`` beyond a prompt's last option.

    Logits order options as log-probabilities do, and need no pass over the vocabulary. ``meant`` marks
    the tokens that the cells edit. ``beginning`` is what all prompts begin with, run before; each has a token
    beyond it. ``ready``: the prompts where they were run before. ``progress`` is told prompts times cells.
    """
    if ready is None:
        ready = ready_for_options(opened, batch, meant, borders_of(cells), beginning)
    head = option_head(opened.parts, options)
    out = torch.full((len(cells), len(batch.rows), max(map(len, options))), -torch.inf)
    for group, hidden in cells_in_passes(opened, ready.stem, ready.variants, cells, progress, lead=ready.lead):
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
    beginning: Beginning | None = None,
    ready: Ready | None = None,
    progress: Progress = silent,
) -> Float[Tensor, "c b o"]:
    """The mean log-probability per token of each prompt's whole answers under each cell, ``-inf`` beyond a
    prompt's last answer. ``meant_after[b, j]`` says whether the cells edit the j-th token after prompt b.
    """
    parts, device = opened.parts, opened.device
    if ready is None:
        ready = ready_for_answers(opened, batch, answers, meant, meant_after, borders_of(cells), beginning)
    assert ready.places is not None
    out = torch.full((len(cells), len(batch.rows), max(map(len, answers))), -torch.inf)
    rows, options, queries, tokens = ready.places.unbind(1)
    lengths = torch.zeros(out.shape[1:], device=device)
    lengths.index_put_((rows, options), torch.ones(len(rows), device=device), accumulate=True)
    for group, hidden in cells_in_passes(opened, ready.stem, ready.variants, cells, progress, lead=ready.lead):
        each = token_logprobs(parts, hidden[rows, :, queries], tokens)
        sums = torch.zeros(*lengths.shape, len(group), device=device)
        sums.index_put_((rows, options), each, accumulate=True)
        means = torch.where(lengths[..., None] > 0, sums / lengths[..., None], -torch.inf)
        out[group] = means.permute(2, 0, 1).cpu()
    return out


def borders_of(cells: Sequence[GridCell]) -> list[int]:
    return sorted({border_of(cell.point) for cell in cells})


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
    theirs = torch.stack([plain[i] for i in batch.rows.tolist()])
    wanted = theirs[:, 0] - theirs[:, 1]
    apart = []
    for beginning in (None, begin(opened.parts, rows[0][:3])):
        ours = grid_scores(opened, batch, [tokens, tokens], cells, meant, beginning=beginning)[1]
        apart.append((ours[:, 0] - ours[:, 1] - wanted).abs().max())
    return float(torch.stack(apart).max() / wanted.abs().max().clamp(min=1e-3))
