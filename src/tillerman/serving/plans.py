"""From what a request asks for to a plan on the model, with the fingerprint by which clients and log know it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tillerman.core.artefact import ABSTAINS
from tillerman.core.cell import Cell
from tillerman.core.errors import TillermanError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Plan, Scope
from tillerman.serving.artefacts import Library, Served
from tillerman.serving.asked import FIELD, Asked, Wanted
from tillerman.serving.doses import total_doses
from tillerman.serving.refusals import Refusal

Scopes = Callable[[str], Scope]


@dataclass(frozen=True)
class Act:
    """One intervention of a plan, and the artefact that it comes from."""

    intervention: Intervention
    cell: Cell
    served: Served

    @cached_property
    def dose(self) -> float:
        """Its mean over the hook points, as artefacts and plans tell it: 0.1 where 0.1 was asked for, which a way there
        and back through the strength makes 0.09999999999999999."""
        return float(f"{self.cell.dose(self.intervention.steering):.12g}")

    def to_json(self) -> dict[str, Any]:
        """What is done, canonically: all that the numbers depend on."""
        return {
            "artefact": self.served.name,
            "sha256": self.served.sha256,
            "operator": self.cell.operator,
            "points": [str(point) for point in self.cell.points],
            "strength": self.cell.strength,
            "scope": self.cell.scope.to_json(),
        }


@dataclass(frozen=True)
class ServedPlan:
    """A plan in the order in which it applies. ``fingerprint`` is 16 hexadecimal digits over artefacts' digests,
    operators, hook points, strengths and scopes, in order; names do not count. The empty plan has one, too."""

    acts: tuple[Act, ...]
    fingerprint: str
    warnings: tuple[str, ...] = ()

    @property
    def plan(self) -> Plan:
        return tuple(act.intervention for act in self.acts)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(act.served.name for act in self.acts)

    @cached_property
    def totals(self) -> Mapping[HookPoint, float]:
        """The dose of all together, per hook point."""
        return total_doses(self.plan)

    @property
    def digests(self) -> tuple[str, ...]:
        return tuple(act.served.sha256 for act in self.acts)


def make_plan(asked: Asked, library: Library, make_scope: Scopes) -> ServedPlan:
    """``Refusal`` for an artefact that there is not, or one that cannot be applied so."""
    acts = [_act(wanted, library, make_scope) for wanted in asked]
    warnings = [text for act in acts for text in act.served.warnings]
    warnings += [f"{act.served.name}: {ABSTAINS}" for act, one in zip(acts, asked, strict=True) if _abstains(act, one)]
    acts.sort(key=lambda act: not act.intervention.steering.looks_ahead)  # as ``core.plan.joined``
    return ServedPlan(tuple(acts), fingerprint_of(acts), tuple(dict.fromkeys(warnings)))


def fingerprint_of(acts: list[Act]) -> str:
    told = [{name: value for name, value in act.to_json().items() if name != "artefact"} for act in acts]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _act(wanted: Wanted, library: Library, make_scope: Scopes) -> Act:
    part = wanted.part
    if part.name not in library:
        known = ", ".join(sorted(library)[:12])
        raise Refusal("unknown_artefact", f"{FIELD}: no artefact named {part.name[:60]!r}; known: {known}", FIELD)
    served = library[part.name]
    artefact = served.artefact
    try:
        cell = part.cell(artefact, make_scope)
        cell = cell if wanted.strength is None else cell.at(wanted.strength)
        (intervention,) = cell.plan(artefact.steering, artefact.gate)
    except (TillermanError, ArithmeticError) as error:
        raise Refusal("malformed", f"{FIELD}: {part.name}: {error}", FIELD) from None
    return Act(intervention, cell, served)


def _abstains(act: Act, wanted: Wanted) -> bool:
    return act.served.artefact.abstains and wanted.strength is None and wanted.part.dose is None


def ensure_meets(plan: ServedPlan, prompt: tuple[int, ...], room: int) -> None:
    """``Refusal`` (no_token) where a scope would meet no token of this prompt and of the ``room`` tokens after it."""
    for act in plan.acts:
        scope, whole = act.cell.scope, len(prompt) + room
        if scope.name in ("after_instruction", "assistant_turns") and not _holds(prompt, scope.marker):
            why = "the prompt does not hold the tokens that open an answer; ask through /v1/chat/completions"
        elif scope.name == "positions" and not all(-len(prompt) <= place < whole for place in scope.positions):
            why = f"the prompt has {len(prompt)} tokens, and at most {room} follow"
        else:
            continue
        raise Refusal("no_token", f"{FIELD}: {act.served.name}, scope {scope} meets no token: {why}", FIELD)


def _holds(prompt: tuple[int, ...], marker: tuple[int, ...]) -> bool:
    width = len(marker)
    return any(prompt[at : at + width] == marker for at in range(len(prompt) - width, -1, -1))
