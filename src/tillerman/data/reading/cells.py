"""The cells of a table, row by row, in a given dialect."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Literal

from tillerman.data.reading.text import TextFile

_MOST = 2**31 - 1  # what csv takes as a limit on every machine

# The cells of a row, and the line it ends in.
Cells = tuple[list[str], int]


def rows_of_cells(file: TextFile, delimiter: str, quotes: bool, skipped: int) -> Iterator[Cells]:
    """Every row, blank ones too, behind ``skipped`` lines. ``csv.Error`` for a quote mark that does not close, at the
    latest where its cell is longer than a row may be."""
    lines = (line + "\n" for number, line in file.lines() if number > skipped)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    while True:
        # The limit is of the whole process: it is ours only while a row is read.
        others = csv.field_size_limit(min(file.reading.max_row, _MOST))
        try:
            values = next(reader, None)
        finally:
            csv.field_size_limit(others)
        if values is None:
            return
        yield values, skipped + reader.line_num
