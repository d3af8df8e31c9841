"""Published outcomes or scores per item, one column or one file per condition, as tables whose rows are items."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tillerman.core.errors import DataError, UsageError
from tillerman.core.files import sha256_of
from tillerman.core.shown import clipped
from tillerman.data.fields import label_text, quoted
from tillerman.data.readers import read_rows
from tillerman.data.reading.options import exists, file_and_reading
from tillerman.data.reading.rows import SourceRow

ID = "id"  # the column of items' names, where a file has one of this name
BASELINE = "unsteered"
_NAMED = re.compile(r"([^=/\\:]+)=(.+)", re.DOTALL)
_WORDS = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class OutcomeColumns:
    """Which columns are read, or which files, where each condition has one. None: found from the file."""

    baseline: str = BASELINE
    conditions: tuple[str, ...] | None = None
    id: str | None = None
    value: str | None = None  # the column of outcomes, where each condition has a file
    graded: bool = False  # 0 and 1 are scores like others


@dataclass(frozen=True, eq=False)
class OutcomeTable:
    """What one file, or a file per condition, says of the same items in the same order ``[n]``. ``graded``: scores,
    not 0 or 1. ``unused``: columns that hold texts."""

    name: str
    keys: tuple[str, ...]  # the items' ids, or their rows' numbers
    baseline: NDArray[np.float64]
    conditions: Mapping[str, NDArray[np.float64]]
    graded: bool
    has_ids: bool = True
    unused: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()  # all that may be conditions
    digests: Mapping[str, str] = field(default_factory=dict)  # file -> sha256


def read_outcomes(sources: Sequence[str], columns: OutcomeColumns = OutcomeColumns()) -> tuple[OutcomeTable, ...]:
    """A table per file; of ``NAME=FILE`` for every source, one table whose conditions are the files.

    ``UsageError`` for a file given twice, a condition that is none's, or both forms in one call. ``DataError``, with
    file and line, for a missing baseline, a value that is missing or no number, an id that is missing or there twice,
    a single row, and files of one table whose items differ.
    """
    if not sources:
        raise UsageError("no FILES: give files with a column per condition, or NAME=FILE for each condition")
    twice = sorted({one for one in sources if list(sources).count(one) > 1})
    if twice:
        raise UsageError(f"{clipped(twice[0], 200)}: given twice; give each file once")
    named = [None if exists(Path(one)) else _NAMED.fullmatch(one) for one in sources]
    if all(named):
        tables = [_joined({found[1].strip(): found[2] for found in named if found}, columns)]
    elif any(named):
        raise UsageError("files and NAME=FILE together: name every file after its condition, or none")
    else:
        if columns.value is not None:
            raise UsageError("`value` names the column of outcomes where each condition has a file: give NAME=FILE")
        tables = [_of_file(one, columns) for one in sources]
    _check_conditions(tables, columns)
    return _with_names(tables, sources)


def _of_file(source: str, columns: OutcomeColumns) -> OutcomeTable:
    sheet = _Sheet.read(source)
    name = sheet.id_column(columns.id)
    if columns.baseline not in sheet.names:
        raise DataError(
            f"no column {quoted(columns.baseline)} to compare with; name the baseline with `baseline`, one of "
            f"{sheet.listed()}; or give a file per condition, as NAME=FILE",
            file=source,
        )
    known = [one for one in sheet.names if one not in (name, columns.baseline)]
    wanted = known if columns.conditions is None else [one for one in columns.conditions if one in known]
    unused = [one for one in wanted if columns.conditions is None and not sheet.is_numeric(one)]
    found = {one: sheet.numbers(one) for one in wanted if one not in unused}
    if not known or (columns.conditions is None and not found):
        raise DataError(f"no column of outcomes beside {quoted(columns.baseline)}: {sheet.listed()}", file=source)
    before = sheet.numbers(columns.baseline)
    graded = _graded(before, found, columns, source)
    keys = sheet.keys(name)
    digests = _digests([sheet])
    return OutcomeTable(
        _stem(sheet.file), keys, before, found, graded, name is not None, tuple(unused), tuple(known), digests
    )


def _joined(files: Mapping[str, str], columns: OutcomeColumns) -> OutcomeTable:
    """One table of a file per condition, its items in the order of the baseline's file."""
    if columns.baseline not in files:
        raise UsageError(
            f"no file named {columns.baseline}= to compare with; name the baseline with `baseline`: {', '.join(files)}"
        )
    wanted = [one for one in files if one == columns.baseline or one in (columns.conditions or files)]
    sheets = {one: _Sheet.read(files[one]) for one in wanted}
    base = sheets[columns.baseline]
    ids = {one: sheet.id_column(columns.id) for one, sheet in sheets.items()}
    without = [one for one, name in ids.items() if name is None]
    if without and len(without) < len(ids):
        raise DataError(f"no column {ID!r}, which other files have; name it with `id`", file=sheets[without[0]].file)
    keys = base.keys(ids[columns.baseline])
    values = {one: _aligned(sheet, base, keys, ids[one], columns) for one, sheet in sheets.items()}
    before = values.pop(columns.baseline)
    graded = _graded(before, values, columns, base.file)
    digests = _digests(list(sheets.values()))
    return OutcomeTable(_stem(base.file), keys, before, values, graded, not without, (), tuple(values), digests)


