"""Rows of multiple choice: a list of options or a column each, and the answer as a number, a letter or a text.

How answers are to be read is settled for the whole file first (``tillerman.data.answers``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tillerman.core.shown import clipped
from tillerman.data.answers import position, settled
from tillerman.data.examples import Example
from tillerman.data.fields import asked, example, label, merged, text, texts, unmarked
from tillerman.data.lettered import lettered
from tillerman.data.option_columns import filled_options, has_option_columns, option_columns
from tillerman.data.parsers import is_letter, lettered_example
from tillerman.data.reading.rows import SourceRow


def choice(row: SourceRow) -> Example:
    return _listed(row, "options")


def choices(row: SourceRow) -> Example:
    return _listed(row, "choices")


def settled_choice(rows: Sequence[SourceRow]) -> list[SourceRow]:
    return settled(rows, "answer", lambda row: _options(row, "options"), layout="choice")


def settled_choices(rows: Sequence[SourceRow]) -> list[SourceRow]:
    return settled(rows, "answer", lambda row: _options(row, "choices"), layout="choices")


def _listed(row: SourceRow, name: str) -> Example:
    options = _options(row, name)
    if len(options) < 2:
        raise row.error(f"expected at least two options, got {len(options)}", name)
    return example(row, "choice", asked(row), options, _right(row, "answer", options), name)


def _options(row: SourceRow, name: str) -> tuple[str, ...]:
    return unmarked(texts(row, name))


def answer_columns(row: SourceRow) -> Example:
    return _in_columns(row, "answer")


def matching_columns(row: SourceRow) -> Example:
    return _in_columns(row, "matching")


def settled_columns(rows: Sequence[SourceRow]) -> list[SourceRow]:
    return _settled_columns(rows, "answer", "option-columns")


def settled_matching(rows: Sequence[SourceRow]) -> list[SourceRow]:
    return _settled_columns(rows, "matching", "bipo-ab")


def _settled_columns(rows: Sequence[SourceRow], right: str, layout: str) -> list[SourceRow]:
    first = option_columns(rows[0]).first  # a fault of the columns is one of the file, not of a row
    return settled(rows, right, lambda row: _in_row(row), layout=layout, first=first, complete=True)


def _in_row(row: SourceRow) -> tuple[str, ...]:
    return tuple(text(row, name) for name in filled_options(row, option_columns(row)))


def _in_columns(row: SourceRow, right: str) -> Example:
    """One column per option, as far as they are filled; a repeated option is shown once."""
    written = _in_row(row)
    options, place = merged(written, _right(row, right, written))
    return example(row, "choice", asked(row), options, place, option_columns(row).in_order[0])


def _right(row: SourceRow, name: str, options: Sequence[str]) -> int:
    found = position(row, name, len(options))
    if found is None:
        shown = label(row, name)
        listed = clipped(", ".join(options), 100)
        raise row.error(f"expected an index, a letter or the text of one of {listed}; got {clipped(shown, 60)!r}", name)
    return found


def has_columns(fields: Mapping[str, Any]) -> bool:
    return has_option_columns(fields)


def is_lettered_question(fields: Mapping[str, Any]) -> bool:
    return (
        is_letter(fields["answer"]) and isinstance(fields["question"], str) and lettered(fields["question"]) is not None
    )


def lettered_question(row: SourceRow) -> Example:
    """The options inside the question, the answer the letter of one."""
    return lettered_example(row, "question", "answer")
