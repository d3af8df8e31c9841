"""Read activations: only the hook points asked for, no block above the deepest of them, and what rows
begin with in common only once: the beginning of all, and of the answers to one question the question. Rows of the same
tokens, or of which one goes on from the other, are one row that is read in several places."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.errors import UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import Progress, Row, silent
from tillerman.models.batches import Batch, batches, common_prefix, padded, token_budget
from tillerman.models.beginnings import clusters
from tillerman.models.branches import Branches, DeepEnoughError, Stem, run_branches, run_stem
from tillerman.models.edit import Edit, edit_forward
from tillerman.models.grid import branch_fault
from tillerman.models.memory import copies_at_once, fitting, in_two
from tillerman.models.opened import OpenModel

READS = ("last", "mean")
AT_ONCE = 2**28  # bytes of activations that are kept of one pass, where they are worked off point by point
MOST_QUERIES = 256  # of the branches of a stem: they see each other's columns masked, which costs their square
LEAST_GAIN = 1 / 8  # of the tokens that run: what is saved by less is not worth a pass of its own


@torch.no_grad()  # not inference mode: what is given back must be ordinary tensors
def capture(
    opened: OpenModel,
    rows: Sequence[Row],
    points: Sequence[HookPoint],
    *,
    read: str = "last",
    budget: int | None = None,
    progress: Progress = silent,
) -> dict[HookPoint, Float[Tensor, "n _"]]:
    """The activation of every row at every hook point, float32 on the CPU.

    ``read`` is ``last`` (the row's last token) or ``mean`` (over its tokens from ``read_from`` on).
    """
    if read not in READS:
        raise UsageError(f"read {read!r}: choose among {', '.join(READS)}")
    points = sorted(set(points))
    for point in points:
        opened.parts.check(point)
    out = {point: torch.empty(len(rows), opened.parts.width_at(point)) for point in points}
    budget, read_rows = budget or token_budget(opened.parts), _read_rows(rows, read)
    if branch_fault(opened) is None:
        pieces = _in_branches(opened, read_rows, points, budget)
    else:
        pieces = _rows_alone(opened, read_rows, points, budget)
    for places, values in pieces:
        for point, value in values.items():
            out[point][places] = value.float().cpu()
        progress(len(places))
    return out


Piece = tuple[list[int], dict[HookPoint, Tensor]]  # places in the caller's list, activations [places, d]


def in_passes(points: Sequence[HookPoint], size: int) -> Iterator[Sequence[HookPoint]]:
    """Hook points that are read in one pass, where activations of one have so many bytes."""
    count = max(1, AT_ONCE // size)
    return (points[at : at + count] for at in range(0, len(points), count))


@dataclass(frozen=True)
class _ReadRow:
    """Tokens, and what is read of them: of each reading the place in the caller's list, and the tokens whose mean it
    is, from the first to before the last. The first ``question`` tokens may be those of other rows too."""

    tokens: tuple[int, ...]
    readings: tuple[tuple[int, int, int], ...]
    question: int

    @property
    def unread(self) -> int:
        """So many first tokens are not read; the last one always is."""
        return min(start for _, start, _ in self.readings)


def _read_rows(rows: Sequence[Row], read: str) -> list[_ReadRow]:
    """One for all rows whose tokens it begins with: in a causal model what follows changes nothing."""
    found: list[_ReadRow] = []
    for i in sorted(range(len(rows)), key=lambda i: rows[i].tokens, reverse=True):  # what goes on from a row first
        tokens, stop = rows[i].tokens, len(rows[i].tokens)
        start = stop - 1 if read == "last" else min(rows[i].read_from, stop - 1)
        mine = _ReadRow(tokens, ((i, start, stop),), min(start, rows[i].read_from or start))
        if found and found[-1].tokens[:stop] == tokens:
            last = found.pop()
            mine = _ReadRow(last.tokens, (*last.readings, *mine.readings), min(last.question, mine.question))
        found.append(mine)
    return found


def _rows_alone(
    opened: OpenModel, rows: Sequence[_ReadRow], points: Sequence[HookPoint], budget: int
) -> Iterator[Piece]:
    # Right padding: a causal model's real tokens then never see it, so no family can go wrong.
    work = batches([row.tokens for row in rows], pad=opened.pad_id, side="right", budget=budget)
    for _, piece in fitting(opened.parts, work, partial(_one_pass, opened, rows, points), Batch.halves):
        yield piece


def _one_pass(opened: OpenModel, rows: Sequence[_ReadRow], points: Sequence[HookPoint], batch: Batch) -> Piece:
    members = [rows[i] for i in batch.rows.tolist()]
    weights = torch.zeros(len(members), max(len(row.readings) for row in members), batch.tokens.shape[1])
    for at, row in enumerate(members):
        _mark(weights[at], row, 0)
    run = _reading(points, weights.to(opened.device))
    device = opened.device
    with edit_forward(opened.parts, run.edits, lambda _: None), suppress(DeepEnoughError):
        opened.model(input_ids=batch.tokens.to(device), attention_mask=batch.mask.to(device), use_cache=False)
    return _piece([[row] for row in members], run)


def _in_branches(
    opened: OpenModel, rows: Sequence[_ReadRow], points: Sequence[HookPoint], budget: int
) -> Iterator[Piece]:
    """Beginning, questions, answers: each runs once. What nothing is shared of runs plainly."""
    # The answers to one question count once: they will share it anyway.
    for cluster in clusters([row.tokens[: row.question] for row in rows]):
        groups, begun = list(_groups(rows, cluster.rows, cluster.shared)), None
        if not cluster.shared:
            alone = [rows[group.rows[0]] for group in groups if len(group.rows) == 1]
            yield from _rows_alone(opened, alone, points, budget)
            groups = [group for group in groups if len(group.rows) > 1]
        else:
            (first,) = batches([rows[cluster.rows[0]].tokens[: cluster.shared]], pad=opened.pad_id)
            begun = run_stem(opened.parts, first, 0, until=_deepest(points))
        run = partial(_branched, opened, rows, points, begun=begun)
        copies = copies_at_once(opened.parts, cluster.shared)  # the beginning is copied for each
        for _, piece in fitting(opened.parts, _together(rows, groups, cluster.shared, budget, copies), run, in_two):
            yield piece


@dataclass(frozen=True)
class _Group:
    """Rows whose first ``shared`` tokens are the same."""

    rows: tuple[int, ...]
    shared: int


def _groups(rows: Sequence[_ReadRow], members: Sequence[int], begun: int) -> Iterator[_Group]:
    """Neighbours in lexical order that share so much after the beginning of ``begun`` tokens that running it once
    is worth it. What is read is never shared."""
    order = sorted(members, key=lambda i: rows[i].tokens)
    group: list[int] = []
    shared = 0
    for i in order:
        if group:
            common = min(shared, rows[i].unread, common_prefix(rows[group[0]].tokens, rows[i].tokens))
            branches = sum(len(rows[k].tokens) - common for k in (*group, i))
            saved = (common - begun) - (len(group) - 1) * (shared - common)
            if saved > LEAST_GAIN * (common - begun + branches) and branches <= MOST_QUERIES:
                group.append(i)
                shared = common
                continue
            yield _grouped(group, shared, begun)
        group, shared = [i], rows[i].unread
    if group:
        yield _grouped(group, shared, begun)


def _grouped(group: Sequence[int], shared: int, begun: int) -> _Group:
    """A row alone has no stem of its own."""
    return _Group(tuple(group), shared if len(group) > 1 else begun)


def _together(
    rows: Sequence[_ReadRow], groups: Sequence[_Group], begun: int, budget: int, most: int
) -> Iterator[Sequence[_Group]]:
    """Groups of like sizes, as many as the budget holds, padding counted, and at most ``most``; those with a stem of
    their own apart."""

    def size(group: _Group) -> tuple[int, int]:
        return group.shared - begun, sum(len(rows[i].tokens) - group.shared for i in group.rows)

    some: list[_Group] = []
    widest = (0, 0)
    for group in sorted(groups, key=size):
        stem, branches = size(group)
        wider = (max(widest[0], stem), max(widest[1], branches))
        if some and ((stem == 0) != (widest[0] == 0) or (len(some) + 1) * sum(wider) > budget or len(some) >= most):
            yield some
            some, wider = [], (stem, branches)
        some.append(group)
        widest = wider
    if some:
        yield some


def _branched(
    opened: OpenModel,
    rows: Sequence[_ReadRow],
    points: Sequence[HookPoint],
    members: Sequence[_Group],
    *,
    begun: Stem | None,
) -> Piece:
    """Groups as branches of their own stems, which follow the beginning; a group without a stem of the beginning."""
    first = 0 if begun is None else begun.real.shape[1]
    stem = begun
    if stem is None or members[0].shared > first:
        own = padded([rows[group.rows[0]].tokens[first : group.shared] for group in members], pad=opened.pad_id)
        stem = run_stem(opened.parts, own, 0, until=_deepest(points), after=begun)
    branches, weights = _branches(opened, rows, members)
    run = _reading(points, weights)
    with suppress(DeepEnoughError):
        run_branches(opened.parts, stem, branches, run.edits)
    return _piece([[rows[i] for i in group.rows] for group in members], run)


def _piece(members: Sequence[Sequence[_ReadRow]], run: _Reading) -> Piece:
    """What was read of the rows that lie side by side in each row of a batch, in their order."""
    places = [[place for row in side_by_side for place, _, _ in row.readings] for side_by_side in members]
    real = [(at, k) for at, mine in enumerate(places) for k in range(len(mine))]
    at, k = (torch.tensor(side) for side in zip(*real, strict=True))
    got = {point: value[at.to(value.device), k.to(value.device)] for point, value in run.got.items()}
    return [place for mine in places for place in mine], got


def _branches(
    opened: OpenModel, rows: Sequence[_ReadRow], members: Sequence[_Group]
) -> tuple[Branches, Float[Tensor, "b v q"]]:
    """The rows of each group side by side after their stem, and what of them is read."""
    lengths = [[len(rows[i].tokens) - group.shared for i in group.rows] for group in members]
    queries = max(map(sum, lengths))
    variants = max(sum(len(rows[i].readings) for i in group.rows) for group in members)
    tokens = torch.full((len(members), queries), opened.pad_id)
    owner = torch.full((len(members), queries), -1)
    step = torch.zeros(len(members), queries, dtype=torch.long)
    weights = torch.zeros(len(members), variants, queries)
    for at, group in enumerate(members):
        start = read = 0
        for k, i in enumerate(group.rows):
            stop = start + lengths[at][k]
            tokens[at, start:stop] = torch.tensor(rows[i].tokens[group.shared :])
            owner[at, start:stop] = k
            step[at, start:stop] = torch.arange(stop - start)
            _mark(weights[at, read:, start:stop], rows[i], group.shared)
            start, read = stop, read + len(rows[i].readings)
    device = opened.device
    return Branches(tokens.to(device), owner.to(device), step.to(device)), weights.to(device)


def _deepest(points: Sequence[HookPoint]) -> HookPoint:
    """Where a stem may end: before the last block if only its input is read, else after it."""
    layer = max(point.layer for point in points)
    inside = any(point.layer == layer and point.site != "resid_pre" for point in points)
    return HookPoint(layer, "resid_post" if inside else "resid_pre")


def _mark(weights: Float[Tensor, "v s"], row: _ReadRow, left_out: int) -> None:
    """Weight the tokens that each reading of a row is the mean of; its first ``left_out`` are not among ``weights``."""
    for mine, (_, start, stop) in zip(weights, row.readings, strict=False):
        mine[start - left_out : stop - left_out] = 1.0 / (stop - start)


@dataclass(frozen=True)
class _Reading:
    """Edits that change nothing and keep what they see; the last one ends the pass."""

    edits: dict[HookPoint, Edit]
    got: dict[HookPoint, Tensor]


def _reading(points: Sequence[HookPoint], weights: Float[Tensor, "b v s"]) -> _Reading:
    got: dict[HookPoint, Tensor] = {}

    def reader(point: HookPoint) -> Callable[[Tensor], Tensor]:
        def read(h: Tensor) -> Tensor:
            got[point] = torch.einsum("bvs,bsd->bvd", weights.to(h.device), h.float())
            if len(got) == len(points):
                raise DeepEnoughError
            return h

        return read

    return _Reading({point: reader(point) for point in points}, got)
