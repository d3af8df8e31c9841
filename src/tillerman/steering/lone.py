"""One text under its plan as it grows: which of its tokens each condition means, whatever rows it runs with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch

from tillerman.core.gates import PromptGate
from tillerman.core.hookpoint import HookPoint
from tillerman.core.monitors import Monitor
from tillerman.core.plan import Plan, Scope
from tillerman.models.forward import ForwardInfo
from tillerman.steering.following import Following
from tillerman.steering.rows import Condition
from tillerman.steering.scopes import OF_GENERATED, Sequences

TEXT_SCOPES = ("thinking", "not_in_code")


class LoneText:
    """A prompt, the tokens that followed it so far, and the plan on it. Asked by token, counted from the prompt's
    first one: padding and neighbours are none of its business, so its scopes mean what they would mean alone.

    ``touched[i, point]`` counts the tokens that intervention ``i`` has met there. ``followed`` has what its monitors
    have read: those ``watching``, which change nothing, and those that switch an intervention on.
    """

    def __init__(self, plan: Plan, prompt: Sequence[int], watching: Sequence[Monitor] = ()) -> None:
        self.plan = plan
        gates = (gate for item in plan for gate in item.gates)
        monitors = dict.fromkeys([*watching, *(gate for gate in gates if isinstance(gate, Monitor))])
        self.followed: dict[Monitor, Following] = {monitor: Following(monitor) for monitor in monitors}
        self.tokens = list(prompt)
        self.ran = 0  # so many of them have been run
        self.prompt_tokens = len(prompt)
        self.open: dict[PromptGate, bool] = {}
        self.touched: dict[tuple[int, HookPoint], int] = {}
        of_text = any(item.scope.name in TEXT_SCOPES for item in plan)
        self._sequences = Sequences(keep_text=of_text)
        whole = ForwardInfo(0, torch.ones(1, len(self.tokens), dtype=torch.bool), torch.tensor([self.tokens]))
        self._sequences.observe(whole)
        self._flags: dict[Scope, list[bool]] = {
            scope: self._sequences.mask(scope, whole)[0].tolist() for scope in dict.fromkeys(i.scope for i in plan)
        }

    @cached_property
    def gates(self) -> frozenset[PromptGate]:
        gates = (gate for item in self.plan for gate in item.gates)
        return frozenset(gate for gate in gates if not isinstance(gate, Monitor))

    @property
    def wants_whole_prompt(self) -> bool:
        """Gates are decided on it, in one pass; a look ahead runs beside it."""
        return bool(self.gates) or any(item.steering.looks_ahead for item in self.plan)

    def saw(self, monitor: Monitor, projections: Sequence[float]) -> None:
        """Of the tokens that it has not read yet, from the prompt's last one on."""
        if not projections:
            return
        followed, answer = self.followed[monitor], list(projections)
        if self.ran < self.prompt_tokens:
            followed.see_prompt(answer.pop(0))
        for projection in answer:
            followed.see(projection)

    def grow(self, token: int) -> None:
        past = len(self.tokens)
        self.tokens.append(token)
        told = None
        for scope, flags in self._flags.items():
            known = OF_GENERATED.get(scope.name)
            if known is None and scope.name == "positions":
                known = past in scope.positions
            if known is None:
                told = told or self._observed(past, token)
                known = bool(self._sequences.mask(scope, told))
            flags.append(known)

    def _observed(self, past: int, token: int) -> ForwardInfo:
        info = ForwardInfo(past, torch.ones(1, past + 1, dtype=torch.bool), torch.tensor([[token]]))
        self._sequences.observe(info)
        return info

    def meant(self, condition: Condition, start: int, stop: int) -> Sequence[bool]:
        """Which of its tokens from ``start`` to ``stop`` meet the condition; its gate must be decided."""
        scope, gate, reach = condition
        if isinstance(gate, Monitor):
            crossed = self.followed[gate].crossed
            begins = stop if crossed is None else self.prompt_tokens + crossed
            return [flag and start + k >= begins for k, flag in enumerate(self._flags[scope][start:stop])]
        if gate is not None and not self.open[gate]:
            return [False] * (stop - start)
        flags = self._flags[scope][start:stop]
        if reach is None:
            return flags
        limit = min(reach, self.prompt_tokens)
        return [flag and start + k < limit for k, flag in enumerate(flags)]

    def decided(self, gate: PromptGate | Monitor | None) -> bool | None:
        """Whether it is open; None where there is none, or nothing is known of it yet."""
        if isinstance(gate, Monitor):
            return self.followed[gate].crossed is not None
        return None if gate is None else self.open.get(gate)

    def idle(self) -> list[int]:
        """The interventions that met no token at one of their hook points, though no gate kept them out."""
        met = [{p: self.touched.get((i, p), 0) for p in item.steering.points} for i, item in enumerate(self.plan)]
        return [i for i, item in enumerate(self.plan) if item.missed(met[i])]

    def hopeless(self) -> list[int]:
        """Once the prompt has been run: the idle ones that no later token can be right for. An ``after_instruction``
        without its marker is one, though it would mean the tokens of the answer: nothing of the prompt opens it."""
        return [i for i in self.idle() if not self._may_come(i)]

    def _may_come(self, i: int) -> bool:
        scope, reach = self.plan[i].scope, self.plan[i].steering.reach
        later = any(place >= self.prompt_tokens for place in scope.positions)
        return reach is None and (scope.name in TEXT_SCOPES or later)
