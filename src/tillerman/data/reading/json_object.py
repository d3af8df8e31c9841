"""One JSON object that holds a whole data set: rows under a key, columns, or rows by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tillerman.core.errors import DataError
from tillerman.data.reading.json_cursor import JsonCursor, Numbered
from tillerman.data.reading.options import with_option
from tillerman.data.reading.rows import OnBad
from tillerman.data.reading.text import TextFile

_DEPTH = 3  # objects within objects that are looked into
# Lists of objects that belong to one row, not rows of a file.
_IN_A_ROW = frozenset({"choices", "options", "messages", "conversations", "conversation", "turns", "completions"})
_SPEAKS = frozenset({"role", "from"})  # an object with one of these is a message
_TRAIT = (
    "a trait file of persona_vectors: instructions, questions and a judge's prompt, without the answers that make a "
    "contrast. Have the questions answered under both instructions and give rows of prompt, chosen, rejected; or read "
    "the instructions as texts: {}, columns positive=pos,negative=neg"
)


@dataclass(frozen=True)
class Outline:
    """What a value is: ``object`` (with its members), ``rows`` (a list of objects), ``list`` or ``value``."""

    kind: str
    count: int = 1
    members: Mapping[str, Outline] = field(default_factory=dict)


def values_of_object(file: TextFile, on_bad: OnBad) -> Iterator[Numbered] | None:
    """The values under one key, or columns as rows, of a file that is one object; None where it is a row itself, or
    one of several.

    ``DataError`` names the keys where several hold rows, and what is wrong with a choice.
    """
    cursor = JsonCursor(file)
    if cursor.peek() != "{":
        raise DataError(f"rows={file.reading.rows}: the file is not one JSON object", file=file.path)
    top = _outline(cursor)
    if cursor.peek():
        if file.reading.rows is not None:
            raise DataError(f"rows={file.reading.rows}: the file holds more than one JSON object", file=file.path)
        return None
    path = _chosen(top, file) if file.reading.rows is not None else _found(top, file)
    if path is not None:
        return _values_at(JsonCursor(file), path, file, on_bad)
    return _whole(top, file, on_bad)


def _outline(cursor: JsonCursor, depth: int = 0) -> Outline:
    begin = cursor.peek()
    if begin == "{" and depth < _DEPTH:
        members = {key: _outline(cursor, depth + 1) for key in cursor.members()}
        return Outline("object", len(members), members)
    if begin != "[":
        cursor.value()
        return Outline("value")
    count, objects, spoken = 0, 0, 0
    for _ in cursor.items():
        # What is wrong with an item is said when it is read as a row.
        item: Any = next((value for value, _ in cursor.numbered(lambda error: None)), {})
        count, objects = count + 1, objects + isinstance(item, dict)
        spoken += isinstance(item, dict) and bool(_SPEAKS & item.keys())
    return Outline("rows" if count and objects == count and spoken < count else "list", count)


def _found(top: Outline, file: TextFile) -> tuple[str, ...] | None:
    members, path = top.members, tuple[str, ...]()
    while len(members) == 1 and next(iter(members.values())).kind == "object":
        path = (*path, *members)
        members = next(iter(members.values())).members
    places = [key for key, member in members.items() if member.kind == "rows" and key not in _IN_A_ROW]
    if "instruction" in places and "questions" in members:
        raise DataError("this is " + _TRAIT.format(with_option(file.path, rows="instruction")), file=file.path)
    if len(places) > 1:
        shown = " and ".join(f"{key} ({members[key].count:,})" for key in places[:6])
        example = with_option(file.path, rows=".".join((*path, places[0])))
        raise DataError(f"one JSON object, whose rows lie under {shown}: choose, e.g. {example}", file=file.path)
    return (*path, places[0]) if places else None


def _chosen(top: Outline, file: TextFile) -> tuple[str, ...]:
    wanted, here, path = str(file.reading.rows), top, tuple[str, ...]()
    while wanted:
        key = next((k for k in here.members if wanted == k or wanted.startswith(k + ".")), None)
        if key is None:
            break
        here, path, wanted = here.members[key], (*path, key), wanted[len(key) + 1 :]
    if here.kind in ("rows", "list") and not wanted:
        return path
    known = ", ".join(f"{key} ({member.kind})" for key, member in list(here.members.items())[:8])
    under = f" under {'.'.join(path)}" if path else ""
    raise DataError(f"rows={file.reading.rows}: there is no list of that name; found{under} {known}", file=file.path)


def _values_at(cursor: JsonCursor, path: tuple[str, ...], file: TextFile, on_bad: OnBad) -> Iterator[Numbered]:
    if path:
        for key in cursor.members():
            if key == path[0]:
                yield from _values_at(cursor, path[1:], file, on_bad)
            else:
                _outline(cursor)
        return
    for _ in cursor.items():
        yield from cursor.numbered(on_bad)


def _whole(top: Outline, file: TextFile, on_bad: OnBad) -> Iterator[Numbered] | None:
    """Columns, or rows by name, where every member is a list of one length or an object of the same keys."""
    members = list(top.members.values())
    if {"columns", "data"} <= top.members.keys() and len(members) <= 3:
        message = "a table as pandas writes it with orient='split'; write it with to_json(PATH, orient='records')"
        raise DataError(message, file=file.path)
    if len(members) < 2:
        return None
    if all(m.kind == "list" and m.count == members[0].count > 1 for m in members):
        return _columns(file, on_bad, listed=True)
    if not all(m.kind == "object" and m.members.keys() == members[0].members.keys() for m in members):
        return None
    if all(key.isdecimal() for key in members[0].members):
        return _columns(file, on_bad, listed=False)
    return _by_name(file, on_bad)


def _columns(file: TextFile, on_bad: OnBad, listed: bool) -> Iterator[Numbered]:
    """``{"text": ["a", "b"], ...}``, or ``{"text": {"0": "a", "1": "b"}, ...}`` as ``DataFrame.to_json`` writes it."""
    cursor, rows, lines = JsonCursor(file), dict[Any, dict[str, Any]](), dict[Any, int]()
    for name in cursor.members():
        for key in cursor.items() if listed else cursor.members():
            for value, line in cursor.numbered(on_bad):
                rows.setdefault(key, {})[name] = value
                lines.setdefault(key, line)
    for key, row in rows.items():
        yield row, lines[key]


def _by_name(file: TextFile, on_bad: OnBad) -> Iterator[Numbered]:
    """``{"id-1": {"question": ...}, "id-2": {...}}``: a row per member."""
    cursor = JsonCursor(file)
    for _ in cursor.members():
        yield from cursor.numbered(on_bad)
