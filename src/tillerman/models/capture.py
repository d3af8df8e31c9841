"""Read activations: only the hook points asked for, no block above the deepest of them, and what rows
begin with in common only once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.errors import UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import Progress, Row, silent
from tillerman.models.batches import batches, common_prefix, token_budget
from tillerman.models.branches import Branches, DeepEnoughError, run_branches, run_stem
from tillerman.models.edit import Edit, edit_forward
from tillerman.models.grid import branch_fault
from tillerman.models.opened import OpenModel

READS = ("last", "mean")
LONGEST_BRANCH = 32  # rows that differ in more tokens than these do not share a stem,
MOST_BRANCHES = 16  # nor do more rows than these: branches see each other's columns masked


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

    ``read`` is ``last`` (the row's last token) or ``mean`` (over its tokens from ``read_from`` on). Rows
    that begin alike (the answers to one question) are branches of one stem.
    """
    if read not in READS:
        raise UsageError(f"read {read!r}: choose among {', '.join(READS)}")
    points = sorted(set(points))
    for point in points:
        opened.parts.check(point)
    out = {point: torch.empty(len(rows), opened.parts.width_at(point)) for point in points}
    groups = list(_groups(rows, read))
    budget = budget or token_budget(opened.parts)
    if all(len(group.rows) == 1 for group in groups) or branch_fault(opened) is not None:
        pieces = _rows_alone(opened, rows, points, read, budget)
    else:
        pieces = _rows_in_branches(opened, rows, points, read, groups, budget)
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
    for batch in batches([row.tokens for row in rows], pad=opened.pad_id, side="right", budget=budget):
        weights = torch.zeros(batch.tokens.shape)
        for at, i in enumerate(batch.rows.tolist()):
            _mark(weights[at], rows[i], read, 0)
        run = _reading(points, weights.to(opened.device), "bs,bsd->bd")
        device = opened.device
        with edit_forward(opened.parts, run.edits, lambda _: None), suppress(DeepEnoughError):
            opened.model(input_ids=batch.tokens.to(device), attention_mask=batch.mask.to(device), use_cache=False)
        yield batch.rows.tolist(), run.got


@dataclass(frozen=True)
class _Group:
    """Rows whose first ``shared`` tokens are the same."""

    rows: tuple[int, ...]
    shared: int


def _groups(rows: Sequence[Row], read: str) -> Iterator[_Group]:
    """Neighbours in lexical order that share all but their last tokens. What is read is never shared."""
    order = sorted(range(len(rows)), key=lambda i: rows[i].tokens)
    most = [len(row.tokens) - 1 if read == "last" else min(row.read_from, len(row.tokens) - 1) for row in rows]
    start = 0
    while start < len(order):
        first = order[start]
        shared, stop = most[first], start + 1
        while stop < len(order):
            following = order[stop]
            common = min(shared, most[following], common_prefix(rows[first].tokens, rows[following].tokens))
            longest = max(len(rows[i].tokens) for i in order[start : stop + 1])
            if longest - common > min(LONGEST_BRANCH, common // 2) or stop - start >= MOST_BRANCHES:
                break
            shared, stop = common, stop + 1
        yield _Group(tuple(order[start:stop]), shared)
        start = stop


def _rows_in_branches(
    opened: OpenModel,
    rows: Sequence[Row],
    points: Sequence[HookPoint],
    read: str,
    groups: Sequence[_Group],
    budget: int,
) -> Iterator[Piece]:
    stems = [rows[group.rows[0]].tokens[: group.shared] for group in groups]
    for batch in batches(stems, pad=opened.pad_id, budget=budget):
        members = [groups[i] for i in batch.rows.tolist()]
        branches, weights = _branches(opened, rows, members, read)
        stem = run_stem(opened.parts, batch, 0, until=_deepest(points))
        run = _reading(points, weights, "bvq,bqd->bvd")
        with suppress(DeepEnoughError):
            run_branches(opened.parts, stem, branches, run.edits)
        real = [(at, k) for at, group in enumerate(members) for k in range(len(group.rows))]
        at, k = (torch.tensor(side, device=opened.device) for side in zip(*real, strict=True))
        places = [i for group in members for i in group.rows]
        yield places, {point: value[at, k] for point, value in run.got.items()}


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
            got[point] = torch.einsum(how, weights, h.float())
            if len(got) == len(points):
                raise DeepEnoughError
            return h

        return read

    return _Reading({point: reader(point) for point in points}, got)
