"""What all logs have in common: plain values, a kind, a version, and one way from JSON back to them."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def build(kind: type[T], values: dict[str, Any]) -> T:
    """A dataclass of plain values from its JSON; fields that it does not know are left out."""
    hints = get_type_hints(kind)
    known = {f.name: _value(hints[f.name], values[f.name]) for f in fields(kind) if f.name in values}  # type: ignore[arg-type]
    return kind(**known)


def _value(hint: Any, value: Any) -> Any:
    """JSON back to the typed value: dataclasses, tuples of one type, pairs, optionals."""
    if value is None:
        return None
    if get_origin(hint) in (Union, UnionType):
        return _value(next(a for a in get_args(hint) if a is not type(None)), value)
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        if inner[-1] is Ellipsis:
            return tuple(_value(inner[0], v) for v in value)
        return tuple(_value(h, v) for h, v in zip(inner, value, strict=True))
    if is_dataclass(hint):
        return build(hint, value)  # type: ignore[arg-type]
    return value
