"""Read activations: only the hook points asked for, no block above the deepest of them, and what rows
begin with in common only once: the beginning of all, and of the answers to one question the question."""

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
    budget = budget or token_budget(opened.parts)
    if branch_fault(opened) is None:
        pieces = _in_branches(opened, rows, points, read, budget)
    else:
        pieces = _rows_alone(opened, rows, points, read, budget)
    for places, values in pieces:
        for point, value in values.items():
            out[point][places] = value.float().cpu()
        progress(len(places))
    return out


Piece = tuple[list[int], dict[HookPoint, Tensor]]  # places in the caller's list, activations [places, d]


def _rows_alone(
    opened: OpenModel, rows: Sequence[Row], points: Sequence[HookPoint], read: str, budget: int
) -> Iterator[Piece]:
    # Right padding: a causal model's real tokens then never see it, so no family can go wrong.
    work = batches([row.tokens for row in rows], pad=opened.pad_id, side="right", budget=budget)
    for batch, got in fitting(opened.parts, work, partial(_one_pass, opened, rows, points, read), Batch.halves):
        yield batch.rows.tolist(), got


def _one_pass(
    opened: OpenModel, rows: Sequence[Row], points: Sequence[HookPoint], read: str, batch: Batch
) -> dict[HookPoint, Tensor]:
    weights = torch.zeros(batch.tokens.shape)
    for at, i in enumerate(batch.rows.tolist()):
        _mark(weights[at], rows[i], read, 0)
    run = _reading(points, weights.to(opened.device), "bs,bsd->bd")
    device = opened.device
    with edit_forward(opened.parts, run.edits, lambda _: None), suppress(DeepEnoughError):
        opened.model(input_ids=batch.tokens.to(device), attention_mask=batch.mask.to(device), use_cache=False)
    return run.got


def _in_branches(
    opened: OpenModel, rows: Sequence[Row], points: Sequence[HookPoint], read: str, budget: int
) -> Iterator[Piece]:
    """Beginning, questions, answers: each runs once. What nothing is shared of runs plainly."""
    most = [len(row.tokens) - 1 if read == "last" else min(row.read_from, len(row.tokens) - 1) for row in rows]
    # The answers to one question count once: they will share it anyway.
    questions = [row.tokens[: min(k, row.read_from or k)] for row, k in zip(rows, most, strict=True)]
    for cluster in clusters(questions):
        groups, begun = list(_groups(rows, cluster.rows, most, cluster.shared)), None
        if not cluster.shared:
            alone = [group.rows[0] for group in groups if len(group.rows) == 1]
            for places, values in _rows_alone(opened, [rows[i] for i in alone], points, read, budget):
                yield [alone[i] for i in places], values
            groups = [group for group in groups if len(group.rows) > 1]
        else:
            (first,) = batches([rows[cluster.rows[0]].tokens[: cluster.shared]], pad=opened.pad_id)
            begun = run_stem(opened.parts, first, 0, until=_deepest(points))
        run = partial(_branched, opened, rows, points, read, begun=begun)
        copies = copies_at_once(opened.parts, cluster.shared)  # the beginning is copied for each
        for _, piece in fitting(opened.parts, _together(rows, groups, cluster.shared, budget, copies), run, in_two):
            yield piece


@dataclass(frozen=True)
class _Group:
    """Rows whose first ``shared`` tokens are the same."""

    rows: tuple[int, ...]
    shared: int


def _groups(rows: Sequence[Row], members: Sequence[int], most: Sequence[int], begun: int) -> Iterator[_Group]:
    """Neighbours in lexical order that share so much after the beginning of ``begun`` tokens that running it once
    is worth it. What is read is never shared."""
    order = sorted(members, key=lambda i: rows[i].tokens)
    group: list[int] = []
    shared = 0
    for i in order:
        if group:
            common = min(shared, most[i], common_prefix(rows[group[0]].tokens, rows[i].tokens))
            branches = sum(len(rows[k].tokens) - common for k in (*group, i))
            saved = (common - begun) - (len(group) - 1) * (shared - common)
            if saved > LEAST_GAIN * (common - begun + branches) and branches <= MOST_QUERIES:
                group.append(i)
                shared = common
                continue
            yield _grouped(group, shared, begun)
        group, shared = [i], most[i]
    if group:
        yield _grouped(group, shared, begun)


