"""Values with options as one line of text, and back: ``cold-fd:keep=0.01,loss=rejected``.

A list of them has commas, too: after a colon, ``key=value`` pieces belong to the name before them, and a piece
without ``=`` begins the next one. A text with a comma, or a blank at an end, stands in double quotes as in JSON:
``actadd:positive="I love, love you",negative=Hate``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from tillerman.core.errors import UsageError

_QUOTED = r'"(?:[^"\\]|\\.)*"'
# A piece of a list: up to the next comma, or with a whole quoted value.
_PIECE = re.compile(rf"(?:[^,:=]*:)?\s*\w+\s*=\s*{_QUOTED}\s*(?=,|$)|[^,]*")
_PAIR = re.compile(r"\s*(\w+)\s*=(.*)", re.DOTALL)
_KINDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


@dataclass(frozen=True)
class OptionInfo:
    """What is said of an option: its words for people, and which values it takes."""

    help: str = ""
    choices: tuple[str, ...] = ()
    above: int | float | None = None
    least: int | float | None = None
    most: int | float | None = None

    @property
    def bounds(self) -> str:
        """`` above 0, at most 1``; empty where every number will do."""
        said = [
            f"{word} {limit:g}"
            for word, limit in (("above", self.above), ("at least", self.least), ("at most", self.most))
            if limit is not None
        ]
        return " " + ", ".join(said) if said else ""

    def admits(self, number: int | float) -> bool:
        return (
            math.isfinite(number)
            and (self.above is None or number > self.above)
            and (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
        )


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    above: int | float | None = None,
    least: int | float | None = None,
    most: int | float | None = None,
) -> Any:
    """A field of a frozen dataclass that a spec can set. Its values are text, numbers or true and false."""
    return field(default=default, metadata={"option": OptionInfo(help, choices, above, least, most)})


def in_head(default: str) -> Any:
    """A field that the name in front of the colon says, as ``pca`` in ``caa+pca``; no option."""
    return field(default=default, metadata={"head": True})


@dataclass(frozen=True)
class Option:
    """One option of a class: its name, kind (``str``, ``int``, ``float``, ``bool``), default and description."""

    name: str
    kind: type
    optional: bool  # None is a value
    default: Any
    info: OptionInfo

    @property
    def expected(self) -> str:
        if self.info.choices:
            return f"one of {', '.join(self.info.choices)}"
        return _KINDS[self.kind] + self.info.bounds

    def read(self, owner: str, text: str) -> Any:
        """The value that ``text`` writes; ``UsageError`` says what was expected."""
        text = text.strip()
        if self.kind is str and text.startswith('"'):
            return self._quoted(owner, text)
        if self.optional and text == "none":
            return None
        try:
            if self.kind is bool:
                return {"true": True, "false": False}[text.lower()]
            return self.kind(text)
        except (ValueError, KeyError):
            raise UsageError(f"{owner}: {self.name}={text}: expected {self.expected}") from None

    def _quoted(self, owner: str, text: str) -> str:
        try:
            return str(json.loads(text))
        except ValueError:
            raise UsageError(f"{owner}: {self.name}={text}: the quotes do not close; write them as in JSON") from None

    def write(self, value: Any) -> str:
        if value is None:
            return "none"
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, float):
            return f"{value:g}" if float(f"{value:g}") == value else repr(value)
        text = str(value)
        plain = text.strip() == text and text not in ("", "none") and not re.search(r'^"|[,\x00-\x1f\x7f-\x9f]', text)
        return text if plain or not isinstance(value, str) else json.dumps(text, ensure_ascii=False)

    def check(self, owner: str, value: Any) -> Any:
        """The value, a whole number as a float where one is wanted; ``UsageError`` where it is none of ours."""
        if value is None and self.optional:
            return None
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        fits = isinstance(value, self.kind) and (self.kind is bool or not isinstance(value, bool))
        if fits and self.info.choices:
            fits = value in self.info.choices
        if fits and isinstance(value, int | float) and not isinstance(value, bool):
            fits = self.info.admits(value)
        if fits:
            return value
        close = get_close_matches(str(value), self.info.choices, n=1)
        hint = f". Did you mean {close[0]!r}?" if close else ""
        raise UsageError(f"{owner}: {self.name}={self._shown(value)}: expected {self.expected}{hint}")

    def _shown(self, value: Any) -> str:
        return self.write(value) if isinstance(value, str | int | float | NoneType) else repr(value)


def options(owner: str, kind: type) -> tuple[Option, ...]:
    """The options of a dataclass, in its order. ``UsageError`` for a field that a spec could not write."""
    hints = get_type_hints(kind)
    return tuple(_option(owner, f, hints[f.name]) for f in fields(kind) if f.init and "head" not in f.metadata)


def checked(owner: str, value: Any) -> dict[str, Any]:
    """The options of a dataclass's value as they should be; ``UsageError`` names the first that is wrong."""
    return {o.name: o.check(owner, getattr(value, o.name)) for o in options(owner, type(value))}


