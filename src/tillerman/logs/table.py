"""A table of texts: what terminals, Markdown and pages print is made of these."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Texts by row and column; the first column names the row. ``strong`` rows stand out.

    ``ValueError`` for a row that is not as long as the head."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    strong: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows, start=1):
            if len(row) != len(self.head):
                raise ValueError(f"row {number} of a table has {len(row)} cells, its head {len(self.head)}")
