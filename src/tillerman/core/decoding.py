"""Values of JSON, checked against the types they are to have. The first one that does not fit is named by its place:
``conditions[2].rate.value: expected a number, got a text``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tillerman.core.errors import TillermanError

T = TypeVar("T")
_WORDS: Mapping[Any, str] = {
    NoneType: "nothing",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    tuple: "a list",
    dict: "fields",
}


class Misfit(TillermanError):
    """A value that is not of its type; its text begins with the place. Whoever knows the file puts it before that."""


def build(kind: type[T], values: Any, place: str = "") -> T:
    """A dataclass from its JSON; fields that it does not know are left out, and those with a default may be missing."""
    if not isinstance(values, Mapping):
        raise _misfit(place, "fields", values)
    hints, known = get_type_hints(kind), {}
    for one in fields(kind):  # type: ignore[arg-type]
        if one.name in values:
            known[one.name] = decoded(hints[one.name], values[one.name], _inside(place, one.name))
        elif one.default is one.default_factory is MISSING:
            raise Misfit(f"{_inside(place, one.name)}: missing")
    try:
        return kind(**known)
    except (TypeError, ValueError, TillermanError) as error:
        if not place and isinstance(error, TillermanError):
            raise  # it says itself what is wrong
        raise Misfit(f"{place or 'whole'}: {error}") from None


def decoded(hint: Any, value: Any, place: str = "") -> Any:
    """JSON back to the typed value: plain ones, lists, fields, optional ones and dataclasses.

    A whole number is a number; a number without fraction is a whole number; nothing else is taken for another type.
    ``TypeError`` for a type that JSON has no form for."""
    if hint is Any:
        return value
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _one_of(inner, value, place)
    if origin is Literal:
        if value not in inner:
            raise Misfit(f"{place}: expected one of {', '.join(map(repr, inner))}, got {_named(value)}")
        return value
    if origin is tuple:
        return _items(inner, value, place)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise _misfit(place, "fields", value)
        return {name: decoded(inner[1], one, _inside(place, name)) for name, one in value.items()}
    if is_dataclass(hint):
        return build(hint, value, place)  # type: ignore[arg-type]
    return _plain(hint, value, place)


def take(values: Any, name: str, hint: Any, default: Any = MISSING) -> Any:
    """One field of a mapping from a file, checked; ``default`` where it may be missing."""
    if not isinstance(values, Mapping):
        raise _misfit("", "fields", values)
    if name in values:
        return decoded(hint, values[name], name)
    if default is MISSING:
        raise Misfit(f"{name}: missing")
    return default


def _one_of(hints: Sequence[Any], value: Any, place: str) -> Any:
    if value is None and NoneType in hints:
        return None
    wanted = [hint for hint in hints if hint is not NoneType]
    for hint in wanted[:-1]:
        try:
            return decoded(hint, value, place)
        except Misfit:
            continue
    return decoded(wanted[-1], value, place)


def _items(hints: Sequence[Any], value: Any, place: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _misfit(place, "a list", value)
    if hints[-1] is Ellipsis:
        hints = [hints[0]] * len(value)
    if len(hints) != len(value):
        raise Misfit(f"{place}: expected {len(hints)} values, got {len(value)}")
    return tuple(decoded(h, one, f"{place}[{i}]") for i, (h, one) in enumerate(zip(hints, value, strict=True)))


def _plain(hint: Any, value: Any, place: str) -> Any:
    if hint not in _WORDS:
        raise TypeError(f"{place}: no form in JSON for {hint}")
    kind = type(value)
    if (hint is float and kind is int) or (hint is int and kind is float and value.is_integer()):
        try:
            return hint(value)
        except OverflowError:
            raise Misfit(f"{place}: a number of more than 300 digits") from None
    if not isinstance(value, hint) or (kind is bool and hint is not bool):
        raise _misfit(place, _WORDS[hint], value)
    return value


def _misfit(place: str, expected: str, value: Any) -> Misfit:
    return Misfit(f"{place or 'whole'}: expected {expected}, got {_named(value)}")


def _named(value: Any) -> str:
    return _WORDS.get(type(value), type(value).__name__)


def _inside(place: str, name: Any) -> str:
    return f"{place}.{str(name)[:40]}" if place else str(name)[:40]
