"""The nearest that a format can say to what an artefact does, and what the difference costs on labelled items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tillerman.core.artefact import Artefact
from tillerman.core.cell import Cell
from tillerman.core.errors import UsageError
from tillerman.core.hookpoint import ROUTER_SITES, HookPoint
from tillerman.core.operators import OPERATORS
from tillerman.core.plan import Plan
from tillerman.core.rows import Row
from tillerman.core.steerings.vector import SteeringVector
from tillerman.core.store import Store
from tillerman.evaluation.exam import Exam
from tillerman.models.handmade import stream_norms
from tillerman.models.opened import OpenModel
from tillerman.models.tokens import token_activations
from tillerman.statistics.estimates import mean_effect
from tillerman.statistics.values import MeanEffect


def nearest(
    opened: OpenModel, artefact: Artefact, rows: Sequence[Row], sites: Sequence[str], first: int = 0
) -> Artefact:
    """The artefact as an addition at every token: another operator becomes the mean change that it makes at the
    tokens of ``rows``, a site that is not among ``sites`` the block's output, a block before ``first`` that block.

    Directions that come to one hook point add up. ``UsageError`` for a router, which has no place in the stream."""
    cell, steering = artefact.cell, artefact.steering
    if not isinstance(steering, SteeringVector):
        raise UsageError(f"a {type(steering).__name__} has no nearest direction")
    found: dict[HookPoint, Tensor] = {}
    for point in cell.points:
        v, to = _as_addition(opened, artefact, point, rows), _moved(point, sites, first)
        found[to] = found[to] + v if to in found else v
    plain = cell.operator == "add"
    moved = SteeringVector(found, stream_norms(opened, tuple(found)), steering.provenance)
    return Artefact(moved, Cell.of(moved, cell.strength if plain else 1.0), None, artefact.card)


def _as_addition(opened: OpenModel, artefact: Artefact, point: HookPoint, rows: Sequence[Row]) -> Tensor:
    cell, steering = artefact.cell, artefact.steering
    if cell.operator == "add":
        return steering.directions[point]
    v, total, count = steering.operand(point, cell.operator), torch.zeros(steering.width(point)), 0
    for _, h in token_activations(opened, rows, point):
        change = OPERATORS[cell.operator](h, v.to(h), cell.strength) - h
        total, count = total + change.sum(0).cpu(), count + len(h)
    return total / max(1, count)


def _moved(point: HookPoint, sites: Sequence[str], first: int) -> HookPoint:
    if point.site in (*ROUTER_SITES, "heads") and point.site not in sites:
        raise UsageError(f"{point}: there is no direction of the stream that does the same; it cannot be moved")
    if point.site not in sites:
        layer = point.layer - 1 if point.site == "resid_pre" and point.layer else point.layer
        point = HookPoint(layer)
    return point if point.layer >= first else replace(point, layer=first)


@dataclass(frozen=True)
class Outcomes:
    """Right answers (share) and mean lead of the right answer (log-odds, nats) over ``n`` items, under one plan."""

    right: float
    lead: float


@dataclass(frozen=True)
class ChangeCost:
    """What the change costs: the same items unsteered, as fitted and as exported, and the paired difference of leads,
    exported minus fitted."""

    n: int
    plain: Outcomes
    fitted: Outcomes
    exported: Outcomes
    difference: MeanEffect


def change_cost(exam: Exam, fitted: Plan, exported: Plan) -> ChangeCost:
    """``UsageError`` for open questions, whose answers have no odds, and for fewer than two items."""
    scores = exam.scores_under([(), fitted, exported], Store(None, ""))
    leads = [_leads(of_plan, exam) for of_plan in scores]
    outcomes = [Outcomes(float((lead > 0).mean()), float(lead.mean())) for lead in leads]
    plain, as_fitted, as_exported = outcomes
    return ChangeCost(len(exam.items), plain, as_fitted, as_exported, mean_effect(leads[2], leads[1]))


def leads_under(exam: Exam, plans: Sequence[Plan]) -> list[NDArray[np.float64]]:
    """Per plan and item: log-odds of the right answer against the best other one."""
    return [_leads(of_plan, exam) for of_plan in exam.scores_under(plans, Store(None, ""))]


def _leads(scores: Sequence[Sequence[float]], exam: Exam) -> NDArray[np.float64]:
    return np.array(
        [
            given[item.right] - max(s for i, s in enumerate(given) if i != item.right)
            for given, item in zip(scores, exam.items, strict=True)
        ]
    )