def _aligned(
    sheet: _Sheet, base: _Sheet, keys: tuple[str, ...], name: str | None, columns: OutcomeColumns
) -> NDArray[np.float64]:
    values = sheet.numbers(sheet.value_column(columns.value, name))
    if name is None:
        if len(values) != len(keys):
            raise DataError(
                f"{len(values)} rows, and {len(keys)} in {base.file}: rows without ids are paired by their order; "
                "give both files the same items, or a column of ids",
                file=sheet.file,
            )
        return values
    own = {key: k for k, key in enumerate(sheet.keys(name))}
    lacking, more = [key for key in keys if key not in own], sorted(own.keys() - set(keys))
    if lacking or more:
        example = f"lacks {quoted(lacking[0])}" if lacking else f"has {quoted(more[0])} besides"
        raise DataError(
            f"other items than {base.file}: {len(lacking)} missing, {len(more)} more ({example}); a paired test wants "
            "the same items in both: cut the files to those they share, or write 0 where no answer counts as wrong",
            file=sheet.file,
        )
    return values[[own[key] for key in keys]]


@dataclass(frozen=True)
class _Sheet:
    """The rows of a file."""

    file: str
    rows: tuple[SourceRow, ...]
    names: tuple[str, ...]  # of the columns

    @classmethod
    def read(cls, source: str) -> _Sheet:
        rows = tuple(read_rows(source))
        if len(rows) < 2:
            raise DataError(f"{len(rows)} row: a paired test wants at least 2 items, 5 for an interval", file=source)
        names = tuple(dict.fromkeys(str(name) for row in rows for name in row.fields))
        return cls(str(file_and_reading(source)[0]), rows, names)

    def listed(self) -> str:
        return clipped(", ".join(self.names), 200)

    def id_column(self, asked: str | None) -> str | None:
        if asked is not None and asked not in self.names:
            raise DataError(f"no column {quoted(asked)} of ids; `id` is one of {self.listed()}", file=self.file)
        return asked or (ID if ID in self.names else None)

    def keys(self, name: str | None) -> tuple[str, ...]:
        """The items' ids, or where there are none their rows' numbers: rows in the same place of several files then
        count as the same item."""
        if name is None:
            return tuple(f"row {k}" for k in range(1, len(self.rows) + 1))
        first: dict[str, int] = {}
        for row in self.rows:
            key = label_text(row.fields.get(name))
            if not key:
                raise row.error("no id; give every row one, or leave the column out and pair rows by their order", name)
            if key in first:
                raise row.error(
                    f"the id {quoted(key)} is that of line {first[key]} too; keep one row per item, or pair rows by "
                    "their order, without this column",
                    name,
                )
            first[key] = row.line
        return tuple(first)

    def value_column(self, asked: str | None, name: str | None) -> str:
        if asked is not None:
            if asked not in self.names:
                raise DataError(f"no column {quoted(asked)}; `value` is one of {self.listed()}", file=self.file)
            return asked
        found = [one for one in self.names if one != name and self.is_numeric(one)]
        if len(found) != 1:
            told = "no column holds numbers" if not found else f"several columns hold numbers: {', '.join(found)}"
            raise DataError(f"{clipped(told, 200)}; name that of the outcomes with `value`", file=self.file)
        return found[0]

    def is_numeric(self, name: str) -> bool:
        """Whether a value of it is a number: one that is none among numbers is an error, not a column of texts."""
        return any(_number(row.fields.get(name)) is not None for row in self.rows)

    def numbers(self, name: str) -> NDArray[np.float64]:
        return np.array([_value(row, name) for row in self.rows], dtype=np.float64)


