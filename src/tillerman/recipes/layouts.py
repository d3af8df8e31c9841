"""Which figures of a run stand where: the cells of a table, and of a claim."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from tillerman.core.errors import UsageError

RANKS = "rank_correlation"


@dataclass(frozen=True)
class Where:
    """Which figures: of one step, the mean over tasks (a task or a group), one arm, layer, strength and metric.
    ``ranked``: not the mean, but the rank correlation over tasks of the metric with this other one."""

    step: str = ""
    tasks: str = ""
    arm: str = ""
    layer: int | None = None
    strength: float | None = None
    metric: str = ""
    ranked: str = ""

    @property
    def shown(self) -> str:
        """The metric that the figure is shown as."""
        return RANKS if self.ranked else self.metric

    def but(self, other: Where) -> Where:
        """This one, with what the other says instead."""
        said = {f.name: getattr(other, f.name) for f in fields(other) if getattr(other, f.name) not in ("", None)}
        return replace(self, **said)


@dataclass(frozen=True)
class TableColumn:
    name: str
    select: Where = Where()


@dataclass(frozen=True)
class TableRow:
    """``published``: a figure per column, in the metric's own unit (shares in 0 to 1); ``nan`` where there is none."""

    name: str
    select: Where = Where()
    published: tuple[float, ...] = ()


@dataclass(frozen=True)
class TableLayout:
    """A table as the paper sets it. ``also``: the same cells of other steps, beside the first."""

    title: str
    source: str  # table or section of the paper; empty where the paper has no such table
    select: Where
    columns: tuple[TableColumn, ...]
    rows: tuple[TableRow, ...]
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if row.published and len(row.published) != len(self.columns):
                raise UsageError(
                    f"table {self.title!r}, row {row.name!r}: expected {len(self.columns)} published "
                    f"figures, one per column, got {len(row.published)}"
                )

    def cells(self) -> Iterator[Where]:
        for row in self.rows:
            for column in self.columns:
                yield self.select.but(column.select).but(row.select)
