"""Values of a row's fields, checked: text, lists, labels and the answer among options.

Every function raises the row's own ``DataError``, which names file, line and column.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from tillerman.core.errors import DataError
from tillerman.core.shown import clipped
from tillerman.data.examples import Example
from tillerman.data.prompts import LETTERS
from tillerman.data.reading.literals import listed
from tillerman.data.reading.rows import SourceRow, kind_of
from tillerman.data.splits import normalised
from tillerman.data.turns import Turn

TRUE_WORDS = frozenset({"1", "true", "yes", "pos", "positive"})
FALSE_WORDS = frozenset({"0", "false", "no", "neg", "negative"})
_MISSING_LABELS = frozenset({"", "nan", "null", "n/a"})
_MARK = re.compile(r"^\s*\(?([A-Za-z])[).:]\s*")


def value(row: SourceRow, name: str) -> Any:
    if name not in row.fields:
        raise row.error(f"missing; the row has {clipped(', '.join(map(str, row.fields)), 200)}", name)
    return row.fields[name]


def text(row: SourceRow, name: str) -> str:
    """The field as text, as it stands; numbers are written out."""
    found = value(row, name)
    if found is None or (isinstance(found, float) and math.isnan(found)):
        raise row.error("empty; expected text", name)
    if isinstance(found, int | float) and not isinstance(found, bool):
        found = label_text(found)
    if not isinstance(found, str):
        raise row.error(f"expected text, got {kind_of(found)}", name)
    if not found.strip():
        raise row.error("empty; expected text", name)
    return writable(row, name, found)


def optional_text(row: SourceRow, name: str) -> str:
    """The field as text; empty where it is missing, null or blank."""
    found = row.fields.get(name)
    missing = found is None or (isinstance(found, float) and math.isnan(found))
    return "" if missing or (isinstance(found, str) and not found.strip()) else text(row, name)


def texts(row: SourceRow, name: str) -> tuple[str, ...]:
    """The field as a list of texts; in a cell of a table it may be written out, as JSON or as Python prints it."""
    found = value(row, name)
    if isinstance(found, str):
        found = listed(found) or found
    if not isinstance(found, list | tuple):
        hint = '; in a table write the list as JSON: ["a", "b"]' if isinstance(found, str) else ""
        raise row.error(f"expected a list of texts, got {kind_of(found)}{hint}", name)
    out = []
    for item in found:
        if isinstance(item, int | float) and not isinstance(item, bool):
            item = label_text(item)
        if not isinstance(item, str) or not item.strip():
            raise row.error(f"expected a list of texts, got {quoted(item)} in it", name)
        out.append(writable(row, name, item))
    return tuple(out)


def writable(row: SourceRow, name: str, found: str) -> str:
    """Half of a surrogate pair (a cut-off emoji in JSON) cannot be written anywhere again."""
    try:
        found.encode("utf-8")
    except UnicodeEncodeError as error:
        raise row.error(f"a character that is not valid Unicode at {error.start}", name) from None
    return found


def quoted(found: object) -> str:
    """A value as an error shows it: short, on one line."""
    return clipped(repr(found), 60) if isinstance(found, str | float | bool | None) else clipped(label_text(found), 60)


def label_text(found: Any) -> str:
    """A label as text: 1, 1.0 and ``"1"`` are the same label; missing ones become empty."""
    if found is None or (isinstance(found, float) and not math.isfinite(found)):
        return ""
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    try:
        shown = str(found).strip()
    except (ValueError, RecursionError):  # a number of thousands of digits, a list in a list in a list
        shown = kind_of(found)
    return "" if shown.casefold() in _MISSING_LABELS else shown


def label(row: SourceRow, name: str) -> str:
    """The label as text; empty and NaN labels are errors."""
    found = value(row, name)
    if isinstance(found, list | dict | tuple):
        raise row.error(f"expected one label, got {kind_of(found)}", name)
    shown = label_text(found)
    if not shown:
        raise row.error(f"the label is empty or NaN (got {quoted(found)})", name)
    return writable(row, name, shown)


def truth(row: SourceRow, name: str, remedy: str = "") -> bool:
    """A label that says yes or no: 1/0, true/false, yes/no, positive/negative."""
    shown = label(row, name)
    if shown.casefold() in TRUE_WORDS:
        return True
    if shown.casefold() in FALSE_WORDS:
        return False
    raise row.error(f"expected 1/0, true/false, yes/no or positive/negative, got {quoted(shown)}{remedy}", name)


def index(row: SourceRow, name: str, count: int, base: int = 0) -> int:
    """The answer as an index: a number from ``base`` on, or a letter, ``A``, ``(A)`` or ``A.``."""
    shown = label(row, name)
    letter = shown.strip("().: ").upper()
    if len(letter) == 1 and letter in LETTERS[:count]:
        return LETTERS.index(letter)
    if re.fullmatch(r"\d{1,3}", shown) and base <= int(shown) < base + count:
        return int(shown) - base
    choices = f"{base}..{base + count - 1} or a letter A..{LETTERS[count - 1]}" if count <= 26 else "a smaller list"
    raise row.error(f"expected {choices}, got {quoted(shown)}", name)


def asked(row: SourceRow) -> str:
    """The question, after the passage that it is about where the row has one."""
    before = [optional_text(row, name).strip() for name in ("context", "passage")]
    return "\n".join([*(part for part in before if part), text(row, "question")])


def unmarked(options: Iterable[str]) -> tuple[str, ...]:
    """Options without their marks ``(A)``, ``A.``, ``A:``, where every option carries its own."""
    options = tuple(options)
    marks = [_MARK.match(option) for option in options]
    letters = "".join(mark.group(1).upper() for mark in marks if mark)
    if options and letters == LETTERS[: len(options)]:
        return tuple(o[m.end() :].strip() for o, m in zip(options, marks, strict=True) if m)
    return options


def example(
    row: SourceRow,
    kind: str,
    question: str,
    options: Sequence[str],
    right: int,
    name: str = "options",
    history: tuple[Turn, ...] = (),
) -> Example:
    """An ``Example``, whose own complaints get the row's place."""
    try:
        return Example(kind, question, tuple(options), right, history=history)
    except DataError as error:
        # The message without the field, which is given anew under its name in the file.
        message = str(error).split(": ", 1)[1] if error.field is not None else str(error)
        where = error.field if error.field != "options" else name
        raise row.error(message, where) from None


def merged(options: Sequence[str], right: int) -> tuple[tuple[str, ...], int]:
    """Options of a published benchmark without repeats; the right one is the one that stays.

    MMLU, OpenBookQA and LSAT print an option twice in a few rows. The reader cannot repair the source,
    and dropping the row would change the benchmark, so the repeated option is shown once.
    """
    kept: dict[str, str] = {}
    for option in options:
        kept.setdefault(normalised(option), option)
    kept[normalised(options[right])] = options[right]
    return tuple(kept.values()), list(kept).index(normalised(options[right]))