def _value(row: SourceRow, name: str) -> float:
    found = row.fields.get(name)
    if found is None or not label_text(found):
        raise row.error(
            "no value; write 0 where no answer counts as wrong, or leave the item out under every condition", name
        )
    number = _number(found)
    if number is None:
        raise row.error(f"expected 0 or 1, true or false, or a score, got {quoted(found)}", name)
    return number


def _number(found: Any) -> float | None:
    if isinstance(found, str):
        text = found.strip().lower()
        if text in _WORDS:
            return _WORDS[text]
        try:
            found = float(text)
        except ValueError:
            return None
    if not isinstance(found, bool | int | float):
        return None
    try:
        number = float(found)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _graded(
    before: NDArray[np.float64], found: Mapping[str, NDArray[np.float64]], columns: OutcomeColumns, file: str
) -> bool:
    """Whether these are scores: the baseline has other values than 0 and 1, or the caller says so."""
    if columns.graded or not np.isin(before, (0, 1)).all():
        return True
    for name, values in found.items():
        odd = values[~np.isin(values, (0, 1))]
        if len(odd):
            raise DataError(
                f"holds {odd[0]:g}, and the baseline only 0 and 1: choose columns of outcomes with `conditions`, or "
                "say with `graded` that both are scores",
                file=file,
                field=name,
            )
    return False


def _check_conditions(tables: Sequence[OutcomeTable], columns: OutcomeColumns) -> None:
    there = {name for table in tables for name in table.conditions}
    lacking = [name for name in columns.conditions or () if name not in there]
    if lacking:
        known = ", ".join(dict.fromkeys(name for t in tables for name in t.columns))
        what = "the baseline itself" if lacking[0] == columns.baseline else "a column of no file"
        raise UsageError(
            f"`conditions` {clipped(lacking[0], 60)}: {what}" + (f"; found {clipped(known, 200)}" if known else "")
        )


def _with_names(tables: Sequence[OutcomeTable], sources: Sequence[str]) -> tuple[OutcomeTable, ...]:
    """Files of one name in several folders are told apart by the folder's."""
    names = [table.name for table in tables]
    if len(set(names)) == len(names):
        return tuple(tables)
    places = [file_and_reading(one)[0] for one in sources]
    return tuple(
        replace(t, name=f"{path.parent.name}/{t.name}" if names.count(t.name) > 1 else t.name)
        for t, path in zip(tables, places, strict=True)
    )


def _stem(file: str) -> str:
    path = Path(file)
    return Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem


def _digests(sheets: Sequence[_Sheet]) -> dict[str, str]:
    """By the file's name in its folder: whose machine it lies on is nobody's business."""
    paths = [Path(sheet.file) for sheet in sheets]
    return {"/".join(path.parts[-2:]): sha256_of(path) for path in paths}
