"""A table of texts, and its Markdown. What pages and terminals print is made of these."""

from __future__ import annotations

from collections.abc import Iterable

from tillerman.logs.table import Table


def markdown_table(table: Table) -> str:
    """The table as a page can include it."""
    lines = [_line(map(markdown_cell, table.head)), "|---" + "|---:" * (len(table.head) - 1) + "|"]
    for i, row in enumerate(table.rows):
        name = f"**{markdown_cell(row[0])}**" if i in table.strong else markdown_cell(row[0])
        lines.append(_line((name, *map(markdown_cell, row[1:]))))
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def markdown_cell(words: str) -> str:
    """One line, with nothing in it that would end a cell or open a tag."""
    return " ".join(words.split()).replace("|", "\\|").replace("<", "&lt;")
