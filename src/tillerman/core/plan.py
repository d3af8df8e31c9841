"""What is to be done to a model, as plain values: interventions, and plans of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tillerman.core.errors import UnknownNameError, UsageError
from tillerman.core.operators import OPERATORS
from tillerman.core.vector import SteeringVector

SCOPES = ("all", "prompt", "generated", "last", "after_instruction", "positions")


@dataclass(frozen=True)
class Scope:
    """Which tokens are steered, in absolute positions over the KV cache, padding not counted.

    ``all`` every token; ``prompt`` the tokens given; ``generated`` the tokens made; ``last`` the last
    prompt token (the one that makes the first new token); ``after_instruction`` from the last
    occurrence of ``marker`` (the token ids that end the instruction and open the answer) on;
    ``positions`` explicit ones, negative counted from the end of the prompt.
    """

    name: str = "all"
    positions: tuple[int, ...] = ()
    marker: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in SCOPES:
            raise UnknownNameError("scope", self.name, SCOPES)
        if (self.name == "positions") != bool(self.positions):
            raise UsageError("scope 'positions' wants at least one position, and no other scope takes any")
        if self.marker and self.name != "after_instruction":
            raise UsageError("only scope 'after_instruction' takes a marker")

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


@dataclass(frozen=True)
class Intervention:
    """One steering at all its hook points: ``h + strength * v`` (operator ``add``) on the scope's tokens."""

    steering: SteeringVector
    strength: float = 1.0
    operator: str = "add"
    scope: Scope = Scope()

    def __post_init__(self) -> None:
        if not math.isfinite(self.strength):
            raise UsageError(f"strength {self.strength}: expected a finite number")
        if self.operator not in OPERATORS:
            raise UnknownNameError("operator", self.operator, OPERATORS)


Plan = tuple[Intervention, ...]
