"""Plans that name their artefacts: the form in which a plan is written down, typed and sent.

::

    plan  = part { "+" part }                  spaces around "+" do not count
    part  = name [ "@" dose ] [ ":" scope ]
    name  = an artefact's file, or its stem; in double quotes (a quote in it doubled) where it holds a space or one of
            the characters " + @ : ,
    dose  = a number in units of the stream; without it the artefact's own
    scope = all, prompt, last, ... or positions:0,5,-1; without it the artefact's own

``science@0.3:after_instruction+calm@-0.2`` adds 0.3 of ``science`` where the answer begins and takes 0.2 of ``calm``
away on the tokens of its own scope. Hook points, operator and gate are the artefact's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tillerman.core.artefact import Artefact
from tillerman.core.cell import Cell
from tillerman.core.errors import TillermanError, UnknownNameError, UsageError
from tillerman.core.plan import Plan, Scope, joined

_EXAMPLE = "science@0.3:after_instruction+calm@-0.2"
_BARE = re.compile(r'[^\s"+@:,]+')
_QUOTED = re.compile(r'"((?:[^"]|"")+)"')
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_SCOPE = re.compile(r"[^\s+@:]+(?::[^\s+@:]*)?")
_JOIN = re.compile(r"\s*\+\s*")
_FIELDS = ("artefact", "dose", "scope")


@dataclass(frozen=True)
class NamedPart:
    """An artefact by name, at a dose and on a scope; None: the artefact's own. Prints as ``name@dose:scope``."""

    name: str
    dose: float | None = None
    scope: str | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise UsageError(f"a plan names artefacts, and this name is empty; e.g. {_EXAMPLE}")
        if self.dose is not None and not math.isfinite(self.dose):
            raise UsageError(f"{self.name}: dose {self.dose}: expected a finite number")
        if self.scope is not None:
            object.__setattr__(self, "scope", str(Scope.parse(self.scope)))

    @classmethod
    def of(cls, name: str, artefact: Artefact) -> NamedPart:
        """How an artefact is applied by itself; the dose to four digits."""
        return cls(name, float(f"{artefact.dose:.4g}"), str(artefact.cell.scope))

    def __str__(self) -> str:
        name = self.name if _BARE.fullmatch(self.name) else '"' + self.name.replace('"', '""') + '"'
        dose = "" if self.dose is None else f"@{self.dose!r}".removesuffix(".0")
        return name + dose + ("" if self.scope is None else f":{self.scope}")

    def cell(self, artefact: Artefact, make_scope: Callable[[str], Scope] = Scope.parse) -> Cell:
        """The artefact's cell at this dose and scope. ``make_scope`` makes the scopes that the artefact does not carry:
        marks are tokens of one tokenizer (``tillerman.make_scope``)."""
        cell = artefact.cell if self.dose is None else artefact.cell.at_dose(self.dose, artefact.steering)
        wanted = str(cell.scope) if self.scope is None else self.scope
        lost = cell.scope.name == "not_in_code" and cell.scope.piece is None  # a file cannot hold it
        return replace(cell, scope=make_scope(wanted)) if lost or wanted != str(cell.scope) else cell


@dataclass(frozen=True)
class NamedPlan:
    """Artefacts by name, applied together. The module's head has the grammar of its text; ``str`` is the inverse of
    ``parse``, ``from_json`` of ``to_json``."""

    parts: tuple[NamedPart, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise UsageError(f"a plan needs at least one artefact, e.g. {_EXAMPLE}")

    @classmethod
    def parse(cls, text: str) -> NamedPlan:
        """``UsageError`` names the place in the text, and shows how a plan is written."""
        reader, parts = _Reader(text), []
        while True:
            parts.append(reader.part())
            if reader.done:
                return cls(tuple(parts))
            reader.take(_JOIN, "expected '+' and another artefact, or the end")

    def __str__(self) -> str:
        return "+".join(map(str, self.parts))

    def resolve(self, load: Callable[[str], Artefact], make_scope: Callable[[str], Scope] = Scope.parse) -> Plan:
        """The plan on a model: each artefact that ``load`` gives for a name, at its part's cell, under its own gate.
        What looks ahead comes first: it reads the unsteered stream."""
        loaded = [(part, load(part.name)) for part in self.parts]
        return joined(part.cell(one, make_scope).plan(one.steering, one.gate) for part, one in loaded)

    def to_json(self) -> list[dict[str, Any]]:
        """``[{"artefact": "science", "dose": 0.3, "scope": "all"}]``; what is the artefact's own is left out."""
        rows = [dict(zip(_FIELDS, (part.name, part.dose, part.scope), strict=True)) for part in self.parts]
        return [{name: value for name, value in row.items() if value is not None} for row in rows]

    @classmethod
    def from_json(cls, values: Any) -> NamedPlan:
        """``UsageError`` or ``UnknownNameError`` names the part that is wrong."""
        if not isinstance(values, list | tuple):
            raise UsageError('a plan in JSON is a list of parts, e.g. [{"artefact": "science", "dose": 0.3}]')
        return cls(tuple(_part_of(place, value) for place, value in enumerate(values, start=1)))


class _Reader:
    """Reads a text from left to right."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text.strip(), 0

    @property
    def done(self) -> bool:
        return self.at == len(self.text)

    def part(self) -> NamedPart:
        quoted = self.text.startswith('"', self.at)
        name = self.take(_QUOTED if quoted else _BARE, "the quotes are not closed" if quoted else "expected a name")
        dose = float(self.take(_NUMBER, "expected a dose, a number")) if self.skip("@") else None
        start, scope = self.at + 1, self.take(_SCOPE, "expected a scope") if self.skip(":") else None
        try:
            return NamedPart(name[1:-1].replace('""', '"') if quoted else name, dose, scope)
        except TillermanError as error:
            raise self.error(str(error), start) from None

    def take(self, pattern: re.Pattern[str], otherwise: str) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise self.error(otherwise, self.at)
        self.at = found.end()
        return found[0]

    def skip(self, mark: str) -> bool:
        met = self.text.startswith(mark, self.at)
        self.at += met
        return met

    def error(self, why: str, at: int) -> UsageError:
        where = f"at {self.text[at : at + 20]!r}" if at < len(self.text) else "at its end"
        return UsageError(f"plan {self.text!r}, character {at + 1} ({where}): {why}. Write it as '{_EXAMPLE}'")


def _part_of(place: int, value: Any) -> NamedPart:
    if not isinstance(value, Mapping):
        raise UsageError(f"plan, part {place}: expected an object with {', '.join(_FIELDS)}, got {value!r}")
    for name in value:
        if name not in _FIELDS:
            raise UnknownNameError(f"field of a plan's part {place}", str(name), _FIELDS)
    name, dose, scope = (value.get(field) for field in _FIELDS)
    number = isinstance(dose, int | float) and not isinstance(dose, bool)
    if not isinstance(name, str) or not (dose is None or number) or not (scope is None or isinstance(scope, str)):
        raise UsageError(f"plan, part {place}: artefact and scope are texts, dose is a number; got {dict(value)!r}")
    return NamedPart(name, None if dose is None else float(dose), scope)
