"""A table of texts as Markdown, and which of its columns are numbers. Pages and terminals ask this too."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tillerman.logs.table import Table
from tillerman.reports.account import Account
from tillerman.reports.numbers import MINUS, NOT_MEASURED

_NUMBER = re.compile(rf"[<±+{MINUS}]? ?\d")
_NO_NUMBER = ("", NOT_MEASURED, "not a number", "all")


def is_numeric(table: Table, column: int) -> bool:
    """Whether all that a column says begins with a number: such columns stand to the right and are never broken
    inside a number."""
    said = [row[column] for row in table.rows if row[column] not in _NO_NUMBER]
    return bool(said) and all(_NUMBER.match(cell) for cell in said)


def markdown_table(table: Table) -> str:
    """The table as a page can include it."""
    columns = range(1, len(table.head))
    rule = "|---" + "".join("|---:" if is_numeric(table, column) else "|---" for column in columns) + "|"
    lines = [_line(map(markdown_cell, table.head)), rule]
    for i, row in enumerate(table.rows):
        name = f"**{markdown_cell(row[0])}**" if i in table.strong else markdown_cell(row[0])
        lines.append(_line((name, *map(markdown_cell, row[1:]))))
    return "\n".join(lines)


def to_markdown(account: Account) -> str:
    """An account as a chapter of a page."""
    parts = [f"## {markdown_cell(account.title)}", markdown_cell(account.heading)]
    parts += [f"**{markdown_cell(named.verdict.words)}**" for named in account.verdicts]
    parts += [f"**{markdown_cell(account.conclusion)}**"] if account.conclusion else []
    for table in account.tables:
        parts += [f"### {markdown_cell(table.title)}", markdown_table(table)]
    parts += [f"* {markdown_cell(sentence)}" for sentence in account.sentences]
    return "\n\n".join(parts) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def markdown_cell(words: str) -> str:
    """One line, with nothing in it that would end a cell or open a tag."""
    return " ".join(words.split()).replace("|", "\\|").replace("<", "&lt;")
