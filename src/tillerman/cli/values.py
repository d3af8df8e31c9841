"""How the text of an option becomes a value, and whether an output can be written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tillerman.core.errors import UsageError
from tillerman.core.files import check_writable
from tillerman.core.hookpoint import HookPoint, parse_points

if TYPE_CHECKING:
    from tillerman.methods.gates import GateOptions


def arguments_of(text: str | None) -> dict[str, Any]:
    """``enable_thinking=false,reasoning_effort=low`` -> {"enable_thinking": False, "reasoning_effort": "low"}."""
    from tillerman.data.templates import read_arguments  # the help must not wait for transformers

    return {} if text is None else read_arguments(text)


def columns_of(text: str | None) -> dict[str, str] | None:
    """``question=prompt,options=a+b+c`` -> {"question": "prompt", "options": "a,b,c"}."""
    if text is None:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    if any(not (field.strip() and equals and column.strip()) for field, equals, column in pairs):
        raise UsageError(f"--columns {text!r}: write field=column pairs, e.g. question=prompt,answer=gold")
    return {field.strip(): column.strip().replace("+", ",") for field, _, column in pairs}


def numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    """``0.5,1,2`` -> (0.5, 1.0, 2.0)."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text!r}: write numbers with commas, e.g. 0.5,1,2") from None


_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def seconds_of(text: str | None, option: str) -> float | None:
    """``90s`` -> 90.0, ``5m`` -> 300.0, ``1.5h`` -> 5400.0."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if found is None or found[2] not in _UNITS or not float(found[1]):
        raise UsageError(f"{option} {text!r}: write a time, e.g. 90s, 5m or 1h")
    return float(found[1]) * _UNITS[found[2]]


def limit_of(text: str, option: str) -> float | str | None:
    """``0.1`` -> 0.1; ``none`` -> None, no limit; ``auto`` as it is."""
    if text.strip().lower() in ("none", "auto"):
        return None if text.strip().lower() == "none" else "auto"
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{option} {text!r}: write a number, none for no limit, or auto") from None


def shares_of(text: str) -> tuple[float, float, float]:
    values = numbers(text, "--shares") or ()
    if len(values) != 3:
        raise UsageError(f"--shares {text!r}: write three shares, e.g. 0.6,0.2,0.2")
    return values[0], values[1], values[2]


def whole_numbers(text: str | None, option: str) -> tuple[int, ...] | None:
    """``1-3,7`` -> (1, 2, 3, 7)."""
    if text is None:
        return None
    values: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.strip().isdecimal() or (dash and not last.strip().isdecimal()):
            raise UsageError(f"{option} {text!r}: write whole numbers and ranges, e.g. 1-15 or 3,5,8")
        values += range(int(first), int(last if dash else first) + 1)
    if not values:
        raise UsageError(f"{option} {text!r}: an empty range")
    return tuple(dict.fromkeys(values))


def layers_of(text: str | None) -> tuple[int, ...] | None:
    return whole_numbers(text, "--layers")


def writable(path: Path | None) -> None:
    """Complain about an output that cannot be written before any work is done."""
    if path is not None:
        check_writable(path)


def new_folder(path: Path | None) -> Path | None:
    """Complain about a folder that holds something, or cannot be made, before any work is done."""
    if path is not None and path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UsageError(f"{path}: exists and is not an empty folder; give a new one")
    if path is not None and not path.parent.is_dir():
        raise UsageError(f"{path}: cannot be written, the folder {path.parent} does not exist")
    return path


def gate_of(data: str | None, at: str | None, positive: str | None) -> GateOptions | None:
    from tillerman.methods.gates import GateOptions

    if data is None and (at is not None or positive is not None):
        raise UsageError("--gate-at and --gate-positive are about a gate; give --gate DATA")
    return None if data is None else GateOptions(data, positive, at)


def points_of(text: str | None) -> tuple[HookPoint, ...] | None:
    return None if text is None else parse_points(text)


def several(values: Sequence[str] | None) -> tuple[str, ...] | None:
    """An option that may be given many times; None where it was not given."""
    return tuple(values) if values else None


def first_words(values: Sequence[str], count: int = 3) -> str:
    more = f" and {len(values) - count} more" if len(values) > count else ""
    return "; ".join(values[:count]) + more
