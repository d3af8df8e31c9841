"""Rows of a table of text: CSV and its dialects."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from tillerman.core.errors import DataError
from tillerman.data.reading.cells import rows_of_cells
from tillerman.data.reading.dialects import MMLU_COLUMNS, Dialect, dialect_of, is_mmlu
from tillerman.data.reading.options import with_option
from tillerman.data.reading.rows import OnBad, SourceRow
from tillerman.data.reading.text import TextFile

USUAL = {".csv": ",", ".tsv": "\t", ".txt": ","}  # what parts cells where the file does not say otherwise


def table_rows(file: TextFile, on_bad: OnBad, usual: str) -> Iterator[SourceRow]:
    """The rows under the header, each with the line it begins in. A row with another number of cells goes to
    ``on_bad``; ``DataError`` for a quote mark left open, two columns of one name, and a dialect that is not clear."""
    dialect = dialect_of(file, usual)
    names: tuple[str, ...] = ()
    if file.reading.header is not None:
        names = _distinct(tuple(name.strip() for name in file.reading.header.split("+")), file.path, None)
    rows, before = rows_of_cells(file, dialect.delimiter, dialect.quotes, dialect.skipped), dialect.skipped
    while True:
        try:
            found = next(rows, None)
        except csv.Error as error:
            raise _broken(error, file.path, before + 1, dialect) from None
        if found is None:
            return
        (values, after), line = found, before + 1
        before = after
        if not any(value.strip() for value in values):
            continue
        if not names:
            names, is_header = _header(values, file.path, line)
            if is_header:
                continue
        if len(values) != len(names):
            message = (
                f"expected {len(names)} cells ({', '.join(names)[:120]}), got {len(values)}; a cell that holds "
                "the character between cells must stand in double quotes"
            )
            on_bad(DataError(message, file=file.path, line=line))
            continue
        yield SourceRow(dict(zip(names, values, strict=True)), str(file.path), line)


def _header(values: list[str], path: Path, line: int) -> tuple[tuple[str, ...], bool]:
    """The column names, and whether this line held them (MMLU as published has none)."""
    if is_mmlu(values):
        return MMLU_COLUMNS, False
    return _distinct(tuple(value.strip() or f"unnamed {i}" for i, value in enumerate(values)), path, line), True


def _distinct(names: tuple[str, ...], path: Path, line: int | None) -> tuple[str, ...]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"two columns have the same name: {', '.join(twice)}", file=path, line=line)
    return names


def _broken(error: csv.Error, path: Path, line: int, dialect: Dialect) -> DataError:
    message = (
        f"broken {'TSV' if dialect.delimiter == chr(9) else 'CSV'} ({error}); is a quote mark left open? "
        f"In a wrapped cell it is written twice; where quote marks are text, give {with_option(path, quotes='text')}"
    )
    return DataError(message, file=path, line=line)
