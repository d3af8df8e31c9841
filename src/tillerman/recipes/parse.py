"""A recipe from TOML, strictly: every key is known, every value has its type, and an error says where."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from tillerman.core.errors import DataError, TillermanError, UnknownNameError
from tillerman.recipes.recipe import Recipe

SHIPPED = ("pas", "cae", "cold-steer", "sta", "rice", "steerability")
# A TOML file reads better with one [[task]] than with an entry of [[tasks]].
_PLURAL = {
    "task": "tasks",
    "step": "steps",
    "table": "tables",
    "claim": "claims",
    "arm": "arms",
    "row": "rows",
    "column": "columns",
}


def read_recipe(source: str | Path) -> tuple[Recipe, str]:
    """A shipped recipe by name, or a TOML file; and a digest of its text. ``DataError`` names the key."""
    name = str(source)
    if name in SHIPPED:
        text = files("tillerman.recipes").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    elif Path(name).suffix == ".toml" and Path(name).is_file():
        text = Path(name).read_text(encoding="utf-8")
    else:
        raise UnknownNameError("recipe (or TOML file)", name, SHIPPED)
    return parse_recipe(text, name), blake2b(text.encode(), digest_size=8).hexdigest()


def parse_recipe(text: str, file: str = "recipe") -> Recipe:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"invalid TOML: {error}", file=file) from None
    try:
        recipe: Recipe = _made(Recipe, values, "")
        return recipe
    except DataError as error:
        raise DataError(str(error), file=file) from None


def _made(kind: type, values: Any, place: str) -> Any:
    """A dataclass from a table."""
    if not isinstance(values, Mapping):
        raise DataError(f"{place or 'recipe'}: expected a table, got {_kind(values)}")
    hints, known = get_type_hints(kind), {f.name: f for f in fields(kind)}
    given = {_PLURAL[key] if key in _PLURAL and _PLURAL[key] in known else key: v for key, v in values.items()}
    for key in given:
        if key not in known:
            raise DataError(f"{_at(place, key)}: no such key; known: {', '.join(known)}.{_hint(key, known)}")
    for name, f in known.items():
        if name not in given and f.default is MISSING and f.default_factory is MISSING:
            raise DataError(f"{_at(place, name)}: missing; every {kind.__name__.lower()} needs it")
    made = {name: _value(hints[name], value, _at(place, name)) for name, value in given.items()}
    try:
        return kind(**made)
    except TillermanError as error:  # what the values say together
        raise DataError(f"{place}: {error}" if place else str(error)) from None


def _value(hint: Any, value: Any, place: str) -> Any:
    origin = get_origin(hint)
    if hint is Any:
        return value
    if origin in (Union, UnionType):
        return _value(next(a for a in get_args(hint) if a is not type(None)), value, place)
    if origin is Literal:
        if value not in get_args(hint):
            raise DataError(f"{place}: expected one of {', '.join(get_args(hint))}, got {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise DataError(f"{place}: expected a list, got {_kind(value)}")
        return tuple(_value(get_args(hint)[0], one, f"{place}[{i}]") for i, one in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise DataError(f"{place}: expected a table, got {_kind(value)}")
        return {key: _value(get_args(hint)[1], one, _at(place, key)) for key, one in value.items()}
    if is_dataclass(hint):
        return _made(hint, value, place)  # type: ignore[arg-type]
    return _plain(hint, value, place)


def _plain(hint: Any, value: Any, place: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
        raise DataError(f"{place}: expected {names[hint]}, got {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    return "a table" if isinstance(value, Mapping) else "a list" if isinstance(value, list) else repr(value)


def _at(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _hint(key: str, known: Mapping[str, Any]) -> str:
    close = get_close_matches(key, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