def _grouped(group: Sequence[int], shared: int, begun: int) -> _Group:
    """A row alone has no stem of its own."""
    return _Group(tuple(group), shared if len(group) > 1 else begun)


def _together(
    rows: Sequence[Row], groups: Sequence[_Group], begun: int, budget: int, most: int
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
    rows: Sequence[Row],
    points: Sequence[HookPoint],
    read: str,
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
    branches, weights = _branches(opened, rows, members, read)
    run = _reading(points, weights, "bvq,bqd->bvd")
    with suppress(DeepEnoughError):
        run_branches(opened.parts, stem, branches, run.edits)
    real = [(at, k) for at, group in enumerate(members) for k in range(len(group.rows))]
    at, k = (torch.tensor(side) for side in zip(*real, strict=True))
    places = [i for group in members for i in group.rows]
    return places, {point: value[at.to(value.device), k.to(value.device)] for point, value in run.got.items()}


def _branches(
    opened: OpenModel, rows: Sequence[Row], members: Sequence[_Group], read: str
) -> tuple[Branches, Float[Tensor, "b v q"]]:
    """The rows of each group side by side after their stem, and what of them is read."""
    lengths = [[len(rows[i].tokens) - group.shared for i in group.rows] for group in members]
    queries, variants = max(map(sum, lengths)), max(map(len, lengths))
    tokens = torch.full((len(members), queries), opened.pad_id)
    owner = torch.full((len(members), queries), -1)
    step = torch.zeros(len(members), queries, dtype=torch.long)
    weights = torch.zeros(len(members), variants, queries)
    for at, group in enumerate(members):
        start = 0
        for k, i in enumerate(group.rows):
            stop = start + lengths[at][k]
            tokens[at, start:stop] = torch.tensor(rows[i].tokens[group.shared :])
            owner[at, start:stop] = k
            step[at, start:stop] = torch.arange(stop - start)
            _mark(weights[at, k, start:stop], rows[i], read, group.shared)
            start = stop
    device = opened.device
    return Branches(tokens.to(device), owner.to(device), step.to(device)), weights.to(device)


def _deepest(points: Sequence[HookPoint]) -> HookPoint:
    """Where a stem may end: before the last block if only its input is read, else after it."""
    layer = max(point.layer for point in points)
    inside = any(point.layer == layer and point.site != "resid_pre" for point in points)
    return HookPoint(layer, "resid_post" if inside else "resid_pre")


def _mark(weights: Float[Tensor, " s"], row: Row, read: str, left_out: int) -> None:
    """Weight the tokens of one row that are read; the first ``left_out`` are not among ``weights``."""
    length = len(row.tokens) - left_out
    start = length - 1 if read == "last" else row.read_from - left_out
    weights[start:length] = 1.0 / (length - start)


@dataclass(frozen=True)
class _Reading:
    """Edits that change nothing and keep what they see; the last one ends the pass."""

    edits: dict[HookPoint, Edit]
    got: dict[HookPoint, Tensor]


def _reading(points: Sequence[HookPoint], weights: Tensor, how: str) -> _Reading:
    got: dict[HookPoint, Tensor] = {}

    def reader(point: HookPoint) -> Callable[[Tensor], Tensor]:
        def read(h: Tensor) -> Tensor:
            got[point] = torch.einsum(how, weights.to(h.device), h.float())
            if len(got) == len(points):
                raise DeepEnoughError
            return h

        return read

    return _Reading({point: reader(point) for point in points}, got)
