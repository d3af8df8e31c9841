"""Logs as tidy tables: plain rows that all have the same columns, and the same as a frame of pandas or polars.

Columns of a figure ``f``: ``f`` is its value, ``f_low`` and ``f_high`` its 95 % interval (None where there is none),
``f_n`` the items it is over, ``f_p_value`` where it was tested. No library is imported before a frame is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any

from tillerman.core.errors import UnknownNameError, UsageError
from tillerman.statistics.values import Interval

Row = dict[str, Any]
Tables = Mapping[str, Iterable[Row]]  # by name; rows are made when they are asked for

LIBRARIES = ("pandas", "polars")


def record(value: Any, about: Row, leave_out: tuple[str, ...] = ()) -> Row:
    """A row of a dataclass's fields, after what it is about; ``name`` is left out, since each table calls it otherwise.

    Figures among the fields are spread over columns, other texts and tuples stay values."""
    row = dict(about)
    for field in fields(value):
        if field.name not in (*leave_out, "name"):
            row |= spread(field.name, getattr(value, field.name))
    return row


def spread(name: str, value: Any) -> Row:
    """A value's columns: one, or of a dataclass one per field, its ``value`` under the name alone."""
    if isinstance(value, Interval):
        low, high = value.ends
        return {f"{name}_low": low, f"{name}_high": high}
    if not is_dataclass(value):
        if name.endswith(("_low", "_high")) and isinstance(value, float) and not math.isfinite(value):
            return {name: None}  # an end that is not known
        return {name: list(value) if isinstance(value, tuple) else value}
    row: Row = {}
    for field in fields(value):
        inner = getattr(value, field.name)
        if field.name == "interval":
            row |= spread(name, inner)
        else:
            row |= spread(name if field.name == "value" else f"{name}_{field.name}", inner)
    return row


def even(rows: Iterable[Row]) -> tuple[Row, ...]:
    """The rows with the columns of all of them, in the order they first stand in; None where a row has none.

    Columns of a figure stand together, also where the first rows do not have the figure."""
    made = list(rows)
    longest = sorted(made, key=len, reverse=True)
    columns = list(dict.fromkeys(column for row in longest for column in row))
    return tuple({column: row.get(column) for column in columns} for row in made)


def frame_of(rows: tuple[Row, ...], library: str) -> Any:
    """A ``pandas.DataFrame`` or ``polars.DataFrame``. ``UnknownNameError`` for another library, ``UsageError`` where it
    is not installed."""
    if library not in LIBRARIES:
        raise UnknownNameError("library of frames", library, LIBRARIES)
    try:
        module = import_module(library)
    except ImportError:
        raise UsageError(
            f"to_frame needs {library}: pip install 'tillerman[frames]' (pandas) or pip install polars; "
            "rows() gives the same table as plain dicts"
        ) from None
    given = [dict(row) for row in rows]
    return module.DataFrame(given) if library == "pandas" else module.DataFrame(given, infer_schema_length=None)


def table_of(tables: Tables, table: str, kind: str) -> tuple[Row, ...]:
    """The rows of a table, the first one's where no name is given. ``UnknownNameError`` for another name."""
    if not table:
        table = next(iter(tables))
    if table not in tables:
        raise UnknownNameError(f"table of a log of kind {kind}", table, tables)
    return even(tables[table])
