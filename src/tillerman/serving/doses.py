"""How far a plan goes at each hook point: the sum of all that it adds there, in units of the stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import torch

from tillerman.core.hookpoint import HookPoint
from tillerman.core.operators import RELATIVE
from tillerman.core.plan import Intervention, Plan


def total_doses(plan: Plan) -> Mapping[HookPoint, float]:
    """Per hook point the most that any token can get: ``|sum of strength * v| / mean |h|`` over the interventions that
    may be active together, where those of one scope and gate always are.

    Vectors that are added sum up as vectors; what depends on the activation (kernels, other operators) counts with its
    dose, as if it pointed the same way. Of several norms of the stream the smallest counts.
    """
    points = dict.fromkeys(point for item in plan for point in item.steering.points)
    return {point: _at(point, [item for item in plan if point in item.steering.points]) for point in points}


def _at(point: HookPoint, items: Sequence[Intervention]) -> float:
    if len(items) == 1:
        return abs(items[0].steering.dose(point, items[0].strength))
    together: dict[tuple[object, object], list[Intervention]] = {}
    for item in items:
        together.setdefault((item.scope, item.gate), []).append(item)
    norm = min(item.steering.stream_norms[point] for item in items)
    groups = [_sum(point, group) for group in together.values()]
    vectors = torch.stack([vector for vector, _ in groups])  # [groups, d]
    others = torch.tensor([other for _, other in groups], dtype=torch.float64)
    active = torch.tensor(list(product((0.0, 1.0), repeat=len(groups))), dtype=torch.float64)
    return float(((active @ vectors).norm(dim=-1) / norm + active @ others).max())


def _sum(point: HookPoint, items: Sequence[Intervention]) -> tuple[torch.Tensor, float]:
    """The sum of the vectors, float64, and the doses of the rest."""
    vector = torch.zeros(items[0].steering.width(point), dtype=torch.float64)
    rest = 0.0
    for item in items:
        if item.operator == "add" and item.steering.is_constant and item.steering.operator not in RELATIVE:
            vector += item.strength * item.steering.directions[point].double()
        else:
            rest += abs(item.steering.dose(point, item.strength))
    return vector, rest
