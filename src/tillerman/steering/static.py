"""A plan on tokens that are known before the pass, as plain edits: for passes that see only part of a prompt."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool
from torch import Tensor

from tillerman.core.hookpoint import HookPoint
from tillerman.core.operators import applied, prepared
from tillerman.core.plan import Intervention, Plan, Scope
from tillerman.models.batches import Batch
from tillerman.models.edit import Edit
from tillerman.steering.scopes import meant_in

_OF_TEXT = ("thinking", "not_in_code")


def is_known(plan: Plan) -> bool:
    """Constant vectors, ungated, on tokens that the prompt alone tells."""
    return all(item.steering.is_constant and item.gate is None and item.scope.name not in _OF_TEXT for item in plan)


def meant_tokens(plan: Plan, prompt: tuple[int, ...]) -> dict[Scope, Bool[Tensor, " s"]]:
    """Of a prompt, the tokens that each scope of the plan means."""
    ids = torch.tensor([prompt])
    batch = Batch(torch.zeros(1, dtype=torch.long), ids, torch.ones_like(ids))
    return {item.scope: meant_in(item.scope, batch)[0] for item in plan}


def known_edits(plan: Plan, meant: Mapping[Scope, Bool[Tensor, " q"]]) -> dict[HookPoint, Edit]:
    """What ``steer`` does with the plan, for rows whose tokens the scopes mean alike."""
    points = {point for item in plan for point in item.steering.points}
    return {p: _edit(p, [i for i in plan if p in i.steering.points and i.strength], meant) for p in sorted(points)}


def _edit(point: HookPoint, items: list[Intervention], meant: Mapping[Scope, Bool[Tensor, " q"]]) -> Edit:
    def edit(h: Tensor) -> Tensor:
        for item in items:
            here = meant[item.scope].to(h.device)[:, None]
            vector, strength = prepared(item.operator, [item.operand(point)], [item.strength], h)
            h = torch.where(here, applied(item.operator, h, vector, strength), h)
        return h

    return edit
