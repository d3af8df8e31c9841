"""Coarse to fine: which cells of a grid are looked at, and in which order.

A first pass over few cells that lie evenly apart; then, round by round, the neighbours of the best of those, at half
the distance, until they are neighbours in the grid itself; then those of the best cell until all are known. A search
is a generator: it yields the cells that it wants looked at and is sent what was seen, so that several searches (a
vector's and its nulls') ask in one go.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tillerman.selection.choice import Broken, Candidate, ordered

WHOLE = 24  # a vector with no more cells than these is looked at whole: there is little to save
PLACES, DOSES = 8, 2  # of a vector, in the first pass
BEAM = 3  # cells whose neighbours are looked at
BEAM_OF_DEAR = 2  # the same where a cell is dear
REFINED = 24  # cells that are looked at after the first pass, about
MOST_ASKED = 4  # cells that a round asks for their costs, unless no other cell is to be looked at


@dataclass(frozen=True)
class Look:
    """What was seen of a cell: ``score`` chooses; ``guide`` tells where to look on among equal scores."""

    score: float
    guide: float = 0.0


Seen = dict[Candidate, Look]
Looking = Generator[tuple[Candidate, ...], Sequence[Look], Seen]


def whole(grid: Sequence[Candidate]) -> Looking:
    """Every cell, at once."""
    looks = yield tuple(grid)
    return dict(zip(grid, looks, strict=True))


def coarse_to_fine(
    grid: Sequence[Candidate],
    ties: str,
    keeps: Callable[[Candidate], bool] | None = None,
    *,
    few: frozenset[str] = frozenset(),
    dear: bool = False,
    most: int | None = None,
) -> Looking:
    """The cells of ``grid`` that are worth a look, in its order.

    ``keeps``: whether a cell keeps the budget (None: none is set); asked of the best cells only, since it is dear.
    ``few``: methods that begin with fewer cells, such as a vector's second reading. ``dear``: a look costs as much as
    the budget; all methods begin with few cells, of small doses, and the neighbours of fewer cells are looked at.
    ``most``: cells at most; the first pass is thinned out to fit.
    """
    few = frozenset(one.method for one in grid) if dear else few
    lattice, beam = _Lattice(grid, few, most, dear), _Beam(grid, ties, keeps, BEAM_OF_DEAR if dear else BEAM)
    seen: Seen = {}
    asked, level = lattice.first, 0

    def out(one: Candidate) -> bool:
        return one in seen or beam.breaks(one)

    while asked:
        looks = yield asked
        seen |= zip(asked, looks, strict=True)
        asked = ()
        while not asked:
            best, broken, done = beam.of(seen)
            while not asked and level < lattice.levels:
                level += 1
                asked = lattice.around(best, broken, level, out)
            asked = asked or lattice.around(best[:1], broken, level, out)
            if done:
                break
        if most is not None:
            asked = asked[: max(0, most - len(seen))]
    return {one: seen[one] for one in grid if one in seen}


def together(searches: Sequence[Looking], ask: Callable[[list[Candidate]], Sequence[Look]]) -> list[Seen]:
    """Several searches in step: what all of them want is asked at once."""
    found: list[Seen | None] = [None] * len(searches)
    wanted = {k: next(one) for k, one in enumerate(searches)}
    while wanted:
        looks = iter(ask([candidate for asked in wanted.values() for candidate in asked]))
        answered = {k: [next(looks) for _ in asked] for k, asked in wanted.items()}
        wanted = {}
        for k, mine in answered.items():
            try:
                wanted[k] = searches[k].send(mine)
            except StopIteration as end:
                found[k] = end.value
    return [one for one in found if one is not None]


class _Beam:
    """Around which cells to look on."""

    def __init__(
        self, grid: Sequence[Candidate], ties: str, keeps: Callable[[Candidate], bool] | None, wide: int
    ) -> None:
        self._grid, self._ties, self._keeps, self._wide = grid, ties, keeps, wide
        self._broken = Broken()

    def breaks(self, one: Candidate) -> bool:
        """Whether it is known to break the budget, so that it can be neither chosen nor a guide."""
        return self._broken.known(one)

    def of(self, seen: Mapping[Candidate, Look]) -> tuple[list[Candidate], list[Candidate], bool]:
        """The cell that would be chosen now, where it steers, with the best others by score and guide; better ones that
        are too dear, below whose doses there may be one that is not; and whether no more cells have to be asked for
        their costs before this is known."""
        mine = [one for one in self._grid if one in seen]
        best: list[Candidate] = []
        dear: dict[object, Candidate] = {}  # the smallest dose of a line that breaks the budget
        fresh = 0
        for k in ordered(mine, [seen[one].score for one in mine], self._ties):
            one = mine[k]
            if one.cell.strength == 0 or fresh == MOST_ASKED:
                break
            known = self._broken.known(one)
            if not known:
                fresh += 1
                if self._keeps is None or self._keeps(one):
                    best.append(one)
                    break
                self._broken.add(one)
            if one.line not in dear or abs(one.dose) < abs(dear[one.line].dose):
                dear[one.line] = one
        rest = [one for one in mine if one.cell.strength and one not in best and not self._broken.known(one)]
        rest.sort(key=lambda one: (-seen[one].score, -seen[one].guide))
        return (
            best + rest[: self._wide - len(best)],
            list(dear.values())[: self._wide],
            fresh < MOST_ASKED or bool(best),
        )


@dataclass(frozen=True)
class _Lane:
    """The cells of one vector on one side of 0: places in order of depth, each with its doses from the smallest."""

    places: tuple[tuple[Candidate, ...], ...]
    apart: tuple[int, int]  # places and doses from one cell of the first pass to the next
    start: int  # the first pass's smallest dose

    @property
    def levels(self) -> int:
        """How often both distances are halved until they are 1."""
        return max(self.apart).bit_length() - 1

    @property
    def first(self) -> list[Candidate]:
        place, dose = self.apart
        rows = self.places[min(place // 2, len(self.places) - 1) :: place]
        return [one for row in rows for one in row[min(self.start, len(row) - 1) :: dose]]

    def around(self, one: Candidate, level: int) -> Iterable[Candidate]:
        place, dose = (max(1, step >> level) for step in self.apart)
        at, k = self._where(one)
        for i, j in ((at, k - dose), (at, k + dose), (at - place, k), (at + place, k)):
            if 0 <= i < len(self.places) and 0 <= j < len(self.places[i]):
                yield self.places[i][j]

    def below(self, one: Candidate, level: int) -> Iterable[Candidate]:
        """The next smaller dose."""
        at, k = self._where(one)
        return self.places[at][max(0, k - max(1, self.apart[1] >> level)) : k][:1]

    def _where(self, one: Candidate) -> tuple[int, int]:
        return next((i, row.index(one)) for i, row in enumerate(self.places) if one in row)


class _Lattice:
    """A grid as lanes. Cells of strength 0 lie outside and are in the first pass."""

    def __init__(self, grid: Sequence[Candidate], few: frozenset[str], most: int | None, dear: bool) -> None:
        sides: dict[tuple[str, bool], dict[tuple[object, ...], list[Candidate]]] = {}
        for one in grid:
            if one.cell.strength:
                sides.setdefault((one.method, one.dose > 0), {}).setdefault(one.line, []).append(one)
        self._of: dict[Candidate, _Lane] = {}
        rest = [one for one in grid if not one.cell.strength]
        room = None if most is None else (most - len(rest)) // max(1, 2 * len(sides))
        self._lanes = [_lane(rows.values(), method in few, room, dear) for (method, _), rows in sides.items()]
        self.first = (*rest, *(one for lane in self._lanes for one in lane.first))[:most]
        self.levels = max((lane.levels for lane in self._lanes), default=0)
        for lane in self._lanes:
            self._of |= {one: lane for row in lane.places for one in row}

    def around(
        self, best: Sequence[Candidate], dear: Sequence[Candidate], level: int, out: Callable[[Candidate], bool]
    ) -> tuple[Candidate, ...]:
        """Neighbours of the ``best`` and what lies below the ``dear``, but for those that are ``out``."""
        found = dict.fromkeys(near for one in best for near in self._of[one].around(one, level))
        found |= dict.fromkeys(near for one in dear for near in self._of[one].below(one, level))
        return tuple(one for one in found if not out(one))


def _lane(rows: Iterable[Sequence[Candidate]], few: bool, room: int | None, dear: bool) -> _Lane:
    """``room``: cells of the first pass at most."""
    places = sorted((tuple(sorted(row, key=lambda one: abs(one.dose))) for row in rows), key=lambda r: r[0].cell.points)
    wide, long = len(places), max(map(len, places))
    if wide * long <= WHOLE and not few and (room is None or wide * long <= room):
        return _Lane(tuple(places), (1, 1), 0)
    apart = _apart(wide, PLACES // 2 if few else PLACES), _apart(long, 1 if few else DOSES)
    while room is not None and apart[0] < wide and math.ceil(wide / apart[0]) * math.ceil(long / apart[1]) > room:
        apart = 2 * apart[0], apart[1]
    # The larger half of a grid mostly breaks the budget, as one window of text tells: worth a look where it is cheap.
    return _Lane(tuple(places), apart, apart[1] // (4 if dear else 2))


def _apart(count: int, wanted: int) -> int:
    """The power of two that leaves about ``wanted`` of ``count``."""
    step = 1
    while count / step > wanted:
        step *= 2
    return step
