"""Choose a cell (method, hook point, strength) for an objective, under constraints.

The objective and the constraints are handed in: this room knows no model and no metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tillerman.core.errors import UnknownNameError, UsageError
from tillerman.core.hookpoint import HookPoint, named

TIES = ("smaller-dose", "first")


@dataclass(frozen=True)
class Candidate:
    """One way to steer. ``method`` and ``points`` mean nothing at strength 0: there is one such cell."""

    method: str
    points: tuple[HookPoint, ...]
    strength: float
    dose: float


@dataclass(frozen=True)
class Scored:
    """A candidate with its objective and, where they were needed, its constraint figures."""

    candidate: Candidate
    score: float
    costs: tuple[float, ...] | None = None
    admissible: bool = True


@dataclass(frozen=True)
class Selection:
    chosen: Scored
    cells: tuple[Scored, ...]


@dataclass(frozen=True)
class Constraints:
    """``measure`` gives the costs of a candidate; each must stay at or below its limit."""

    measure: Callable[[Candidate], tuple[float, ...]]
    limits: tuple[float, ...]

    def admit(self, cell: Scored) -> Scored:
        costs = self.measure(cell.candidate)
        within = all(cost <= limit for cost, limit in zip(costs, self.limits, strict=True))
        return replace(cell, costs=costs, admissible=within)


def search(
    candidates: Sequence[Candidate],
    objective: Callable[[Candidate], float],
    constraints: Constraints | None = None,
    ties: str = "smaller-dose",
) -> Selection:
    """Score every candidate; take the best admissible one.

    Constraints are measured from the best cell downwards and only until one is admissible, because they
    cost as much as the objective. Strength 0 changes nothing, so it is always admissible.
    Ties go to the smaller absolute dose, or (``first``, as in PAS) to the cell that came first.
    """
    if ties not in TIES:
        raise UnknownNameError("tie rule", ties, TIES)
    if not candidates:
        raise UsageError("nothing to choose from: give at least one layer and one strength")
    cells = [Scored(candidate, objective(candidate)) for candidate in candidates]
    for cell in cells:
        if math.isnan(cell.score):
            raise UsageError(
                f"{cell.candidate.method} at {named(cell.candidate.points)}, strength {cell.candidate.strength}: "
                "the objective is not a number"
            )
    places = range(len(cells))
    if ties == "first":
        order = sorted(places, key=lambda i: -cells[i].score)
    else:
        order = sorted(places, key=lambda i: (-cells[i].score, abs(cells[i].candidate.dose)))
    for i in order:
        if constraints is None or cells[i].candidate.strength == 0:
            return Selection(cells[i], tuple(cells))
        cells[i] = constraints.admit(cells[i])
        if cells[i].admissible:
            return Selection(cells[i], tuple(cells))
    raise UsageError("no cell satisfies the constraints; keep strength 0 in the grid, or loosen --max-kl")
