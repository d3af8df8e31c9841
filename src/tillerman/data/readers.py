"""Files and Python objects into rows, each with the place it came from.

JSON, tables of text, Parquet and Arrow, a pair of text files, ``datasets.Dataset``, a frame of pandas or polars, or any
iterable of mappings. A row that cannot be read is one ``DataError`` with file and line, handed to ``on_bad``, which
raises it or notes it; a file that cannot be read at all always raises. Nothing here knows what the fields mean (see
``tillerman.data.layouts``).
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tillerman.core.errors import DataError
from tillerman.data.class_names import with_names
from tillerman.data.reading.arrow import arrow_rows
from tillerman.data.reading.folders import JSON_KINDS, READABLE, SUFFIXES, suffix_of
from tillerman.data.reading.frames import rows_of
from tillerman.data.reading.json_rows import json_items, json_rows
from tillerman.data.reading.options import FileOptions, file_and_reading, with_option
from tillerman.data.reading.rows import OnBad, SourceRow, kind_of, object_row, raising
from tillerman.data.reading.tables import USUAL, table_rows
from tillerman.data.reading.text import TextFile
from tillerman.data.reading.text_pair import pair_in, pair_rows, plain_text
from tillerman.data.reading.values import plain

__all__ = ["READABLE", "SUFFIXES", "OnBad", "SourceRow", "raising", "read_rows", "read_texts", "suffix_of"]

_PACKED = (".zip", ".bz2", ".xz", ".zst", ".7z", ".tar", ".tgz")
_SHEETS = (".xlsx", ".xls", ".ods")


def read_rows(source: object, on_bad: OnBad = raising, reading: FileOptions | None = None) -> Iterator[SourceRow]:
    """The rows of a file (a path, with options after a colon: ``reading.options``), of a frame or of any iterable of
    mappings.

    Raises ``DataError`` for a missing file, a folder, an unknown suffix, a broken archive, a text in another encoding,
    a file beyond the limits and an empty file; single rows that cannot be read go to ``on_bad``.
    """
    if not isinstance(source, str | Path):
        return _from_objects(source, on_bad)
    path, said = file_and_reading(source)
    return _limited(_from_file(path, reading or said, on_bad), path, reading or said)


def _limited(rows: Iterator[SourceRow], path: Path, reading: FileOptions) -> Iterator[SourceRow]:
    for count, row in enumerate(rows, start=1):
        if count > reading.max_rows:
            remedy = with_option(path, max_rows=str(10 * reading.max_rows))
            raise DataError(f"more than {reading.max_rows:,} rows; to read them all the same: {remedy}", file=path)
        yield row


def _from_objects(source: object, on_bad: OnBad) -> Iterator[SourceRow]:
    name = f"<{type(source).__name__}>"
    if isinstance(source, Mapping):
        keys = ", ".join(map(repr, list(source)[:6]))
        raise DataError(
            f"expected rows, got one mapping with {keys}; for a DatasetDict, give one of its splits", file=name
        )
    rows, classes = rows_of(source, name)
    if not isinstance(rows, Iterable):
        message = f"expected a path or rows (a frame or an iterable of mappings), got {type(source).__name__}"
        raise DataError(f"{message}; of a LazyFrame give collect()", file=name)
    empty = True
    for line, fields in enumerate(rows, start=1):
        empty = False
        if not isinstance(fields, Mapping):
            on_bad(DataError(f"expected a mapping field -> value, got {kind_of(fields)}", file=name, line=line))
            continue
        yield SourceRow(with_names({key: plain(value) for key, value in fields.items()}, classes), name, line)
    if empty:
        raise DataError("there are no rows", file=name)


def read_texts(source: str, field: str) -> Iterator[SourceRow]:
    """The rows of a file of texts, a bare text standing under ``field``: each line of a text file, blank ones too, and
    each text of a JSON list. ``DataError`` as of ``read_rows``."""
    path, reading = file_and_reading(source)
    kind, file = suffix_of(path), TextFile(path, reading)
    if kind not in SUFFIXES and reading.delimiter is None and reading.header is None:
        for line, text in file.lines():
            yield SourceRow({field: text}, str(path), line)
    elif _checked(path, reading) in JSON_KINDS:
        for value, line in json_items(file):
            yield object_row({field: value} if isinstance(value, str) else value, path, line)
    else:
        yield from _from_file(path, reading, raising)


def _from_file(path: Path, reading: FileOptions, on_bad: OnBad) -> Iterator[SourceRow]:
    kind = _checked(path, reading)
    if kind == "":
        pair = pair_in(path)
        assert pair is not None
        return pair_rows(pair, reading)
    if kind in (".parquet", ".arrow"):
        return arrow_rows(path, reading, on_bad)
    file = TextFile(path, reading)
    return table_rows(file, on_bad, USUAL[kind]) if kind in USUAL else json_rows(file, on_bad)


def _checked(path: Path, reading: FileOptions) -> str:
    """The suffix of a file that can be read, empty for a folder that stands for a pair of text files."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise DataError("no such file", file=path) from None
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror})", file=_cut(path)) from None
    if stat.S_ISDIR(mode):
        if pair_in(path) is not None:
            return ""
        raise DataError("this is a folder; expected a file", file=path)
    if not stat.S_ISREG(mode):
        raise DataError("this is a pipe or a device, which can be read only once; save it to a file first", file=path)
    kind = suffix_of(path)
    if kind in (".parquet", ".arrow") and path.suffix.lower() == ".gz":
        raise DataError(f"a {kind} file packed with gzip; unpack it first (gzip -d)", file=path)
    if kind == ".txt" and reading.delimiter is None and reading.header is None:
        raise DataError(plain_text(TextFile(path, reading)), file=path)
    if kind not in (*SUFFIXES, *USUAL):
        hint = "; unpack it first, or pack it with gzip" if kind in _PACKED else ""
        hint = "; save the sheet as CSV" if kind in _SHEETS else hint
        raise DataError(f"unknown kind of file{hint}; {READABLE}", file=path)
    return kind


def _cut(path: Path) -> str:
    text = str(path)
    return text if len(text) < 200 else f"{text[:120]}..."
