"""Mutants of files: of their bytes, and of the JSON in them. Seeded: the same seed makes the same mutants."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 7, 3.5, -2.25, 1e308, -1e308, 1e-320, float("nan"), float("inf"), 10**30, 10**400,
    "", "x", "0", "layers.0.resid_post", "layers.0-99999999999.resid_post", "[/INST] [bold]", "\x1b[31mred\x1b[0m",
    "\ud800", "\x00", "a" * 2000, "{{ 7 * 7 }}", "<script>", [], {}, [[]], [None], {"": None}, {"value": 1}, [1, 2, 3],
)  # fmt: skip


def of_bytes(content: bytes, draw: random.Random) -> bytes:
    """One to three changes: a flipped bit, bytes overwritten, cut out, put in, doubled, swapped, or the end cut off."""
    made = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        at = draw.randrange(len(made)) if made else 0
        if draw.random() < 0.4:
            at = min(at, draw.randrange(4096))  # heads are short, and more can go wrong there
        length = draw.choice((1, 1, 2, 4, 8, 64))
        match draw.randrange(7):
            case 0 if made:
                made[at] ^= 1 << draw.randrange(8)
            case 1:
                made[at : at + length] = draw.randbytes(length)
            case 2:
                del made[at : at + length]
            case 3:
                made[at:at] = draw.randbytes(length)
            case 4:
                made[at:at] = made[at : at + length]
            case 5:
                other = draw.randrange(len(made) or 1)
                made[at : at + length], made[other : other + length] = (
                    made[other : other + length],
                    made[at : at + length],
                )
            case _:
                del made[at:]
    return bytes(made)


def of_json(value: Any, draw: random.Random) -> Any:
    """One to three changes at random places: a value of another type or size, a field dropped, renamed or doubled, a
    list emptied, cut or made longer."""
    made = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        places = list(_places(made))
        if not places:
            return made
        holder, key = draw.choice(places)
        match draw.randrange(6):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[draw.choice((*holder, "other"))] = holder.pop(key)
            case 2 if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(draw.choice(holder)))
            case 3 if isinstance(holder[key], str):
                holder[key] += draw.choice(("", "x", "\x1b]0;title\x07", "[/red]", "\ud83d"))
            case 4 if isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
                holder[key] = draw.choice((-holder[key], holder[key] * 1e6, holder[key] + 0.5, str(holder[key])))
            case _:
                holder[key] = copy.deepcopy(draw.choice(ODD))
    return made


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield value, key
        yield from _places(one)
