"""Files and Python objects into rows, each with the place it came from.

JSON lines, JSON lists, CSV, TSV (each also ``.gz``), Parquet, ``datasets.Dataset`` or any iterable of
mappings. A row that cannot be read is one ``DataError`` with file and line, handed to ``on_bad``,
which raises it or notes it; a file that cannot be read at all always raises. Nothing here knows what
the fields mean (see ``tillerman.data.layouts``).
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tillerman.core.errors import DataError
from tillerman.data.class_names import names_of_dataset, names_of_schema, with_names

MAX_LINE = 1_000_000  # characters of one line or one item; more is a file of another kind
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
READABLE = "expected one of .jsonl, .json, .csv, .tsv (each also .gz) or .parquet"
# MMLU as first published has no header: question, four choices, the letter.
MMLU_COLUMNS = ("question", "choice0", "choice1", "choice2", "choice3", "answer")

OnBad = Callable[[DataError], None]


@dataclass(frozen=True)
class SourceRow:
    """One row as read. ``columns`` says what a field is called in the file where a mapping renamed it."""

    fields: Mapping[str, Any]
    file: str
    line: int
    columns: Mapping[str, str] = field(default_factory=dict)

    def error(self, message: str, name: str | None = None) -> DataError:
        """The error for this row, naming the column as it stands in the file."""
        column = self.columns.get(name, name) if name is not None else None
        return DataError(message, file=self.file, line=self.line, field=column)


def raising(error: DataError) -> None:
    raise error


def read_rows(source: object, on_bad: OnBad = raising) -> Iterator[SourceRow]:
    """The rows of a file (a path) or of any iterable of mappings, in order.

    Raises ``DataError`` for a missing file, a folder, an unknown suffix, a broken archive, a text that
    is not UTF-8 and an empty file; single rows that cannot be read go to ``on_bad``.
    """
    if isinstance(source, str | Path):
        return _from_file(Path(source), on_bad)
    return _from_objects(source, on_bad)


def suffix_of(path: Path) -> str:
    """The suffix that says the format, without ``.gz``."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def _from_objects(source: object, on_bad: OnBad) -> Iterator[SourceRow]:
    name = f"<{type(source).__name__}>"
    if isinstance(source, Mapping):
        keys = ", ".join(map(repr, list(source)[:6]))
        raise DataError(
            f"expected rows, got one mapping with {keys}; for a DatasetDict, give one of its splits", file=name
        )
    if not isinstance(source, Iterable):
        raise DataError(f"expected a path or rows (an iterable of mappings), got {type(source).__name__}", file=name)
    empty, classes = True, names_of_dataset(source)
    for line, fields in enumerate(source, start=1):
        empty = False
        if not isinstance(fields, Mapping):
            message = f"expected a mapping field -> value, got {_kind(fields)}; of a DataFrame give to_dict('records')"
            on_bad(DataError(message, file=name, line=line))
            continue
        yield SourceRow(with_names(fields, classes), name, line)
    if empty:
        raise DataError("there are no rows", file=name)


def _from_file(path: Path, on_bad: OnBad) -> Iterator[SourceRow]:
    if path.is_dir():
        raise DataError("this is a folder; expected a file", file=path)
    if not path.is_file():
        raise DataError("no such file", file=path)
    kind = suffix_of(path)
    if kind not in SUFFIXES or (kind == ".parquet" and path.suffix.lower() == ".gz"):
        raise DataError(f"unknown kind of file; {READABLE}", file=path)
    if kind == ".parquet":
        return _parquet(path, on_bad)
    text = _text(path)
    if kind in (".csv", ".tsv"):
        return _table(text, path, on_bad, tabs=kind == ".tsv")
    if kind == ".json" and text.lstrip().startswith("["):
        return _json_list(text, path, on_bad)
    return _json_lines(text, path, on_bad)


def _text(path: Path) -> str:
    """The whole file as text, a byte order mark removed."""
    try:
        data = path.read_bytes()
        if path.suffix.lower() == ".gz":
            data = gzip.decompress(data)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"the gzip archive is damaged or incomplete ({error})", file=path) from None
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror})", file=path) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        message = f"byte {error.start} is not UTF-8; expected UTF-8 text: convert it, e.g. with iconv -t UTF-8"
        raise DataError(message, file=path, line=line) from None
    if not text.strip():
        raise DataError("the file is empty; expected rows", file=path)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _json_lines(text: str, path: Path, on_bad: OnBad) -> Iterator[SourceRow]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield _row(_parsed(line, path, number), path, number)
        except DataError as error:
            on_bad(error)


def _parsed(text: str, path: Path, line: int) -> Any:
    if len(text) > MAX_LINE:
        raise _too_long(path, line, len(text))
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        shown = text.strip()[:40]
        message = f"broken JSON ({error.msg} at column {error.colno}); expected one JSON object per line, got {shown!r}"
        raise DataError(message, file=path, line=line) from None
    except (RecursionError, ValueError) as error:
        raise DataError(f"invalid JSON ({error})", file=path, line=line) from None


