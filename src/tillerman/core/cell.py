"""One cell of the grid: where, how strongly, by which operator and on which tokens a steering is applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tillerman.core.decoding import take
from tillerman.core.errors import UsageError
from tillerman.core.gates import Gate
from tillerman.core.hookpoint import HookPoint, named, parse_points
from tillerman.core.plan import Intervention, Plan, Scope, check_strength
from tillerman.core.steerings.base import Steering, fitted_among


@dataclass(frozen=True)
class Cell:
    """Hook points, strength, operator and scope: all that turns a steering into an intervention, but for its gate.

    ``points`` are kept in ascending order, each once. The same cell can be given to several steerings, as a null is
    tested at the cell of the vector it controls. ``UsageError`` for no hook point or a strength that is not finite,
    ``UnknownNameError`` for an operator that does not exist.
    """

    points: tuple[HookPoint, ...]
    strength: float = 1.0
    operator: str = "add"
    scope: Scope = Scope()  # noqa: RUF009 (a frozen value)

    def __post_init__(self) -> None:
        if not self.points:
            raise UsageError("a cell needs at least one hook point")
        check_strength(self.strength, self.operator)
        object.__setattr__(self, "points", tuple(sorted(set(self.points))))

    @classmethod
    def of(cls, steering: Steering, strength: float = 1.0, scope: Scope = Scope()) -> Cell:  # noqa: B008
        """All hook points of a steering, with the operator it was fitted for."""
        return cls(tuple(steering.points), strength, steering.operator, scope)

    def plan(self, steering: Steering, gate: Gate | None = None) -> Plan:
        """The steering at these hook points, as a plan of one intervention. At strength 0 it changes nothing.

        ``HookPointError`` where the steering was not fitted at one of them.
        """
        return (Intervention(steering.at(self.points), self.strength, self.operator, self.scope, gate),)

    def dose(self, steering: Steering) -> float:
        """``strength * |v| / mean |h|``, dimensionless: its mean over the hook points."""
        points = fitted_among(self.points, steering.points)
        return sum(steering.dose(point, self.strength) for point in points) / len(points)

    def at(self, strength: float) -> Cell:
        return replace(self, strength=strength)

    def scaled(self, factor: float) -> Cell:
        return replace(self, strength=self.strength * factor)

    def at_dose(self, dose: float, steering: Steering) -> Cell:
        """The cell with the strength that has this dose; the dose is proportional to the strength."""
        return self.at(dose / self.at(1.0).dose(steering))

    def for_draw(self, draw: Steering) -> Cell:
        """The cell at which a null's draw is tested: this one, but that a random direction is no atom to clamp."""
        return replace(self, operator=draw.operator) if self.operator == "clamp_atom" else self

    def __str__(self) -> str:
        operator = "" if self.operator == "add" else f", operator {self.operator}"
        return f"{named(self.points)}, strength {self.strength:.4g}{operator}, scope {self.scope}"

    def to_json(self) -> dict[str, Any]:
        """The fields by name; hook points as ``core.hookpoint.named`` writes them."""
        return {
            "hook_point": named(self.points),
            "strength": self.strength,
            "operator": self.operator,
            "scope": self.scope.to_json(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Cell:
        """Inverse of ``to_json``. A scope ``not_in_code`` comes without ``piece``, which belongs to a tokenizer."""
        scope = Scope.from_json(take(values, "scope", Any))
        points, strength = parse_points(take(values, "hook_point", str)), take(values, "strength", float)
        return cls(points, strength, take(values, "operator", str), scope)
