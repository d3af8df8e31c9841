"""Read the contrast sets of all methods off a model, for every candidate hook point, in one pass over their rows.

Rows stream by in chunks. Where all estimators ask for means only, nothing but running moments is kept, of the
true labels and of every shuffled dealing of them; else the rows are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import ContrastSet, Progress, Row, silent
from tillerman.core.scratch import scratch
from tillerman.core.store import Store
from tillerman.methods.fit import Activations, dealt, shuffled
from tillerman.models.capture import capture
from tillerman.models.moments import Moments
from tillerman.models.opened import OpenModel

CHUNK_BYTES = 64 * 2**20  # of activations; finished chunks are stored


@dataclass(frozen=True, eq=False)
class Reading:
    """What was read for one method: under its labels, and what its shuffled-label null is made from."""

    activations: Activations
    nulls: Mapping[int, Activations]  # by seed, where means are all that was kept

    def shuffled(self, seed: int) -> Activations:
        return self.nulls[seed] if self.nulls else shuffled(self.activations, seed)


def read_contrasts(
    opened: OpenModel,
    contrasts: Mapping[str, ContrastSet],
    points: Sequence[HookPoint],
    *,
    read_site: str,
    read: str,
    keep_rows: bool,
    shuffles: Sequence[int],
    store: Store,
    progress: Progress = silent,
) -> dict[str, Reading]:
    """Both sides of every contrast set at each of ``points`` (where the vector will be added), read at
    ``read_site`` of the same block. The two sites are one and the same unless a recipe asks otherwise (PAS
    reads the input of a block and adds at its output).

    A row that several sets have runs once. ``keep_rows`` keeps what was read of every row (an estimator wants
    them), else the means of both sides under the true labels and under the shuffled ones of each seed.
    Finished chunks are in ``store``, by model, rows and all that is asked of them.
    """
    rows = _distinct(contrasts)
    source = {point: HookPoint(point.layer, read_site) for point in points}
    sites = sorted({*points, *source.values()})
    keeper: _Keeper = _Rows(contrasts, points) if keep_rows else _Means(contrasts, points, shuffles)
    asked = [list(contrasts.values()), points, read_site, read, keep_rows, () if keep_rows else tuple(shuffles)]
    here = store.scoped(opened.identity, asked)

    def run(chunk: list[int]) -> dict[str, Tensor]:
        got = capture(opened, [rows[i] for i in chunk], sites, read=read, progress=progress)
        norms = {point: got[point].norm(dim=-1, keepdim=True) for point in points}
        return keeper.digest(chunk, {p: torch.cat([got[source[p]], norms[p]], dim=1) for p in points})

    width = sum(opened.parts.width_at(site) for site in sites)
    for number, chunk in enumerate(_chunks(rows, width)):
        keeper.add(chunk, here.tensors(f"activations {number}", lambda chunk=chunk: run(chunk)))  # type: ignore[misc]
    return {name: keeper.reading(name) for name in contrasts}


def _distinct(contrasts: Mapping[str, ContrastSet]) -> list[Row]:
    return list(dict.fromkeys(row for one in contrasts.values() for row in (*one.positive, *one.negative)))


def _chunks(rows: Sequence[Row], width: int) -> Iterator[list[int]]:
    """Places of rows; those that begin alike stay together, since they share a stem."""
    order = sorted(range(len(rows)), key=lambda i: rows[i].tokens)
    size = max(64, CHUNK_BYTES // (4 * width))
    return (order[at : at + size] for at in range(0, len(order), size))


# Of each row what was read and, in the last column, the stream's norm where the vector will be added.
Table = Float[Tensor, "n _"]


class _Keeper(Protocol):
    """What is kept of the tables that stream by: ``digest`` says it of one chunk, ``add`` takes it in."""

    def digest(self, chunk: list[int], tables: Mapping[HookPoint, Table]) -> dict[str, Tensor]: ...
    def add(self, chunk: list[int], digest: Mapping[str, Tensor]) -> None: ...
    def reading(self, name: str) -> Reading: ...


class _Rows:
    """Every row, in a file where memory would not hold them."""

    def __init__(self, contrasts: Mapping[str, ContrastSet], points: Sequence[HookPoint]) -> None:
        self._contrasts, self._points = contrasts, points
        self._places = _places(contrasts)
        self._tables: dict[HookPoint, Table] = {}

    def digest(self, chunk: list[int], tables: Mapping[HookPoint, Table]) -> dict[str, Tensor]:
        del chunk
        return {str(point): table for point, table in tables.items()}

    def add(self, chunk: list[int], digest: Mapping[str, Tensor]) -> None:
        if not self._tables:
            rows = 1 + max(int(p.max()) for p in self._places.values())
            width = digest[str(self._points[0])].shape[1]
            self._tables = dict(zip(self._points, scratch(len(self._points), rows, width), strict=True))
        for point in self._points:
            self._tables[point][chunk] = digest[str(point)]

    def reading(self, name: str) -> Reading:
        one, places = self._contrasts[name], self._places[name]
        positive, negative = places[: len(one.positive)], places[len(one.positive) :]
        return Reading(
            Activations(
                {point: table[positive, :-1] for point, table in self._tables.items()},
                {point: table[negative, :-1] for point, table in self._tables.items()},
                {point: float(table[places, -1].mean()) for point, table in self._tables.items()},
                one.paired,
            ),
            {},
        )


class _Means:
    """Running moments of both sides of every method, under its labels and under each shuffled dealing."""

    def __init__(
        self, contrasts: Mapping[str, ContrastSet], points: Sequence[HookPoint], shuffles: Sequence[int]
    ) -> None:
        self._contrasts, self._points, self._shuffles = contrasts, points, shuffles
        sides: list[Int[Tensor, " n"]] = []
        self._first: dict[str, int] = {}  # the group of a method's positive side; the negative one is next
        places = _places(contrasts)
        for name, one in contrasts.items():
            self._first[name] = len(sides)
            n, m = len(one.positive), len(one.negative)
            sides += [places[name][:n], places[name][n:]]
            sides += [places[name][side] for seed in shuffles for side in dealt(n, m, one.paired, seed)]
        rows = 1 + max(int(p.max()) for p in places.values())
        self._weights = torch.stack([torch.bincount(side, minlength=rows) for side in sides])
        self._moments: dict[HookPoint, Moments] = {}

    def digest(self, chunk: list[int], tables: Mapping[HookPoint, Table]) -> dict[str, Tensor]:
        out: dict[str, Tensor] = {}
        for point, table in tables.items():
            moments = Moments.of(table, self._weights[:, chunk])
            out |= {f"{point} count": moments.count, f"{point} mean": moments.mean, f"{point} m2": moments.m2}
        return out

    def add(self, chunk: list[int], digest: Mapping[str, Tensor]) -> None:
        del chunk
        for point in self._points:
            new = Moments(digest[f"{point} count"], digest[f"{point} mean"], digest[f"{point} m2"])
            self._moments[point] = self._moments[point].merge(new) if point in self._moments else new

    def reading(self, name: str) -> Reading:
        first = self._first[name]
        nulls = {seed: self._sides(name, first + 2 * k) for k, seed in enumerate(self._shuffles, start=1)}
        return Reading(self._sides(name, first), nulls)

    def _sides(self, name: str, at: int) -> Activations:
        one = self._contrasts[name]
        n, m = len(one.positive), len(one.negative)
        mean = {point: moments.mean[at : at + 2] for point, moments in self._moments.items()}
        return Activations(
            {point: both[:1, :-1] for point, both in mean.items()},
            {point: both[1:, :-1] for point, both in mean.items()},
            {point: float((n * both[0, -1] + m * both[1, -1]) / (n + m)) for point, both in mean.items()},
            one.paired,
        )


def _places(contrasts: Mapping[str, ContrastSet]) -> dict[str, Int[Tensor, " n"]]:
    """Where each method's rows, positive and then negative, stand among the distinct ones."""
    place = {row: i for i, row in enumerate(_distinct(contrasts))}
    return {
        name: torch.tensor([place[row] for row in (*one.positive, *one.negative)]) for name, one in contrasts.items()
    }
