"""A plan per row: what each hook point does to a batch, made ready before the first pass.

The interventions of a hook point are worked off in rounds: round j is the j-th one of every plan. One
round costs one gather (once per batch size), one operation per operator and one ``where``, however
many plans there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tillerman.core.errors import UsageError
from tillerman.core.gates import PromptGate
from tillerman.core.hookpoint import HookPoint
from tillerman.core.monitors import Monitor
from tillerman.core.operators import OPERATORS, applied, prepared
from tillerman.core.plan import Intervention, Plan, Scope
from tillerman.core.steerings.base import RunningPass, Steering
from tillerman.models.forward import ForwardInfo
from tillerman.steering.lookahead import Ahead
from tillerman.steering.streams import Stream

Condition = tuple[Scope, PromptGate | Monitor | None, int | None]  # the last: only so many first tokens of the prompt
_PROMPT = Scope("prompt")
Member = tuple[Condition, Bool[Tensor, "b 1"] | None]  # a condition and the rows that have it, None for all


class Conditions:
    """Each plan's condition, None where nothing is done to its rows. Compared by identity: looking up a
    mask must not cost a comparison per plan, token and layer."""

    def __init__(self, of_plans: tuple[Condition | None, ...]) -> None:
        self.of_plans = of_plans
        distinct = dict.fromkeys(condition for condition in of_plans if condition is not None)
        self._plans: list[tuple[Condition, list[bool]]] = [(one, [c == one for c in of_plans]) for one in distinct]
        self._ready: tuple[tuple[int, torch.device], list[Member]] | None = None

    @property
    def distinct(self) -> list[Condition]:
        return [one for one, _ in self._plans]

    def members(self, each: int, device: torch.device) -> list[Member]:
        """The conditions and the rows that have them, kept while the number of rows for ``each`` plan stays."""
        ready = self._ready  # another thread may put its own there at any time
        if ready is None or ready[0] != (each, device):
            with torch.inference_mode(False):  # a later pass may want gradients
                rows = [
                    (one, None if all(plans) else torch.tensor(plans, device=device).repeat_interleave(each)[:, None])
                    for one, plans in self._plans
                ]
            self._ready = ready = ((each, device), rows)
        return ready[1]


Known = dict[tuple[Condition | None, ...], Conditions]


@runtime_checkable
class Masked(RunningPass, Protocol):
    """A pass that knows which of its tokens meet a condition."""

    def mask(self, conditions: Conditions, device: torch.device) -> Bool[Tensor, "b s"]:
        """True for the tokens that meet the condition of their row's plan."""

    def meets_none(self, conditions: Conditions) -> bool:
        """Whether it is known without a look at the device that no token meets them."""


