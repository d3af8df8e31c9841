"""JSON in the forms in which rows are written: a row per line, lists, objects one after another, one object of lists.

The text decides, not the file's name: ``.json``, ``.jsonl`` and ``.ndjson`` are read alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tillerman.core.errors import DataError
from tillerman.data.reading.json_cursor import DECODER, JsonCursor, Numbered, TwiceError
from tillerman.data.reading.json_object import values_of_object
from tillerman.data.reading.rows import OnBad, SourceRow, object_row, raising
from tillerman.data.reading.text import TextFile


def json_rows(file: TextFile, on_bad: OnBad) -> Iterator[SourceRow]:
    """The rows of a JSON file, each with its line. ``DataError`` where the file as a whole is not to be read."""
    for value, line in json_items(file, on_bad):
        try:
            yield object_row(value, file.path, line)
        except DataError as error:
            on_bad(error)


def json_items(file: TextFile, on_bad: OnBad = raising) -> Iterator[Numbered]:
    """What a JSON file holds several of: the values under its key, the items of its lists, or its values, in order."""
    head, whole = file.head()
    if file.reading.rows is not None or (head.lstrip()[0] == "{" and not _a_row_per_line(head, whole)):
        values = values_of_object(file, on_bad)
        if values is not None:
            return values
    if head.lstrip()[0] == "[" or not _a_row_per_line(head, whole):
        return _one_after_another(file, on_bad)
    return _lines(file, on_bad)


def _a_row_per_line(head: str, whole: bool) -> bool:
    """Whether lines stand for themselves: the first is a value and not the only one, or the second begins an object."""
    lines = [line for line in head.split("\n") if line.strip()]
    if not whole:
        lines = lines[:-1]  # cut
    if len(lines) < 2:
        return head.lstrip()[0] not in "{[" and whole
    if lines[1].lstrip().startswith("{") and not lines[0].rstrip().endswith(("[", "{")):
        return True
    try:
        _decoded(lines[0])
    except TwiceError:
        return True
    except (ValueError, RecursionError):
        return not lines[0].lstrip().startswith(("{", "["))
    return True


def _decoded(line: str) -> Any:
    """The value of a line, which may end with a comma, as rows do that were cut out of a list."""
    text = line.strip()
    try:
        return DECODER.decode(text)
    except json.JSONDecodeError:
        if not text.endswith(","):
            raise
        return DECODER.decode(text[:-1])


def _lines(file: TextFile, on_bad: OnBad) -> Iterator[Numbered]:
    for number, line in file.lines(on_bad):
        if not line.strip():
            continue
        try:
            found = _of_line(line, file.path, number)
        except DataError as error:
            on_bad(error)
        else:
            yield found, number


def _of_line(line: str, path: Path, number: int) -> Any:
    try:
        return _decoded(line)
    except json.JSONDecodeError as error:
        shown = line.strip()[:40]
        message = f"broken JSON ({error.msg} at column {error.colno}); expected one JSON object per line, got {shown!r}"
        raise DataError(message, file=path, line=number) from None
    except TwiceError as error:
        raise DataError(str(error), file=path, line=number, field=error.key) from None
    except RecursionError:
        raise DataError("broken JSON (nested too deeply)", file=path, line=number) from None
    except ValueError as error:
        raise DataError(f"broken JSON ({error})", file=path, line=number) from None


def _one_after_another(file: TextFile, on_bad: OnBad) -> Iterator[Numbered]:
    """Lists and objects in any number: what ``cat a.json b.json`` makes is read to its end."""
    cursor, empty = JsonCursor(file), True
    while begin := cursor.peek():
        if begin == "[":
            for _ in cursor.items():
                yield from cursor.numbered(on_bad)
                empty = False
        elif begin == "{":
            yield from cursor.numbered(on_bad)
            empty = False
        elif empty or not cursor.accept(","):
            raise cursor.broken(f"expected an object or a list, got {begin!r}")
    if empty:
        raise DataError("the list is empty; expected rows", file=file.path)
