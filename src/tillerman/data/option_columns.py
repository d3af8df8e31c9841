"""Columns that hold one option each: ``A`` to ``E``, ``option_a``, ``choice0``, ``opt1``, ...

They are found by their names. A gap, or a column beside them whose name looks damaged, is an error: an option
that is dropped without a word changes the question.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from tillerman.data.reading.rows import SourceRow

_STEMS = ("", "option", "opt", "op", "choice", "ans", "answer", "alternative", "candidate", "ending")
_NAME = re.compile(r"(?P<stem>[a-z]*?)[ _.\-]*(?P<mark>[a-j]|\d)", re.IGNORECASE)
_ALIKE = 0.75  # similarity from which a name is a damaged form of another


@dataclass(frozen=True)
class OptionColumns:
    """Columns with one stem, by their marks: 0 for A, a or the first number."""

    stem: str
    lettered: bool
    names: Mapping[int, str]  # number of the mark -> column; a is 0, digits are themselves

    @property
    def first(self) -> int:
        """The number of the first option: letters count from 0, digits from 0 or 1."""
        return 1 if not self.lettered and 0 not in self.names else 0

    @property
    def in_order(self) -> tuple[str, ...]:
        return tuple(self.names[mark] for mark in sorted(self.names))


def has_option_columns(fields: Iterable[object]) -> bool:
    return bool(families(fields))


def families(fields: Iterable[object]) -> tuple[OptionColumns, ...]:
    """Every run of at least two columns with one stem and marks of one kind."""
    found: dict[tuple[str, bool], dict[int, str]] = defaultdict(dict)
    for column in fields:
        match = _NAME.fullmatch(column.strip()) if isinstance(column, str) else None
        if match is None or match["stem"].casefold() not in _STEMS:
            continue
        stem, mark = match["stem"].casefold(), match["mark"].casefold()
        if stem or mark.isalpha():
            number = int(mark) if mark.isdigit() else ord(mark) - ord("a")
            found[stem, mark.isalpha()].setdefault(number, str(column))
    return tuple(OptionColumns(stem, alpha, names) for (stem, alpha), names in found.items() if len(names) > 1)


def option_columns(row: SourceRow) -> OptionColumns:
    """The columns of a row's options; those that the user named win. ``DataError`` for none, for two sets of them,
    for a gap, and for a column that looks like a missing one."""
    found = families(row.fields)
    named = [one for one in found if any(name in row.columns for name in one.in_order)]
    chosen = named or list(found)
    if len(chosen) != 1:
        sets = " or ".join("/".join(one.in_order) for one in chosen) or "none"
        raise row.error(f"expected one set of columns with options (A, B, ... or option_a, ...), found {sets}")
    (columns,) = chosen
    if fault := _fault(columns, list(map(str, row.fields))):
        raise row.error(fault)
    return columns


def _fault(columns: OptionColumns, fields: list[str]) -> str | None:
    marks = sorted(columns.names)
    shown = ", ".join(columns.in_order)
    gap = next((mark for mark in range(columns.first, marks[-1]) if mark not in columns.names), None)
    if gap is not None:
        return f"columns {shown}: one between or before them is missing; is its name damaged?"
    others = [name for name in fields if name not in columns.names.values()]
    for mark in (marks[-1] + 1, columns.first - 1):
        wanted = _named_like(columns, mark)
        close = [name for name in others if wanted and _alike(name, wanted)]
        if close:
            return f"columns {shown}, and {close[0]!r}, which looks like a damaged {wanted!r}: rename it, or remove it"
    at = [fields.index(name) for name in columns.names.values()]
    for beside in (min(at) - 1, max(at) + 1):
        if 0 < beside < len(fields) - 1 and re.fullmatch(r"\s*|unnamed:? ?\d+", fields[beside], re.IGNORECASE):
            return f"columns {shown}, and one without a name beside them: name it, or remove it"
    return None


def _named_like(columns: OptionColumns, mark: int) -> str | None:
    """The name that the column of another mark would have."""
    model = columns.in_order[-1]
    if mark < 0 or mark > 9 or not columns.stem:
        return None
    return model[:-1] + (chr(ord("A" if model[-1].isupper() else "a") + mark) if columns.lettered else str(mark))


def _alike(name: str, wanted: str) -> bool:
    """Near enough to be the same name with a slip in it, and no name of an option itself."""
    if _NAME.fullmatch(name.strip()) and name.strip()[:-1].casefold() == wanted[:-1].casefold():
        return False
    return SequenceMatcher(None, name.casefold(), wanted.casefold()).ratio() >= _ALIKE


def filled_options(row: SourceRow, columns: OptionColumns) -> tuple[str, ...]:
    """The names of the columns that hold options in this row: the last ones may be empty, none between."""
    filled = [name for name in columns.in_order if not _blank(row.fields.get(name))]
    expected = columns.in_order[: max(len(filled), 2)]
    if tuple(filled) != expected:
        empty = next(name for name in expected if name not in filled)
        raise row.error("empty; expected text", empty)
    return expected


def _blank(found: Any) -> bool:
    return found is None or found != found or (isinstance(found, str) and not found.strip())
