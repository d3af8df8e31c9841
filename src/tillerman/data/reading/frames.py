"""Frames in memory (pandas, polars, pyarrow) as rows. A library that was never imported made none of them, so none is
imported here."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from tillerman.core.errors import DataError
from tillerman.data.class_names import Names, names_of_dataset, names_of_schema


def rows_of(source: object, name: str) -> tuple[object, Names]:
    """The rows of a frame, each a mapping under the columns' names, and what its classes are called; anything else as
    it is. ``DataError`` for two columns of one name, as of a file."""
    pandas, polars, arrow = (sys.modules.get(library) for library in ("pandas", "polars", "pyarrow"))
    if pandas is not None and isinstance(source, pandas.DataFrame):
        columns = [str(column) for column in source.columns]
        _check_names(columns, name)
        return (dict(zip(columns, row, strict=True)) for row in source.itertuples(index=False, name=None)), {}
    if polars is not None and isinstance(source, polars.DataFrame):
        return source.iter_rows(named=True), {}
    if arrow is not None and isinstance(source, arrow.Table):
        _check_names(source.column_names, name)
        return _of_batches(source), names_of_schema(source.schema.metadata)
    return source, names_of_dataset(source)


def _of_batches(table: Any) -> Iterator[Mapping[str, Any]]:
    for batch in table.to_batches():
        yield from batch.to_pylist()


def _check_names(columns: list[str], name: str) -> None:
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise DataError(f"two columns have the same name: {', '.join(twice)}", file=name)
