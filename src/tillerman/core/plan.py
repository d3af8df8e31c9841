"""What is to be done to a model, as plain values: interventions, and plans of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from tillerman.core.decoding import take
from tillerman.core.errors import UnknownNameError, UsageError
from tillerman.core.facts import NO_FACT
from tillerman.core.gates import Gate, PromptGate
from tillerman.core.hookpoint import HookPoint, named
from tillerman.core.monitors import Monitor
from tillerman.core.operators import OPERATORS
from tillerman.core.shown import Shown
from tillerman.core.steerings.base import Steering

SCOPES = (
    "all",
    "prompt",
    "generated",
    "last",
    "after_instruction",
    "assistant_turns",
    "thinking",
    "not_in_code",
    "positions",
)
_MARKED = ("after_instruction", "assistant_turns", "thinking", "not_in_code")
_OF_PROMPTS = ("prompt", "last", "positions")  # and of no later token


@dataclass(frozen=True)
class Scope:
    """Which tokens are steered, in absolute positions over the KV cache, padding not counted.

    ``all`` every token; ``prompt`` the tokens given; ``last`` the last prompt token (it makes the first
    new one); ``generated`` the tokens made, and the last prompt token; ``after_instruction`` from the last
    occurrence of ``marker`` (the token ids that end the instruction and open the answer) on;
    ``assistant_turns`` in the prompt from each ``marker`` to the ``closing`` token that ends the answer, and all
    that is made: earlier answers of a conversation as ``after_instruction`` steered them when they were made;
    ``thinking`` from the ``opening`` tag to the token before the ``closing`` one is whole; ``not_in_code``
    all but fenced code and JSON tool calls, in the text that ``piece`` gives for a token id. Both look, and
    steer, from ``marker`` on where there is one. ``positions`` explicit ones, negative counted from the
    end of the prompt. A token counts by what it makes next: the opening tag's end is steered, the closing
    tag's end is not.
    """

    name: str = "all"
    positions: tuple[int, ...] = ()
    marker: tuple[int, ...] = ()
    opening: tuple[int, ...] = ()
    closing: tuple[int, ...] = ()
    piece: Callable[[int], str] | None = field(default=None, repr=False, metadata=NO_FACT)  # its tokenizer's

    def __post_init__(self) -> None:
        if self.name not in SCOPES:
            raise UnknownNameError("scope", self.name, SCOPES)
        if (self.name == "positions") != bool(self.positions):
            raise UsageError("scope 'positions' needs at least one position, and no other scope takes any")
        if self.marker and self.name not in _MARKED:
            raise UsageError(f"only the scopes {', '.join(_MARKED)} take a marker")
        if (self.opening and self.name != "thinking") or (
            self.closing and self.name not in ("thinking", "assistant_turns")
        ):
            raise UsageError("only scope 'thinking' takes an opening tag, only it and 'assistant_turns' a closing one")
        if self.name == "assistant_turns" and set(self.closing) & set(self.marker):
            raise UsageError("scope 'assistant_turns': the token that ends an answer may not stand in the marker")
        if self.piece is not None and self.name != "not_in_code":
            raise UsageError("only scope 'not_in_code' reads pieces of text")

    def __str__(self) -> str:
        return f"positions:{','.join(map(str, self.positions))}" if self.positions else self.name

    @classmethod
    def parse(cls, text: str) -> Scope:
        """``all``, ``last``, ... or ``positions:0,5,-1``."""
        name, _, rest = text.partition(":")
        if name != "positions" and not rest:
            return cls(name)
        try:
            positions = tuple(int(part) for part in rest.split(","))
        except ValueError:
            raise UsageError(f"scope {text!r}: write positions as 'positions:0,5,-1'") from None
        return cls(name, positions)

    def to_json(self) -> dict[str, Any]:
        """Name and token ids; ``piece`` is a function of a tokenizer and is left out."""
        tokens = {"marker": self.marker, "opening": self.opening, "closing": self.closing}
        return {"name": self.name, "positions": list(self.positions), **{n: list(ids) for n, ids in tokens.items()}}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Scope:
        """Inverse of ``to_json``; tags may be missing, as in the first artefacts."""
        tags = [take(values, name, tuple[int, ...], ()) for name in ("opening", "closing")]
        tokens = [take(values, name, tuple[int, ...]) for name in ("positions", "marker")]
        return cls(take(values, "name", str), *tokens, *tags)


def check_strength(strength: float, operator: str) -> None:
    """Raise for a strength that is not finite, an unknown operator, or a strength that the operator cannot take."""
    if not math.isfinite(strength):
        raise UsageError(f"strength {strength}: expected a finite number")
    if operator not in OPERATORS:
        raise UnknownNameError("operator", operator, OPERATORS)
    if operator == "replace" and not 0 <= strength <= 1:
        raise UsageError(f"strength {strength}: operator 'replace' mixes h and v, expected 0 to 1")


@dataclass(frozen=True, repr=False)
class Intervention(Shown):
    """One steering at all its hook points, on the scope's tokens, in the rows whose gate is open.

    ``operator`` is one of ``core.operators``; ``add`` is ``h + strength * v``. A gate reads the same pass
    that it gates, so its hook point may not come after one that is steered. A monitor for a gate opens where it is
    crossed, in that text and from its next token on, so that the scope has to mean tokens of the answer.
    """

    steering: Steering
    strength: float = 1.0
    operator: str = "add"
    scope: Scope = Scope()
    gate: Gate | Monitor | None = None

    def __post_init__(self) -> None:
        check_strength(self.strength, self.operator)
        self.steering.check_operator(self.operator)
        if self.steering.gates and self.gate is not None:
            raise UsageError(
                f"a {type(self.steering).__name__} is gated by its own choice of a layer, and takes no gate or monitor "
                "beside it; leave that out, or steer with a vector, as 'tillerman fit --method caa' makes them"
            )
        if isinstance(self.gate, Monitor):
            self._ensure_switchable()
        elif self.gate is not None:
            first = min(self.steering.points, key=lambda point: point.order)
            if self.gate.point.order > first.order:
                raise UsageError(
                    f"the gate reads {self.gate.point}, after {first} is steered; "
                    "give it a hook point that is not later, or steer later ones only"
                )

    def shown(self) -> dict[str, object]:
        made = self.steering.provenance
        return {
            "steering": f"{type(self.steering).__name__} ({made.method} of {made.data_name or 'nothing named'})",
            "at": named(self.steering.points),
            "strength": f"{self.strength:.4g}",
            "operator": self.operator,
            "scope": self.scope,
            "gate": "none" if self.gate is None else self.gate,
        }

    def _ensure_switchable(self) -> None:
        """``UsageError`` for what cannot begin in the middle of an answer."""
        if self.scope.name in _OF_PROMPTS:
            whole = "all, generated, after_instruction, assistant_turns, thinking, not_in_code"
            raise UsageError(
                f"scope {self.scope} means tokens of the prompt, and a monitor switches on what comes after it; "
                f"choose one of {whole}"
            )
        if self.steering.reach is not None or self.steering.looks_ahead:
            raise UsageError(
                f"a {type(self.steering).__name__} works from the first token of a prompt on, and a monitor switches "
                "it on later; switch on a vector, as 'tillerman fit --method caa' makes them"
            )

    def gate_at(self, point: HookPoint) -> PromptGate | Monitor | None:
        """What has to be open for a text to be steered there."""
        return self.steering.gates.get(point, self.gate)

    @property
    def gates(self) -> tuple[PromptGate | Monitor, ...]:
        """All of them, each once: its own, or those by which its steering chooses among hook points."""
        own = () if self.gate is None else (self.gate,)
        return tuple(self.steering.gates.values()) or own

    def missed(self, tokens: Mapping[HookPoint, int]) -> bool:
        """Whether it met no token at one of its hook points, though no gate kept it out; of a steering that chooses,
        at all of them."""
        met = [tokens.get(point, 0) > 0 for point in self.steering.points]
        return self.gate is None and not (any(met) if self.steering.gates else all(met))

    def operand(self, point: HookPoint) -> Float[Tensor, " k"]:
        """What the operator takes as ``v`` there: the direction ``[d]``, or with it what it reads."""
        return self.steering.operand(point, self.operator)


Plan = tuple[Intervention, ...]


def joined(plans: Iterable[Plan]) -> Plan:
    """All interventions in turn, but what looks ahead first: it reads the unsteered stream."""
    every = [item for plan in plans for item in plan]
    return tuple(sorted(every, key=lambda item: not item.steering.looks_ahead))