def _json_list(text: str, path: Path, on_bad: OnBad) -> Iterator[SourceRow]:
    """Item by item, so that each row knows its line and a broken item is named by its line."""
    decoder, at, line, seen = json.JSONDecoder(), text.index("[") + 1, 1, 0
    line += text.count("\n", 0, at)
    while True:
        start = _skip(text, at, " \t\r\n,")
        line += text.count("\n", at, start)
        if start >= len(text):
            raise DataError("invalid JSON (the list is not closed)", file=path, line=line)
        if text[start] == "]":
            break
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            message = f"broken JSON ({reason}) in item {seen + 1}; expected a list of objects"
            raise DataError(message, file=path, line=line) from None
        try:
            if end - start > MAX_LINE:
                raise _too_long(path, line, end - start)
            yield _row(value, path, line)
        except DataError as error:
            on_bad(error)
        line, at, seen = line + text.count("\n", start, end), end, seen + 1
    if not seen:
        raise DataError("the list is empty; expected rows", file=path)


def _skip(text: str, at: int, characters: str) -> int:
    while at < len(text) and text[at] in characters:
        at += 1
    return at


def _row(value: Any, path: Path, line: int) -> SourceRow:
    if not isinstance(value, dict):
        raise DataError(f"expected a JSON object with named fields, got {_kind(value)}", file=path, line=line)
    return SourceRow(value, str(path), line)


def _table(text: str, path: Path, on_bad: OnBad, tabs: bool) -> Iterator[SourceRow]:
    lines = text.split("\n")
    for number, content in enumerate(lines, start=1):
        if len(content) > MAX_LINE:
            raise _too_long(path, number, len(content))
    # Tab-separated files as published (SST-2, GoEmotions) do not quote: a quote mark is text.
    ends = (content + "\n" for content in lines)
    if tabs:
        cells = csv.reader(ends, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
    else:
        cells = csv.reader(ends, strict=True)
    names: tuple[str, ...] = ()
    before = 0
    while True:
        try:
            values = next(cells, None)
        except csv.Error as error:
            message = f"broken {'TSV' if tabs else 'CSV'} ({error}); is a quote mark left open?"
            raise DataError(message, file=path, line=before + 1) from None
        if values is None:
            break
        line, before = before + 1, cells.line_num
        if not any(value.strip() for value in values):
            continue
        if not names:
            names, is_header = _header(values, path, line)
            if is_header:
                continue
        if len(values) != len(names):
            message = f"expected {len(names)} cells ({', '.join(names)}), got {len(values)}"
            on_bad(DataError(message, file=path, line=line))
            continue
        yield SourceRow(dict(zip(names, values, strict=True)), str(path), line)


def _header(values: list[str], path: Path, line: int) -> tuple[tuple[str, ...], bool]:
    """The column names, and whether this line held them (MMLU as published has none)."""
    if len(values) == len(MMLU_COLUMNS) and values[-1].strip() in ("A", "B", "C", "D"):
        return MMLU_COLUMNS, False
    names = tuple(value.strip() or f"unnamed {i}" for i, value in enumerate(values))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"two columns have the same name: {', '.join(twice)}", file=path, line=line)
    return names, True


def _parquet(path: Path, on_bad: OnBad) -> Iterator[SourceRow]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        message = "reading Parquet needs pyarrow: pip install 'tillerman[parquet]'"
        raise DataError(message, file=path) from None
    try:
        with ParquetFile(path) as table:
            number, classes = 0, names_of_schema(table.schema_arrow.metadata)
            for batch in table.iter_batches(batch_size=1024):
                for values in _values(batch, path, number, on_bad):
                    number += 1
                    if values is not None:
                        yield SourceRow(with_names(values, classes), str(path), number)
    except (ArrowException, OSError) as error:
        raise DataError(f"not a readable Parquet file ({str(error)[:120]})", file=path) from None
    if not number:
        raise DataError("the table is empty; expected rows", file=path)


def _values(batch: Any, path: Path, before: int, on_bad: OnBad) -> Iterator[dict[str, Any] | None]:
    """The rows of a batch; one whose text is not UTF-8 is noted, and None stands in its place."""
    try:
        yield from batch.to_pylist()
        return
    except UnicodeDecodeError:
        pass  # row by row, to name the one
    for at in range(batch.num_rows):
        row: dict[str, Any] = {}
        try:
            for name in batch.schema.names:
                at_fault = name
                row[name] = batch.column(name)[at].as_py()
            yield row
        except UnicodeDecodeError as error:
            message = f"byte {error.start} of the text is not UTF-8"
            on_bad(DataError(message, file=path, line=before + at + 1, field=at_fault))
            yield None


def _too_long(path: Path, line: int, length: int) -> DataError:
    message = f"a line of {length:,} characters; expected at most {MAX_LINE:,}: is this a file of labelled items?"
    return DataError(message, file=path, line=line)


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "text", type(None): "null"}.get(type(value), type(value).__name__)