class Pass:
    """One forward pass: which rows follow which plan, and masks that all hook points share."""

    def __init__(self, info: ForwardInfo, plans: int, stream: Stream, ahead: Ahead) -> None:
        rows = len(info.real)
        if rows % plans:
            raise UsageError(
                f"a pass of {rows} rows under {plans} plans: give one plan per row of the batch "
                "(rows of one prompt, as beams and samples make them, stand together)"
            )
        self.info, self.stream, self._ahead, self._count = info, stream, ahead, plans
        self._masks: dict[tuple[Conditions, torch.device], Bool[Tensor, "b s"]] = {}
        self._sums: dict[Conditions, Int[Tensor, " p"]] = {}
        self._scopes: dict[Scope, Bool[Tensor, "b s"]] = {}

    @property
    def rows(self) -> int:
        return len(self.info.real)

    @property
    def positions(self) -> Int[Tensor, "b s"]:
        return self.info.positions

    def ahead(self, steering: Steering, point: HookPoint, h: Float[Tensor, "b s d"]) -> Float[Tensor, "b s d"]:
        """The change of a steering that looks ahead, at strength 1."""
        return self._ahead.change(steering, point, h, self.stream.sequences, self.info)

    def mask(self, conditions: Conditions, device: torch.device) -> Bool[Tensor, "b s"]:
        """Of a model that is split over several devices, each gets it once per pass."""
        home = self.info.real.device
        if (conditions, device) not in self._masks:
            made = self._met(conditions) if device == home else self.mask(conditions, home).to(device)
            self._masks[conditions, device] = made
        return self._masks[conditions, device]

    def meets_none(self, conditions: Conditions) -> bool:
        return all(self.stream.sequences.means_none(scope, self.info) for scope, _, _ in conditions.distinct)

    def _met(self, conditions: Conditions) -> Bool[Tensor, "b s"]:
        out = None
        for condition, rows in conditions.members(self.rows // self._count, self.info.real.device):
            chosen = self._one(condition)
            if rows is not None:
                chosen = chosen & rows
            out = chosen if out is None else out | chosen
        return torch.zeros_like(self.info.real) if out is None else out

    def tokens(self, conditions: Conditions) -> Int[Tensor, " p"]:
        """How many tokens of each plan the mask holds; left on the device."""
        if conditions not in self._sums:
            met = self.mask(conditions, self.info.real.device)
            self._sums[conditions] = met.reshape(self._count, -1).sum(1)
        return self._sums[conditions]

    def _one(self, condition: Condition) -> Bool[Tensor, "b s"]:
        scope, gate, reach = condition
        chosen = self._scope(scope)
        if reach is not None:
            chosen = chosen & self._scope(_PROMPT) & (self.info.positions < reach)
        if isinstance(gate, Monitor):
            return chosen & self.stream.gates.after(gate, self.stream.sequences, self.info)
        return chosen if gate is None else chosen & self.stream.gates.open(gate, self.rows).to(chosen.device)[:, None]

    def _scope(self, scope: Scope) -> Bool[Tensor, "b s"]:
        if scope not in self._scopes:
            self._scopes[scope] = self.stream.sequences.mask(scope, self.info)
        return self._scopes[scope]


class Round:
    """The j-th intervention of every plan at one hook point; None for plans that have fewer."""

    def __init__(self, point: HookPoint, items: Sequence[Intervention | None], known: Known) -> None:
        self.items = tuple(items)
        self.conditions = _conditions(point, self.items, lambda item: True, known)
        live = [item for item in self.items if item is not None and item.strength != 0]
        operators = {item.operator for item in live if item.steering.is_constant}
        self._steps: list[_Step | _Contextual] = [
            _Step(point, self.items, operator, known) for operator in OPERATORS if operator in operators
        ]
        for steering in dict.fromkeys(i.steering for i in live):
            if not steering.is_constant:
                self._steps.append(_Contextual(point, self.items, steering, known))

    def apply(self, h: Float[Tensor, "b s d"], now: Masked) -> Float[Tensor, "b s d"]:
        for step in self._steps:  # a row has one intervention per round, so their order does not matter
            h = step.apply(h, now)
        return h


class _Step:
    """One operator in one round: a table ``[k, d]`` of directions, and each plan's row in it."""

    def __init__(self, point: HookPoint, items: Sequence[Intervention | None], operator: str, known: Known) -> None:
        def mine(item: Intervention) -> bool:
            return item.steering.is_constant and item.operator == operator and item.strength != 0

        self._operator = operator
        self.conditions = _conditions(point, items, mine, known)
        self._items = [item for item in items if item is not None and mine(item)]
        self._directions = [item.operand(point) for item in self._items]
        places = iter(range(len(self._items)))
        self._places = [next(places) if item is not None and mine(item) else 0 for item in items]
        self._ready: tuple[tuple[int, torch.device, torch.dtype], Tensor, Tensor] | None = None

    def apply(self, h: Float[Tensor, "b s d"], now: Masked) -> Float[Tensor, "b s d"]:
        directions, strengths = self._gathered(h)
        mask = now.mask(self.conditions, h.device)[..., None]
        # where, not multiply: rows and tokens outside the scope stay bit-equal, NaN included
        return torch.where(mask, applied(self._operator, h, directions, strengths), h)

    def _gathered(self, h: Float[Tensor, "b s d"]) -> tuple[Tensor, Tensor]:
        """Directions ``[b, 1, d]`` and strengths ``[b, 1, 1]`` of the rows, kept while batch and type stay."""
        key = (len(h), h.device, h.dtype)
        ready = self._ready  # another thread may put its own there at any time
        if ready is None or ready[0] != key:
            with torch.inference_mode(False), torch.no_grad():  # a later pass may want gradients
                table, strengths = prepared(self._operator, self._directions, [i.strength for i in self._items], h)
                places = torch.tensor(self._places, device=h.device)
                if len(places) > 1:  # one plan for all broadcasts
                    places = places.repeat_interleave(len(h) // len(places))
                self._ready = ready = (key, table[places][:, None], strengths[places][:, None])
        return ready[1], ready[2]


class _Contextual:
    """One steering in one round whose change depends on what the model reads, at each plan's strength."""

    def __init__(
        self, point: HookPoint, items: Sequence[Intervention | None], steering: Steering, known: Known
    ) -> None:
        def mine(item: Intervention) -> bool:
            return item.steering is steering and item.strength != 0

        self._point, self._steering = point, steering
        self.conditions = _conditions(point, items, mine, known)
        self._strengths = [0.0 if item is None or not mine(item) else item.strength for item in items]

    def apply(self, h: Float[Tensor, "b s d"], now: Masked) -> Float[Tensor, "b s d"]:
        if now.meets_none(self.conditions):
            return h
        mask = now.mask(self.conditions, h.device)[..., None]
        if not bool(mask.any()):  # a change that nothing gets is not worth a second stream
            return h
        strengths = torch.tensor(self._strengths, device=h.device, dtype=h.dtype)
        strengths = strengths.repeat_interleave(len(h) // len(strengths))[:, None, None]
        return torch.where(mask, h + strengths * self._steering.change(self._point, h, now), h)


def rounds(point: HookPoint, plans: Sequence[Plan], known: Known) -> list[tuple[Round, list[int | None]]]:
    """The rounds of a hook point, each with the place that its interventions have in their plans.
    ``known`` lets hook points with the same conditions share their masks."""
    mine = [[i for i, item in enumerate(plan) if point in item.steering.points] for plan in plans]
    out = []
    for j in range(max(map(len, mine), default=0)):
        at = [places[j] if j < len(places) else None for places in mine]
        items = [None if i is None else plan[i] for i, plan in zip(at, plans, strict=True)]
        out.append((Round(point, items, known), at))
    return out


def _conditions(
    point: HookPoint, items: Sequence[Intervention | None], wanted: Callable[[Intervention], bool], known: Known
) -> Conditions:
    key = tuple(
        (item.scope, item.gate_at(point), item.steering.reach) if item is not None and wanted(item) else None
        for item in items
    )
    return known.setdefault(key, Conditions(key))
