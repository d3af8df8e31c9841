"""Token rows: what data writes and models run. Neither room needs to know the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[int], None]  # told how many rows were just done


def silent(_: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Row:
    """Tokens to run; from ``read_from`` on they are the answer (or the text) that counts."""

    tokens: tuple[int, ...]
    read_from: int = 0


@dataclass(frozen=True)
class ContrastSet:
    """Rows that show the behaviour and rows that do not; ``paired`` when row i belongs to row i."""

    positive: tuple[Row, ...]
    negative: tuple[Row, ...]
    paired: bool
