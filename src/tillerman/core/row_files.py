"""Flat rows as a file: jsonl, csv or parquet, by its ending."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tillerman.core.errors import UsageError
from tillerman.core.files import replacing, write_text

ROW_FILES = (".jsonl", ".csv", ".parquet")


def ensure_row_file(path: Path) -> None:
    """``UsageError`` for an ending that is none of ``ROW_FILES``, and for parquet without its extra."""
    if path.suffix.lower() not in ROW_FILES:
        raise UsageError(f"{path}: rows are written as {', '.join(ROW_FILES)}; end the file's name in one of these")
    if path.suffix.lower() == ".parquet":
        _pyarrow(path)


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows that all have the same keys. Lists stay lists in jsonl and parquet, and are JSON texts in csv."""
    ensure_row_file(path)
    if path.suffix.lower() == ".jsonl":
        write_text(path, "".join(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows))
    elif path.suffix.lower() == ".csv":
        write_text(path, _csv(rows))
    else:
        arrow, parquet = _pyarrow(path)
        with replacing(path) as part:
            parquet.write_table(arrow.Table.from_pylist([dict(row) for row in rows]), part)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    for row in rows[:1]:
        table.writerow(row)
    for row in rows:
        cells = row.values()
        table.writerow([json.dumps(c, ensure_ascii=False) if isinstance(c, list | bool) else c for c in cells])
    return text.getvalue()


def _pyarrow(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UsageError(
            f"{path}: parquet needs an extra: pip install 'tillerman[parquet]'; or end the name in .jsonl or .csv"
        ) from None
    return pyarrow, pyarrow.parquet
