"""Cells of a grid on a live model: one edit each, worked off many to a pass, as branches of the same prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tillerman.core.hookpoint import HookPoint
from tillerman.core.operators import applied, prepared
from tillerman.core.rows import Progress
from tillerman.models.batches import Batch, token_budget
from tillerman.models.branches import Branches, Stem, run_branches, run_stem
from tillerman.models.edit import Edit
from tillerman.models.families import Anatomy
from tillerman.models.memory import fitting, in_two
from tillerman.models.opened import OpenModel
from tillerman.models.restart import Restart, border_of

MOST_QUERIES = 512  # per row and pass: branches see each other's columns masked, which costs their square


@dataclass(frozen=True, eq=False)
class GridCell:
    """One edit: ``operator(h, direction, strength)`` at a hook point, on the tokens of the scope.

    What is left of a ``core.Cell`` and a vector for the inner loop: one hook point, the operand as a tensor, no scope
    (its tokens are ``Variants.meant``). ``evaluation.grid`` makes it of an intervention.
    """

    point: HookPoint
    direction: Float[Tensor, " d"]
    strength: float
    operator: str = "add"


def unedited(parts: Anatomy) -> GridCell:
    """The cell that changes nothing, at the top: what the unsteered pass gave is handed on, and no block runs."""
    return GridCell(HookPoint(len(parts.blocks) - 1), torch.zeros(parts.width), 0.0)


@dataclass(frozen=True, eq=False)
class Variants:
    """How the prompts may go on, unsteered: every cell is all of them, edited at the tokens ``meant``.
    ``entering[border]`` is what enters a block at their tokens."""

    branches: Branches
    meant: Bool[Tensor, "b q"]
    entering: Mapping[int, Float[Tensor, "b q d"]]


@dataclass(frozen=True, eq=False)
class Lead:
    """What all prompts begin with, where cells edit tokens of it: it runs once for each cell, in one row.
    ``entering[border]`` is what enters a block at its tokens, unsteered."""

    batch: Batch
    meant: Bool[Tensor, "1 r"]
    entering: Mapping[int, Float[Tensor, "1 r d"]]


def cells_in_passes(
    opened: OpenModel,
    stem: Stem,
    variants: Variants,
    cells: Sequence[GridCell],
    progress: Progress,
    *,
    lead: Lead | None = None,
) -> Iterator[tuple[list[int], Float[Tensor, "b c q d"]]]:
    """Cells of one hook point and operator at a time, as many as a pass holds, with what the decoder gives
    at every token of their variants. With a ``lead``, which takes the place of what the stem keeps, one cell at a
    time: each has keys and values of its own."""
    rows, queries = variants.meant.shape
    size = 1 if lead is not None else max(1, min(MOST_QUERIES, token_budget(opened.parts) // rows) // queries)

    def run(group: Sequence[int]) -> Tensor:
        mine = [cells[i] for i in group]
        begun = stem if lead is None else replace(stem, cache=_led(opened.parts, lead, mine[0]).cache)
        return _run_cells(opened.parts, begun, variants, mine)

    for group, hidden in fitting(opened.parts, _groups(cells, size), run, in_two):
        yield [*group], hidden.reshape(rows, len(group), queries, -1)
        progress(len(group) * rows)


def _led(parts: Anatomy, lead: Lead, cell: GridCell) -> Stem:
    """The beginning under a cell."""
    restart = Restart(border_of(cell.point), lead.entering[border_of(cell.point)])
    edits = {cell.point: _edit_of([cell], lead.meant, restart.hidden)}
    return run_stem(parts, lead.batch, 0, edits=edits, restart=restart)


def _groups(cells: Sequence[GridCell], size: int) -> Iterator[Sequence[int]]:
    """Cells of one hook point and operator, as many at a time as fit one pass."""
    kinds: dict[tuple[HookPoint, str], list[int]] = {}
    for i, cell in enumerate(cells):
        kinds.setdefault((cell.point, cell.operator), []).append(i)
    for members in kinds.values():
        for start in range(0, len(members), size):
            yield members[start : start + size]


def _run_cells(parts: Anatomy, stem: Stem, variants: Variants, cells: Sequence[GridCell]) -> Tensor:
    """What the decoder gives at the tokens of all variants under each cell in turn, ``[b, c * q, d]``. All
    cells have one hook point and operator."""
    queries, count = variants.meant.shape[1], len(cells)
    point = cells[0].point
    entering = variants.entering[border_of(point)]
    one = variants.branches
    cell = torch.arange(count, device=one.tokens.device).repeat_interleave(queries)
    owner = one.owner.repeat(1, count)
    branches = Branches(
        one.tokens.repeat(1, count),
        torch.where(owner < 0, -1, owner + cell * (one.owner.max() + 1)),
        one.step.repeat(1, count),
    )
    edit = _edit_of(cells, variants.meant, entering)
    restart = Restart(border_of(point), entering.repeat(1, count, 1))
    return run_branches(parts, stem, branches, {point: edit}, restart=restart)


def _edit_of(cells: Sequence[GridCell], meant: Bool[Tensor, "b q"], entering: Tensor) -> Edit:
    """Of tokens ``[b, c * q, d]``, those of each cell in turn."""
    operator, queries = cells[0].operator, meant.shape[1]
    vectors, strengths = prepared(operator, [c.direction for c in cells], [c.strength for c in cells], entering)
    vectors, strengths = vectors.repeat_interleave(queries, 0), strengths.repeat_interleave(queries, 0)
    # Strength 0 is no steering, whatever the operator makes of it.
    here = meant.to(entering.device).repeat(1, len(cells))[..., None] & (strengths != 0)

    def edit(h: Tensor) -> Tensor:
        mine, v, strength = (t.to(h.device) for t in (here, vectors, strengths))  # a model may be split
        return torch.where(mine, applied(operator, h, v, strength), h)

    return edit
