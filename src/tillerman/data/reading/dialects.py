"""How a table is written: what parts its cells, and whether quote marks wrap cells or are text.

Found from the file. Where two ways of reading both fit, the error shows both and how to choose.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tillerman.core.errors import DataError
from tillerman.data.reading.options import DELIMITERS, with_option
from tillerman.data.reading.quotes import quotes_wrap
from tillerman.data.reading.text import TextFile

# MMLU as first published has no header: question, four choices, the letter.
MMLU_COLUMNS = ("question", "choice0", "choice1", "choice2", "choice3", "answer")
_SEP = re.compile(r'"?sep=(.)"?[,;\t]*')
_NAMES = {mark: name for name, mark in DELIMITERS.items()}
_LOOKED_AT = 200  # rows
_SURE, _LIKELY = 0.9, 0.5  # shares of rows with as many cells as the first


@dataclass(frozen=True)
class Dialect:
    """``skipped`` lines come before the table: Excel's ``sep=;``."""

    delimiter: str
    quotes: bool
    skipped: int = 0


@dataclass(frozen=True)
class _Trial:
    names: tuple[str, ...]
    fits: float  # the share of rows with as many cells as the first; 0 for a table of one column


def delimiters_of(file: TextFile) -> dict[str, str]:
    """The names of what may part the cells of this file, each with the first row as it then is."""
    head, whole = file.head()
    lines = head.lstrip("\n").split("\n")
    trials = {name: _trial(lines if whole else lines[:-1] or lines, mark) for name, mark in DELIMITERS.items()}
    return {name: _shown(trial.names) for name, trial in trials.items() if trial.fits >= _SURE}


def dialect_of(file: TextFile, usual: str) -> Dialect:
    """How this table is to be read; ``usual`` parts its cells where nothing speaks against it."""
    head, whole = file.head()
    lines = head.lstrip("\n").split("\n")
    if not whole:
        lines = lines[:-1] or lines  # cut
    said = _SEP.fullmatch(lines[0].strip(" "))
    before = len(head) - len(head.lstrip("\n"))
    skipped = before + 1 if said else 0
    if file.reading.delimiter is not None:
        delimiter = DELIMITERS[file.reading.delimiter]
    else:
        delimiter = said[1] if said else _delimiter(lines, usual, file)
    if file.reading.quotes is not None:
        return Dialect(delimiter, file.reading.quotes == "csv", skipped)
    return Dialect(delimiter, delimiter != "\t" or quotes_wrap(file, skipped), skipped)


def _delimiter(lines: list[str], usual: str, file: TextFile) -> str:
    trials = {mark: _trial(lines, mark) for mark in _NAMES}
    if is_mmlu(trials[","].names):
        return ","
    sure = [mark for mark, trial in trials.items() if trial.fits >= _SURE]
    if len(sure) > 1:
        shown = "; ".join(f"by {_NAMES[mark]} the first row is {_shown(trials[mark].names)}" for mark in sure)
        ways = " or ".join(with_option(file.path, delimiter=_NAMES[mark]) for mark in sure)
        raise DataError(f"the cells may be parted in two ways: {shown}. Choose {ways}", file=file.path)
    if sure:
        return sure[0]
    likely = {mark: trial.fits for mark, trial in trials.items() if trial.fits > _LIKELY}
    return usual if usual in likely or not likely else max(likely, key=lambda mark: likely[mark])


def _trial(lines: list[str], mark: str) -> _Trial:
    ways = [_cells(lines, mark, csv.QUOTE_MINIMAL)]
    if mark == "\t":
        ways.append(_cells(lines, mark, csv.QUOTE_NONE))
    return max((_judged(rows) for rows in ways), key=lambda trial: trial.fits)


def _judged(rows: list[list[str]]) -> _Trial:
    if not rows or len(rows[0]) < 2:
        return _Trial(tuple(rows[0]) if rows else (), 0.0)
    return _Trial(tuple(rows[0]), sum(len(row) == len(rows[0]) for row in rows) / len(rows))


def _cells(lines: list[str], mark: str, quoting: Literal[0, 3]) -> list[list[str]]:
    rows: list[list[str]] = []
    cells = csv.reader((line + "\n" for line in lines), delimiter=mark, quoting=quoting, strict=True)
    try:
        for row in cells:
            if any(cell.strip() for cell in row):
                rows.append(row)
            if len(rows) == _LOOKED_AT:
                break
    except csv.Error:
        pass  # a quote mark that does not close in this way of reading, or a cell that the sample cuts
    return rows


def is_mmlu(values: Iterable[str]) -> bool:
    """Whether this is a row of MMLU as first published, and not a header."""
    cells = tuple(values)
    return len(cells) == len(MMLU_COLUMNS) and cells[-1].strip() in ("A", "B", "C", "D")


def _shown(names: tuple[str, ...]) -> str:
    return " | ".join(name.strip()[:24] for name in names[:4]) + (" | ..." if len(names) > 4 else "")
