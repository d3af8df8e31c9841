"""Rows of Parquet and Arrow files, read batch by batch; pyarrow is an extra."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tillerman.core.errors import DataError
from tillerman.data.class_names import names_of_schema, with_names
from tillerman.data.reading.options import FileOptions, with_option
from tillerman.data.reading.rows import OnBad, SourceRow

if TYPE_CHECKING:
    from pyarrow import RecordBatch

_ROWS = 1024  # of a batch
_MEGABYTE = 1_000_000


def arrow_rows(path: Path, reading: FileOptions, on_bad: OnBad) -> Iterator[SourceRow]:
    """The rows of a ``.parquet`` or ``.arrow`` file, numbered from 1.

    ``DataError`` for a file that is neither, names a column twice or holds more than the limits; a row that is too long
    or no valid text goes to ``on_bad``.
    """
    kind = "Parquet" if path.suffix.lower() == ".parquet" else "Arrow"
    try:
        from pyarrow import ArrowException
    except ImportError:
        raise DataError(f"reading {kind} needs pyarrow: pip install 'tillerman[parquet]'", file=path) from None
    number, size = 0, 0
    try:
        for batch in _batches(path):
            _check_names(batch.schema.names, path)
            classes = names_of_schema(batch.schema.metadata)
            size += batch.nbytes
            if size > reading.max_mb * _MEGABYTE:
                remedy = with_option(path, max_mb=f"{10 * reading.max_mb:g}")
                message = f"the table holds more than {reading.max_mb:,g} MB; to read it all the same: {remedy}"
                raise DataError(message, file=path)
            for row in range(batch.num_rows):
                number += 1
                try:
                    values = with_names(_values(batch, row, path, number, reading), classes)
                    yield SourceRow(values, str(path), number)
                except DataError as error:
                    on_bad(error)
    except (ArrowException, OSError, UnicodeDecodeError) as error:  # the last: a damaged name of a column
        raise DataError(f"not a readable {kind} file ({str(error)[:120]})", file=path) from None
    if not number:
        raise DataError("the table is empty; expected rows", file=path)


def _batches(path: Path) -> Iterator[RecordBatch]:
    from pyarrow import ArrowInvalid, ipc, memory_map
    from pyarrow.parquet import ParquetFile

    if path.suffix.lower() == ".parquet":
        with ParquetFile(path) as table:
            yield from table.iter_batches(batch_size=_ROWS)
        return
    with memory_map(str(path)) as source:
        try:
            stream = ipc.open_stream(source)
        except ArrowInvalid:  # the other form of the format, with an index at its end
            source.seek(0)
            file = ipc.open_file(source)
            yield from (file.get_batch(i) for i in range(file.num_record_batches))
            return
        yield from stream


def _check_names(names: list[str], path: Path) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"two columns have the same name: {', '.join(twice)}", file=path)


def _values(batch: RecordBatch, row: int, path: Path, number: int, reading: FileOptions) -> dict[str, Any]:
    values = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            values[name] = column[row].as_py()
        except UnicodeDecodeError as error:
            raise DataError(f"text that is not UTF-8 ({error.reason})", file=path, line=number, field=name) from None
        except (ValueError, OverflowError) as error:  # a date or a number that Python cannot hold
            raise DataError(f"a value that cannot be read ({error})", file=path, line=number, field=name) from None
    if batch.nbytes > reading.max_row and (size := _length(values)) > reading.max_row:
        remedy = with_option(path, max_row=str(2 * size))
        message = f"a row of {size:,} characters; expected at most {reading.max_row:,}: is this a table of labelled "
        raise DataError(f"{message}items? To read it all the same: {remedy}", file=path, line=number)
    return values


def _length(value: Any) -> int:
    """Characters of all texts in a value."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_length, value.values()))
    return sum(map(_length, value)) if isinstance(value, list | tuple) else 0
