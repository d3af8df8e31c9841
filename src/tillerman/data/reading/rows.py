"""A row as it was read, and what becomes of one that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tillerman.core.errors import DataError

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


def kind_of(value: object) -> str:
    """What a value is, in the words of a file."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def object_row(value: Any, path: Path, line: int) -> SourceRow:
    """A decoded JSON object as a row; ``DataError`` for anything else."""
    if not isinstance(value, dict):
        hint = "; a list of texts has no labels" if isinstance(value, str) else ""
        message = f"expected a JSON object with named fields, got {kind_of(value)}{hint}"
        raise DataError(message, file=path, line=line)
    return SourceRow(value, str(path), line)
