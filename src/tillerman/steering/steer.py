"""A plan on a live model, as a ``with`` block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin

from tillerman.core.errors import MismatchError, NotAppliedError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.operators import OPERATORS
from tillerman.core.plan import Intervention, Plan
from tillerman.models.edit import edit_forward
from tillerman.models.families import Anatomy, anatomy
from tillerman.models.forward import ForwardInfo
from tillerman.steering.receipt import Applied, Receipt
from tillerman.steering.scopes import Sequences


class Steered:
    """The handle of a running block; ``receipt`` may be read inside and after it."""

    def __init__(self, plan: Plan, warnings: tuple[str, ...]) -> None:
        self.plan = plan
        self._warnings = warnings
        self._forwards = 0
        self._tokens: list[Counter[HookPoint]] = [Counter() for _ in plan]

    @property
    def receipt(self) -> Receipt:
        return Receipt(
            self._forwards,
            tuple(_record(item, counts) for item, counts in zip(self.plan, self._tokens, strict=True)),
            self._warnings,
        )

    def passed(self) -> None:
        self._forwards += 1

    def count(self, index: int, point: HookPoint, tokens: int) -> None:
        self._tokens[index][point] += tokens

    def ensure_applied(self) -> None:
        for item, applied in zip(self.plan, self.receipt.applied, strict=True):
            if not applied.touched:
                idle = [point for point, count in applied.tokens.items() if count == 0]
                raise NotAppliedError(
                    f"nothing was steered at {', '.join(idle)} (scope {item.scope}, {self._forwards} forward passes "
                    "seen): run the model inside the block, and check that the scope meets a token of the input"
                )


@contextmanager
def steer(
    model: nn.Module, plan: Plan | Intervention, *, warnings: tuple[str, ...] = (), must_apply: bool = True
) -> Iterator[Steered]:
    """Steer every forward pass of ``model`` inside the block, the user's own ``generate`` included.

    ``h' = h + strength * v`` at each intervention's hook points, on the tokens of its scope (PAS
    section 3.3). Interventions on one hook point apply in the order of the plan. Strength 0 is bit-equal
    to no steering. At the end all is as it was; ``NotAppliedError`` if an intervention touched
    nothing. ``warnings`` (allowed mismatches) go into the receipt; ``must_apply`` False leaves the
    check out, for passes whose inputs may not meet the scope.
    """
    interventions = (plan,) if isinstance(plan, Intervention) else tuple(plan)
    parts = anatomy(model)
    _check(parts, interventions)
    steered = Steered(interventions, warnings)
    sequences = Sequences()
    state: list[ForwardInfo] = []

    def on_forward(info: ForwardInfo) -> None:
        sequences.observe(info)
        state[:] = [info]
        steered.passed()

    edits = {
        point: _edit(point, interventions, steered, sequences, state)
        for point in sorted({p for item in interventions for p in item.steering.points})
    }
    with edit_forward(parts, edits, on_forward), _prompt_known(model, sequences):
        yield steered
    if must_apply:
        steered.ensure_applied()


def _check(parts: Anatomy, plan: Plan) -> None:
    if not plan:
        raise UsageError("the plan is empty; give at least one intervention")
    for item in plan:
        for point, direction in item.steering.directions.items():
            parts.check(point)
            if len(direction) != parts.width_at(point):
                raise MismatchError(
                    f"{point}: the vector of {item.steering.provenance.model_id} has width {len(direction)}, "
                    f"the model {parts.width_at(point)}"
                )


def _edit(
    point: HookPoint, plan: Plan, steered: Steered, sequences: Sequences, state: list[ForwardInfo]
) -> Callable[[Tensor], Tensor]:
    mine = [(i, item) for i, item in enumerate(plan) if point in item.steering.directions]
    vectors: dict[tuple[int, torch.device, torch.dtype], Tensor] = {}

    def vector(i: int, h: Tensor) -> Tensor:
        key = (i, h.device, h.dtype)
        if key not in vectors:
            vectors[key] = plan[i].steering.directions[point].to(h.device, h.dtype)
        return vectors[key]

    def edit(h: Tensor) -> Tensor:
        for i, item in mine:
            mask = sequences.mask(item.scope, state[0]).to(h.device)
            steered.count(i, point, int(mask.sum()))
            if item.strength != 0:
                # where, not multiply: rows and tokens outside the scope stay bit-equal, NaN included
                h = torch.where(mask[..., None], OPERATORS[item.operator](h, vector(i, h), item.strength), h)
        return h

    return edit


@contextmanager
def _prompt_known(model: nn.Module, sequences: Sequences) -> Iterator[None]:
    """Tell ``sequences`` the prompt's columns while ``model.generate`` runs.

    Without a KV cache every step looks like a new, longer prompt; only ``generate`` knows better. It
    is wrapped on this instance alone, and the wrapper is taken off again.
    """
    holders: list[Any] = [m for m in model.modules() if isinstance(m, GenerationMixin)]
    before = [m.__dict__.get("generate") for m in holders]

    def wrapped(generate: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            given = next((v for v in (kwargs.get("inputs_embeds"), *args[:1], kwargs.get("inputs"),
                                      kwargs.get("input_ids")) if isinstance(v, Tensor)), None)  # fmt: skip
            outer = sequences.declare(None if given is None else int(given.shape[1]))
            try:
                return generate(*args, **kwargs)
            finally:
                sequences.declare(outer)

        return call

    try:
        for holder in holders:
            holder.__dict__["generate"] = wrapped(holder.generate)
        yield
    finally:
        for holder, old in zip(holders, before, strict=True):
            if old is None:
                holder.__dict__.pop("generate", None)
            else:
                holder.__dict__["generate"] = old


def _record(item: Intervention, counts: Counter[HookPoint]) -> Applied:
    points = item.steering.points
    return Applied(
        item.strength,
        item.operator,
        str(item.scope),
        {str(p): counts[p] for p in points},
        {str(p): item.steering.dose(p, item.strength) for p in points},
    )