def read_options(owner: str, kind: type, given: Mapping[str, str]) -> dict[str, Any]:
    """Fields of ``kind`` from their texts; ``UsageError`` for one that it does not have."""
    known = {o.name: o for o in options(owner, kind)}
    for name in given:
        if name not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            close = get_close_matches(name, known, n=1)
            hint = f". Did you mean {close[0]!r}?" if close else ""
            raise UsageError(f"{owner}: no option {name!r}; {takes}{hint}")
    return {name: known[name].read(owner, text) for name, text in given.items()}


def write_options(owner: str, value: Any) -> str:
    """``:keep=0.01,loss=rejected``: what differs from the defaults; empty where nothing does."""
    said = [
        f"{o.name}={o.write(getattr(value, o.name))}"
        for o in options(owner, type(value))
        if getattr(value, o.name) != o.default
    ]
    return ":" + ",".join(said) if said else ""


def split_specs(text: str) -> list[str]:
    """A list into its specs: ``caa,cold-fd:keep=0.1,loss=rejected,pas`` into ``caa``, ``cold-fd:keep=0.1,
    loss=rejected`` and ``pas``."""
    specs: list[str] = []
    for piece in _pieces(text):
        if _PAIR.fullmatch(piece) and specs and ":" in specs[-1]:
            specs[-1] += "," + piece
        else:
            specs.append(piece.strip())
    return specs


def read_spec(text: str) -> tuple[str, dict[str, str]]:
    """The name in front of the colon, and the text of each option after it."""
    if _PAIR.fullmatch(text):
        raise UsageError(f"{text.strip()!r} is an option without a name; write NAME:{text.strip()}")
    head, colon, rest = text.partition(":")
    given: dict[str, str] = {}
    for piece in _pieces(rest) if colon else ():
        pair = _PAIR.fullmatch(piece)
        if pair is None:
            raise UsageError(f"{text!r}: {piece.strip()!r} is no option; write {head.strip()}:key=value,key=value")
        if pair[1] in given:
            raise UsageError(f"{text!r}: {pair[1]} is given twice")
        given[pair[1]] = pair[2]
    return head.strip(), given


def _pieces(text: str) -> list[str]:
    pieces, at = [], 0
    while at <= len(text):
        found = _PIECE.match(text, at)
        assert found is not None  # the last choice of the pattern fits everywhere
        pieces.append(found[0])
        at = found.end() + 1
    return pieces


def _option(owner: str, one: Field[Any], hint: Any) -> Option:
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = [part for part in parts if part is not NoneType]
    if len(kinds) != 1 or kinds[0] not in _KINDS:
        raise UsageError(f"{owner}: the option {one.name} is {hint}; options are str, int, float or bool, or None")
    return Option(one.name, kinds[0], len(parts) > len(kinds), one.default, one.metadata.get("option", OptionInfo()))
