"""What an export or an import did, in words."""

from __future__ import annotations

from tillerman.core.cell import Cell
from tillerman.reports.numbers import compact


def exported_words(cell: Cell, dose: float, file: str, tool: str, used: str, *, factor: bool) -> tuple[str, ...]:
    """One line of what the file holds, one of how its tool takes it."""
    held = "as its scale" if factor else "in the numbers"
    return (
        f"{file}: for {tool}; adds at {cell}, dose {compact(dose)}; the strength is {held}",
        f"use: {used.replace('FILE', file)}",
    )
