"""What is done to one token at the outputs of decoder blocks, in a form that two requests share only if it is alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from tillerman.core.errors import UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import check_strength

READING = ("ablate", "clamp", "clamp_atom")  # operators whose change depends on the stream
OPERATORS = ("add", *READING)


@dataclass(frozen=True, order=True)
class Pull:
    """What ``operator`` does with ``strength`` and the direction that the artefact with this digest has at ``point``,
    at the output of decoder block ``layer``."""

    layer: int
    digest: str
    point: str
    strength: float
    operator: str = "add"

    def to_json(self) -> list[Any]:
        return [self.layer, self.digest, self.point, self.strength, self.operator]

    @classmethod
    def from_json(cls, value: Any) -> Pull:
        """``TillermanError`` or ``ValueError`` for anything that ``to_json`` does not write."""
        kinds = (int, str, str, int | float, str)
        if not isinstance(value, list) or len(value) != len(kinds) or not all(map(isinstance, value, kinds)):
            raise UsageError("a pull is a layer, a digest, a hook point, a strength and an operator")
        layer, digest, point, strength, operator = value
        if operator not in OPERATORS:
            raise UsageError(f"operator {operator!r} is not served by this engine; it has {', '.join(OPERATORS)}")
        check_strength(float(strength), operator)
        if block_after(HookPoint.parse(point)) != layer:
            raise UsageError(f"a pull at {point} belongs to the block that it leaves")
        return cls(layer, digest, point, float(strength), operator)


Pulls = tuple[Pull, ...]  # all that is done to one token, as ``in_order`` writes it; empty: nothing


def in_order(pulls: Iterable[Pull]) -> Pulls:
    """The pulls of one token in the order in which they act, equal where what they do is.

    Blocks in turn; of one block what stands at its output, then what stands at the input of the next; there the
    plan's order, which counts for operators that read the stream. Additions that nothing stands between commute: they
    are sorted, and those of one vector joined.
    """
    found: list[Pull] = []
    acting = sorted(pulls, key=lambda pull: (pull.layer, HookPoint.parse(pull.point).order))
    for (_, adds), some in groupby(acting, key=lambda pull: (pull.layer, pull.operator == "add")):
        run = list(some)
        found += _joined(run) if adds else run
    return tuple(found)


def block_after(point: HookPoint) -> int | None:
    """The decoder block whose output a change there is: its own, or that of the block before it."""
    if point.site == "resid_post":
        return point.layer
    return point.layer - 1 if point.site == "resid_pre" and point.layer > 0 else None


def _joined(pulls: Iterable[Pull]) -> list[Pull]:
    total: dict[tuple[int, str, str], float] = {}
    for pull in pulls:
        key = (pull.layer, pull.digest, pull.point)
        total[key] = total.get(key, 0.0) + pull.strength
    return sorted(Pull(*key, strength) for key, strength in total.items() if strength)
