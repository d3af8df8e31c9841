"""Whether quote marks of a tab-separated file wrap cells, as pandas and spreadsheets write, or are text, as in SST-2.

A doubled mark inside a wrapped cell, or a wrapped header, speaks for the first; a cell that begins with a mark and
does not close speaks for the second. Where neither is there, both readings fit and nothing is guessed.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass

from tillerman.core.errors import DataError
from tillerman.data.reading.cells import rows_of_cells
from tillerman.data.reading.options import with_option
from tillerman.data.reading.text import TextFile

_WRAPPED = re.compile(r'"(?:[^"]|"")*"')


@dataclass
class _Marks:
    """Counts of what speaks for either reading, and where each was first seen."""

    doubled: int = 0  # the line of a cell like "a ""b"" c"
    header: bool = False  # a wrapped name of a column
    plain: tuple[int, str] | None = None  # a cell like "a b"
    open: int = 0  # the line of a cell that begins with a mark and is not wrapped
    uneven: int = 0  # lines with another number of cells than the first


def quotes_wrap(file: TextFile, skipped: int) -> bool:
    """True where quote marks wrap cells; False where they are text, or there are none that matter.

    ``DataError`` where both readings fit and differ, or each is contradicted.
    """
    marks = _marks(file, skipped)
    if not (marks.doubled or marks.header or marks.plain or marks.open):
        return False
    uneven = _uneven_if_wrapped(file, skipped)
    wrapped_fits = uneven is not None and uneven <= marks.uneven
    text_fits = uneven is None or marks.uneven <= uneven
    proved = marks.doubled or marks.header
    if wrapped_fits and (proved or not text_fits):
        return True
    if not wrapped_fits and not proved:
        return False
    ways = f"{with_option(file.path, quotes='text')} or {with_option(file.path, quotes='csv')}"
    if marks.plain is not None and wrapped_fits:
        line, cell = marks.plain
        message = (
            f"quote marks may be text or wrap cells: a cell reads {_cut(cell)} or {_cut(cell[1:-1])}; choose {ways}"
        )
        raise DataError(message, file=file.path, line=line)
    if wrapped_fits:
        message = (
            f"a cell begins with a quote mark: it may be text, or the cell may go on in the next line; choose {ways}"
        )
        raise DataError(message, file=file.path, line=marks.open)
    message = (
        f"here quote marks wrap a cell, and in line {marks.open} one is left open; mend that line, or choose {ways}"
    )
    raise DataError(message, file=file.path, line=marks.doubled or 1)


def _marks(file: TextFile, skipped: int) -> _Marks:
    marks, columns = _Marks(), 0
    for number, line in file.lines():
        if number <= skipped or not line.strip():
            continue
        cells = line.split("\t")
        columns = columns or -len(cells)  # negative: this is the header
        marks.uneven += len(cells) != abs(columns)
        for cell in cells if '"' in line else ():
            if not cell.startswith('"'):
                continue
            if not _WRAPPED.fullmatch(cell):
                marks.open = marks.open or number
            elif '""' in cell[1:-1]:
                marks.doubled = marks.doubled or number
            elif columns < 0:
                marks.header = True
            else:
                marks.plain = marks.plain or (number, cell)
        columns = abs(columns)
    return marks


def _uneven_if_wrapped(file: TextFile, skipped: int) -> int | None:
    """Rows with another number of cells than the first where marks wrap; None where a mark stays open."""
    columns, uneven = 0, 0
    try:
        for row, _ in rows_of_cells(file, "\t", True, skipped):
            columns = columns or len(row)
            uneven += len(row) not in (0, columns)
    except csv.Error:
        return None
    return uneven


def _cut(text: str) -> str:
    return repr(text if len(text) < 60 else f"{text[:57]}...")
