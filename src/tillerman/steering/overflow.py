"""A strength so large that activations would not be numbers any more is an error before the first pass."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tillerman.core.errors import UsageError
from tillerman.core.hookpoint import ROUTER_SITES, HookPoint
from tillerman.core.operators import applied, prepared
from tillerman.core.plan import Intervention, Plan

_ROOM = 2.0  # what a block adds to the stream must still fit


def ensure_finite(plan: Plan, dtype: torch.dtype) -> None:
    """``UsageError`` where what an operator makes of a typical activation (of the stream's mean norm) does not fit
    the model's type, or its squared norm, which every norm layer takes in float32, overflows.

    Asked of the vectors alone, on their own device: a pass is not looked at, which would wait for the device.
    """
    done = set()
    for item in plan:
        for point in item.steering.points if item.strength != 0 else ():
            key = (item.steering, point, item.operator, item.strength)
            if key not in done:
                done.add(key)
                _check(item, point, dtype)


def _check(item: Intervention, point: HookPoint, dtype: torch.dtype) -> None:
    norm = item.steering.stream_norms.get(point, 1.0)
    largest, length = _reached(item, point, norm, dtype)
    limit = torch.finfo(dtype).max
    squared = 0.0 if point.site in ROUTER_SITES else length**2  # no norm layer reads what a router makes of a token
    if largest * _ROOM <= limit and squared <= torch.finfo(torch.float32).max:
        return
    raise UsageError(
        f"{point}: strength {item.strength:g} ({item.operator}) moves activations of norm {norm:.3g} to "
        f"{length:.3g}, too far for a model in {str(dtype).removeprefix('torch.')} to compute with; strength "
        f"{item.steering.strength(point, 1.0):.3g} is dose 1"
    )


def _reached(item: Intervention, point: HookPoint, norm: float, dtype: torch.dtype) -> tuple[float, float]:
    """The largest entry and the norm of what becomes of a typical activation; infinite where it is no number."""
    if not item.steering.is_constant:
        size = abs(item.steering.dose(point, item.strength)) * norm
        return size, size
    width = item.steering.width(point)
    vector = item.operand(point)
    h = torch.full((width,), norm / math.sqrt(width), dtype=dtype, device=vector.device)
    vectors, strengths = prepared(item.operator, [vector], [item.strength], h)
    made: Tensor = applied(item.operator, h, vectors, strengths)[0].double()
    if not bool(torch.isfinite(made).all()):
        return math.inf, math.inf
    return float(made.abs().max()), float(made.norm())
