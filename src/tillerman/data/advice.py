"""How to say which layout a file has: options that can be pasted, on the command line and in Python."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

Columns = Mapping[str, str | Sequence[str]]  # field -> column, or several columns that make a list


def options_for(layout: str, columns: Columns, positive: str | None = None) -> str:
    """The options that read a file so; for columns that the command line cannot name, those of Python alone."""
    label = f", positive_label={positive!r}" if positive is not None else ""
    here = f", columns={dict(columns)!r}" if columns else ""
    line = command_line(layout, columns, positive)
    python = f"layout={layout!r}{here}{label}"
    return f"in Python {python}" if line is None else f"{line} (in Python {python})"


def command_line(layout: str, columns: Columns, positive: str | None = None) -> str | None:
    """None where a column's name holds a mark that parts names on the command line."""
    names = [name for found in columns.values() for name in ([found] if isinstance(found, str) else found)]
    if any(mark in name for name in names for mark in ",=+") or any(name != name.strip() for name in names):
        return None
    words = ["--layout", layout]
    if columns:
        parts = {field: found if isinstance(found, str) else "+".join(found) for field, found in columns.items()}
        words += ["--columns", ",".join(f"{field}={found}" for field, found in parts.items())]
    if positive is not None:
        words += [f"--positive={positive}"] if positive.startswith("-") else ["--positive", positive]
    return shlex.join(words)
