"""Choose a method and its cell for an objective, under constraints.

The objective and the constraints are handed in: this room knows no model and no metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tillerman.core.cell import Cell
from tillerman.core.errors import UnknownNameError, UsageError

TIES = ("smaller-dose", "first", "deepest")


@dataclass(frozen=True)
class Candidate:
    """A method's steering at a cell, where it has this ``dose``. At strength 0 neither method nor cell means anything:
    there is one such candidate."""

    method: str
    cell: Cell
    dose: float

    @property
    def line(self) -> tuple[str, Cell]:
        """What it shares with the candidates that differ from it in the size of their dose only."""
        return self.method, self.cell.at(math.copysign(1.0, self.cell.strength))


@dataclass(frozen=True)
class Scored:
    """A candidate with its objective and, where they were needed, its constraint figures."""

    candidate: Candidate
    score: float
    costs: tuple[float, ...] | None = None
    admissible: bool = True


@dataclass(frozen=True)
class Selection:
    """The candidate taken, and all of them in the order given."""

    chosen: Scored
    scored: tuple[Scored, ...]


@dataclass(frozen=True)
class Constraints:
    """``measure`` gives the costs of a candidate; each must stay at or below its limit."""

    measure: Callable[[Candidate], tuple[float, ...]]
    limits: tuple[float, ...]

    def admit(self, one: Scored) -> Scored:
        costs = self.measure(one.candidate)
        within = all(cost <= limit for cost, limit in zip(costs, self.limits, strict=True))
        return replace(one, costs=costs, admissible=within)


def search(
    candidates: Sequence[Candidate],
    objective: Callable[[Candidate], float],
    constraints: Constraints | None = None,
    ties: str = "smaller-dose",
) -> Selection:
    """Score every candidate; take the best admissible one.

    Constraints are measured from the best cell downwards and only until one is admissible, because they
    cost as much as the objective; a larger dose along a line on which a smaller one broke them is taken to break
    them too. Strength 0 changes nothing, so it is always admissible.
    Ties go to the smaller absolute dose, of equal ones to the first, or (``first``, as in PAS) always to the cell that
    came first.
    """
    if not candidates:
        raise UsageError("nothing to choose from: give at least one layer and one strength")
    scored = [Scored(candidate, objective(candidate)) for candidate in candidates]
    for one in scored:
        if math.isnan(one.score):
            raise UsageError(f"{one.candidate.method} at {one.candidate.cell}: the objective is not a number")
    broken = Broken()
    for i in ordered(candidates, [one.score for one in scored], ties):
        at = scored[i].candidate
        if constraints is not None and at.cell.strength != 0:
            if broken.known(at):
                scored[i] = replace(scored[i], admissible=False)
            else:
                scored[i] = constraints.admit(scored[i])
                if not scored[i].admissible:
                    broken.add(at)
        if scored[i].admissible:
            return Selection(scored[i], tuple(scored))
    raise UsageError(
        "no cell keeps to the budget; keep strength 0 in the grid (`zero`), add smaller doses, or lift the budget "
        "(`max_kl`, `max_perplexity_ratio`)"
    )


class Broken:
    """Per line the smallest dose known to break the budget: larger ones are taken to break it too."""

    def __init__(self) -> None:
        self._smallest: dict[tuple[str, Cell], float] = {}

    def add(self, one: Candidate) -> None:
        self._smallest[one.line] = min(abs(one.dose), self._smallest.get(one.line, math.inf))

    def known(self, one: Candidate) -> bool:
        return abs(one.dose) >= self._smallest.get(one.line, math.inf)


def ordered(candidates: Sequence[Candidate], scores: Sequence[float], ties: str) -> list[int]:
    """Places of the candidates, the best first; ties as ``search`` breaks them.

    Doses that differ in rounding only are equal, so that the one that came first is taken on every machine.
    """
    if ties not in TIES:
        raise UnknownNameError("tie rule", ties, TIES)
    places = range(len(candidates))
    if ties == "first":
        return sorted(places, key=lambda i: -scores[i])
    if ties == "deepest":
        return sorted(places, key=lambda i: (-scores[i], -_depth(candidates[i])))
    return sorted(places, key=lambda i: (-scores[i], _size(candidates[i].dose)))


def _size(dose: float) -> float:
    """Without its sign, and without what the norms of a vector and of the activations lose in single precision."""
    return float(f"{abs(dose):.6g}")


def _depth(candidate: Candidate) -> int:
    return max(point.layer for point in candidate.cell.points)
