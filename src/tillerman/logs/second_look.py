"""The typed log of published outcomes tested again: how far items moved, and what follows. No item is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from tillerman.logs.base import Log
from tillerman.logs.tidy import Tables, record
from tillerman.statistics.shifts import ItemShift, count, rows_of
from tillerman.statistics.values import Equivalence, MeanEffect, Power

MOST = 10_000_000  # items of a log that is read
BETTER, WORSE, SAME, UNDECIDED = OUTCOMES = ("better", "worse", "same", "undecided")


@dataclass(frozen=True)
class Retested:
    """One condition against the baseline: in one file, or over all (``table`` is empty). ``before`` and ``after`` are
    means over rows; ``effect`` is per row, over items. ``outcome``: of ``OUTCOMES``, after Holm's correction over all
    tests of the run."""

    table: str
    condition: str
    graded: bool
    before: float
    after: float
    moved: tuple[ItemShift, ...]
    effect: MeanEffect
    p_holm: float
    outcome: str
    power: Power | None = None
    equivalence: Equivalence | None = None
    equivalence_p_holm: float | None = None

    @property
    def items(self) -> int:
        return self.effect.n

    @property
    def rows(self) -> int:
        """Answers: as many as items, but where an item is in several files."""
        return rows_of(self.moved)

    @property
    def gained(self) -> int:
        """Items that moved up."""
        return count(self.moved, 1)

    @property
    def lost(self) -> int:
        return count(self.moved, -1)


@dataclass(frozen=True, repr=False)
class SecondLookLog(Log):
    """Everything ``tillerman restest`` found. ``margin``: the largest difference that does not matter, in the unit of
    the values; ``files``: sha256 of what was read, by name."""

    kind: ClassVar[str] = "second-look"
    maker: ClassVar[str] = "tillerman restest FILES --out FOLDER"

    baseline: str
    tests: tuple[Retested, ...]
    margin: float | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()  # columns that hold texts
    notes: tuple[str, ...] = ()

    def check(self) -> None:
        """Tests have a known outcome, and as many items as moved."""
        if not self.tests:
            raise ValueError("tests: none")
        for one in self.tests:
            if one.outcome not in OUTCOMES:
                raise ValueError(f"outcome {one.outcome}: expected one of {', '.join(OUTCOMES)}")
            if one.items > MOST or one.rows > MOST:
                raise ValueError(f"{one.table}, {one.condition}: more than {MOST:,} items")
            if sum(part.items for part in one.moved) != one.items:
                raise ValueError(f"{one.table}, {one.condition}: {one.items} items, others are counted")

    @property
    def tables(self) -> tuple[str, ...]:
        """Files, in order."""
        return tuple(dict.fromkeys(one.table for one in self.tests if one.table))

    def tidy(self) -> Tables:
        about = {"baseline": self.baseline}
        return {
            "tests": (
                {**about, "data": one.table, "gained": one.gained, "lost": one.lost, "rows": one.rows}
                | record(one, {}, ("table", "moved"))
                for one in self.tests
            ),
            "moved": (
                {**about, "data": one.table, "condition": one.condition} | record(part, {})
                for one in self.tests
                for part in one.moved
            ),
        }
