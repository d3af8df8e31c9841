"""Which option an answer names: one reading for a whole file.

An answer may be the number of an option, its letter or its text. Each row alone may fit several; a reading
that fits every row is taken, and two that fit every row and differ are an error that shows both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tillerman.core.errors import DataError
from tillerman.core.shown import clipped
from tillerman.data.fields import label, label_text
from tillerman.data.prompts import LETTERS
from tillerman.data.reading.rows import SourceRow
from tillerman.data.splits import normalised

_COMMON = 0.1, 2  # share and number of rows from which answers that name no option are no slips


class Position(int):
    """An answer that has been read: the index of its option."""


def _index(shown: str, options: Sequence[str]) -> int | None:
    return int(shown) if shown.isdecimal() and len(shown) < 4 and int(shown) < len(options) else None


def _number(shown: str, options: Sequence[str]) -> int | None:
    return int(shown) - 1 if shown.isdecimal() and len(shown) < 4 and 0 < int(shown) <= len(options) else None


def _letter(shown: str, options: Sequence[str]) -> int | None:
    letter = shown.strip("().: ").upper()
    return LETTERS.index(letter) if len(letter) == 1 and letter in LETTERS[: len(options)] else None


def _text(shown: str, options: Sequence[str]) -> int | None:
    wanted = normalised(shown)
    return next((i for i, option in enumerate(options) if normalised(option) == wanted), None)


@dataclass(frozen=True)
class AnswerReading:
    words: str
    read: Callable[[str, Sequence[str]], int | None]


READINGS = {
    "answer_index": AnswerReading("a number from 0 on", _index),
    "answer_number": AnswerReading("a number from 1 on", _number),
    "answer_letter": AnswerReading("a letter", _letter),
    "answer_text": AnswerReading("the text of an option", _text),
}

Options = Callable[[SourceRow], Sequence[str]]
Told = Mapping[str, int]  # reading -> the option that it names


def settled(
    rows: Sequence[SourceRow], name: str, options: Options, *, layout: str, first: int = 0, complete: bool = False
) -> list[SourceRow]:
    """The rows with a ``Position`` in the field ``name``; a row that no reading fits stays as it is, for its parser to
    refuse.

    ``first``: the number of the first option, where columns are numbered. ``complete``: answers that name no option,
    on more than a few rows, mean that a column of options was not found. ``DataError`` for two readings.
    """
    chosen = next((reading for reading in READINGS if reading in rows[0].columns), None)
    told: Sequence[Told] = [_told(row, chosen or name, options, chosen) for row in rows]
    if chosen is None:
        told = _one_reading(rows, told, name, layout, first)
    if complete:
        _check_complete(rows, told, name, options)
    return [
        replace(row, fields={**row.fields, name: Position(next(iter(found.values())))}) if found else row
        for row, found in zip(rows, told, strict=True)
    ]


def _told(row: SourceRow, name: str, options: Options, chosen: str | None) -> Told:
    try:
        shown, texts = label(row, name), options(row)
    except DataError:
        return {}
    wanted = READINGS if chosen is None else {chosen: READINGS[chosen]}
    found = {reading: one.read(shown, texts) for reading, one in wanted.items()}
    return {reading: position for reading, position in found.items() if position is not None}


def _one_reading(rows: Sequence[SourceRow], told: Sequence[Told], name: str, layout: str, first: int) -> Sequence[Told]:
    """What is left of the readings of each row: those that fit all rows, or else all rows that hold a number and all
    that hold none. There, letters in some rows and texts in others may stand, each clear by itself."""
    unusual = "answer_index" if first else "answer_number"
    fitting = _fitting(told, unusual, first)
    parts = [[*range(len(rows))]]
    if not fitting:
        digits = [label_text(row.fields[name]).isdecimal() if found else True for row, found in _both(rows, told)]
        parts = [[i for i, digit in enumerate(digits) if digit is side] for side in (True, False)]
    left = list(told)
    for part in parts:
        here = fitting or _fitting([told[i] for i in part], unusual, first)
        if not here:
            here = [reading for reading in READINGS if reading != unusual]
            _check_kinds([(rows[i], told[i]) for i in part], unusual, name, layout)
        for i in part:
            left[i] = {reading: at for reading, at in told[i].items() if reading in here}
            if len(set(left[i].values())) > 1:
                raise _two_readings(rows[i], left[i], name, layout)
    return left


def _both(rows: Sequence[SourceRow], told: Sequence[Told]) -> list[tuple[SourceRow, Told]]:
    return list(zip(rows, told, strict=True))


def _fitting(told: Sequence[Told], unusual: str, first: int) -> list[str]:
    """Readings that fit every row that any fits. Numbers count from 0 wherever they can, but for numbered columns."""
    read = [found for found in told if found]
    fitting = [reading for reading in READINGS if all(reading in found for found in read)]
    known = not first and "answer_index" in fitting
    return [reading for reading in fitting if not (known and reading == unusual)]


def _check_kinds(part: Sequence[tuple[SourceRow, Told]], unusual: str, name: str, layout: str) -> None:
    """Numbers that are indices in some rows and texts in others leave open which of them is a slip."""
    digits = [(row, found) for row, found in part if found and label_text(row.fields[name]).isdecimal()]
    kinds = {reading for _, found in digits for reading in found if reading != unusual}
    if len(kinds) > 1:
        row = next(row for row, found in digits if "answer_text" in found)
        way = f"--layout {layout} --columns answer_text={row.columns.get(name, name)}"
        raise row.error(
            f"{label_text(row.fields[name])!r} is the text of an option, and other answers are numbers of options; "
            f"write one of them throughout, or name it: {way}",
            name,
        )


def _two_readings(row: SourceRow, here: Told, name: str, layout: str) -> DataError:
    column = row.columns.get(name, name)
    shown = clipped(label_text(row.fields[name]), 30)
    (one, at), (other, there) = next(((a, here[a]), (b, here[b])) for a in here for b in here if here[a] != here[b])
    ways = ", or ".join(
        f"--layout {layout} --columns {reading}={column} for {READINGS[reading].words}" for reading in (one, other)
    )
    return row.error(
        f"{shown!r} is option {at + 1} as {READINGS[one].words}, and option {there + 1} as {READINGS[other].words}. "
        f"Say which, for the whole file: {ways}; in Python layout={layout!r}, columns={{{one!r}: {column!r}}}",
        name,
    )


def _check_complete(rows: Sequence[SourceRow], told: Sequence[Told], name: str, options: Options) -> None:
    """Options beyond those found: the file has more of them than its columns tell."""
    lost = []
    for row, found in zip(rows, told, strict=True):
        shown = label_text(row.fields.get(name)) if isinstance(row.fields.get(name), str | int | float) else ""
        if not found and (_letter(shown, LETTERS[:10]) is not None or _index(shown, LETTERS[:10]) is not None):
            lost.append((row, shown))
    share, number = _COMMON
    if len(lost) >= number and len(lost) > share * len(rows):
        row, shown = lost[0]
        raise row.error(
            f"{len(lost)} of {len(rows)} answers name no option, as {shown!r} here: a column of options was not found; "
            f"is its name damaged? The row has {clipped(', '.join(map(str, row.fields)), 150)}",
            name,
        )


def position(row: SourceRow, name: str, count: int) -> int | None:
    """The option that the file's reading gave this row; None where none fits."""
    found: Any = row.fields.get(name)
    return int(found) if isinstance(found, Position) and found < count else None
