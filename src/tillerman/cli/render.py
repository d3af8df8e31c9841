"""Accounts on a terminal. No figure is ever cut: a table that is too wide for the screen is written otherwise.

First as it is; then with every interval below its value; then in groups of columns, each with the first column; and
where even one column has no room beside the first, as a list.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from textwrap import wrap

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table as RichTable
from rich.text import Text

from tillerman.core.escaping import visible
from tillerman.logs.table import Table
from tillerman.logs.verdict import Verdict
from tillerman.reports.account import Account, Named
from tillerman.reports.tables import is_numeric

_COLOURS = {
    "good": "green",
    "mixed": "yellow",
    "scores only": "yellow",
    "bias only": "red",
    "bad": "red",
    "unclear": "cyan",
}
_GAP = 2  # blanks between columns: one is ours, one the box's
_JOINT = "\u00a0"  # a blank at which no line ends
_WORDS = 16  # characters below which a column of words is not squeezed, where it has so many


def print_account(console: Console, account: Account) -> None:
    """Title, heading, tables, sentences, conclusion, verdicts."""
    print_line(console, account.title, style="bold")
    print_line(console, account.heading)
    for table in account.tables:
        print_table(console, table)
    for sentence in account.sentences:
        print_line(console, sentence)
    print_line(console, account.conclusion, style="bold")
    print_verdicts(console, account.verdicts)


def _as_text(table: Table) -> Table:
    """Escaped before anything is measured."""
    rows = tuple(tuple(map(visible, row)) for row in table.rows)
    return replace(table, title=visible(table.title), head=tuple(map(visible, table.head)), rows=rows)


def print_line(console: Console, words: str, style: str | None = None) -> None:
    """One sentence as it is, nothing for an empty one."""
    if words:
        console.print(visible(words), style=style, highlight=False, markup=False, emoji=False)


def print_verdicts(console: Console, verdicts: Iterable[Named]) -> None:
    for named in verdicts:
        print_verdict(console, named.source, named.verdict)


def print_verdict(console: Console, source: str, verdict: Verdict) -> None:
    console.print(
        Text.assemble(
            (visible(f"{source}: {verdict.outcome}."), _COLOURS[verdict.outcome]), " ", (visible(verdict.words), "bold")
        )
    )


def print_table(console: Console, table: Table) -> None:
    table = _as_text(table)
    print_line(console, table.title, style="italic")
    if len(table.head) == 1:
        _print_list(console, table, [0])
        return
    columns = range(len(table.head))
    for below in (False, True):
        if _fits(console, table, columns, below=below):
            console.print(_view(console, table, columns, below=below), "")
            return
    for group in _groups(console, table):
        if _fits(console, table, group, below=True):
            console.print(_view(console, table, group, below=True), "")
        else:
            _print_list(console, table, group)


def _groups(console: Console, table: Table) -> list[list[int]]:
    """Columns that fit beside the first one, in order."""
    groups: list[list[int]] = []
    for column in range(1, len(table.head)):
        if groups and _fits(console, table, [*groups[-1], column], below=True):
            groups[-1].append(column)
        else:
            groups.append([0, column])
    return groups


def _fits(console: Console, table: Table, columns: Sequence[int], *, below: bool) -> bool:
    return _total(_room(table, column, below=below)[0] for column in columns) <= console.width


def _total(widths: Iterable[int]) -> int:
    return sum(width + _GAP for width in widths) - _GAP


def _room(table: Table, column: int, *, below: bool) -> tuple[int, int]:
    """The least and the greatest width of use to a column: numbers stay whole, words break at blanks."""
    cells = [line for row in table.rows for line in _cell(row[column], column, below=below).split("\n")]
    head, longest = _unbroken(table.head[column]), max(map(cell_len, cells), default=0)
    least = max(map(cell_len, " ".join(cells).split()), default=0)
    least = longest if is_numeric(table, column) else max(least, min(longest, _WORDS))
    return max(least, *map(cell_len, head.split(" "))), max(longest, cell_len(head))


def _widths(table: Table, columns: Sequence[int], room: int, *, below: bool) -> list[int]:
    """Every column at its least width; what room is left goes to those that can use it, the narrowest need first."""
    bounds = [_room(table, column, below=below) for column in columns]
    widths = [max(1, least) for least, _ in bounds]
    for i in sorted(range(len(bounds)), key=lambda i: bounds[i][1] - bounds[i][0]):
        widths[i] += min(bounds[i][1] - bounds[i][0], max(0, room - _total(widths)))
    return widths


def _view(console: Console, table: Table, columns: Sequence[int], *, below: bool) -> RichTable:
    view = RichTable(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    for column, width in zip(columns, _widths(table, columns, console.width, below=below), strict=True):
        justify: JustifyMethod = "right" if is_numeric(table, column) else "left"
        head = "\n".join(wrap(_unbroken(table.head[column]), width)).replace(_JOINT, " ")
        view.add_column(Text(head), justify=justify, width=width, overflow="fold")
    for i, row in enumerate(table.rows):
        style = "bold" if i in table.strong else None
        view.add_row(*(Text(_cell(row[c], c, below=below)) for c in columns), style=style)
    return view


def _unbroken(head: str) -> str:
    """Units stay with what they belong to."""
    return head.replace("95 %", f"95{_JOINT}%").replace(" ×", f"{_JOINT}×")


def _cell(words: str, column: int, *, below: bool) -> str:
    """``below``: intervals and factors on a line of their own, but for those of the first column, which is a name."""
    return words.replace(" (", "\n(").replace(" × ", "\n× ") if below and column else words


def _print_list(console: Console, table: Table, columns: Sequence[int]) -> None:
    """A line per cell below the row's name."""
    for i, row in enumerate(table.rows):
        print_line(console, row[0], style="bold" if i in table.strong else None)
        for column in columns[1:]:
            print_line(console, f"  {table.head[column]}: {row[column]}")
