"""Which layout the rows have, found from their fields."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tillerman.data.layouts import LAYOUTS, LOOKED_AT, RowLayout
from tillerman.data.nearest import no_layout
from tillerman.data.reading.rows import SourceRow


def detect(rows: Sequence[SourceRow], columns: Iterable[str] = ()) -> RowLayout:
    """The first layout that fits most of the first rows (exact names before loose ones) and reads the ``columns`` that
    were named; a ``DataError`` with the nearest ones."""
    named = set(columns)
    looked_at = rows[:LOOKED_AT]
    for loose in (False, True):
        fitting = [
            layout
            for layout in LAYOUTS.values()
            if named <= layout.known and 2 * sum(layout.matches(row, loose=loose) for row in looked_at) > len(looked_at)
        ]
        if fitting:
            return _undoubted(rows, fitting, loose)
    raise no_layout(rows)


def _undoubted(rows: Sequence[SourceRow], fitting: Sequence[RowLayout], loose: bool) -> RowLayout:
    """The first of the layouts that fit; ``DataError`` where another one reads other columns altogether."""
    first = fitting[0]
    row = next(row for row in rows if first.matches(row, loose=loose))
    used = {layout.name: set(layout.columns(row.fields).values()) for layout in fitting}
    for other in fitting[1:]:
        if not used[first.name] & used[other.name] and other.name != "messages":  # a copy of what was compared
            ways = " or ".join(f"--layout {one.name} ({', '.join(one.fields)})" for one in (first, other))
            raise row.error(f"two layouts fit: {ways}; say which, in Python with layout={first.name!r}")
    if first.doubt is not None:
        first.doubt([first.placed(row) for row in rows])
    return first
