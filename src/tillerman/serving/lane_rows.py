"""Rows of a table: one for all that is done to a token of a running request, shared where two need the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tillerman.core.errors import UsageError
from tillerman.serving.lanes import Lane
from tillerman.serving.pulls import Pulls

NOTHING = 0  # the row of zeros


@dataclass
class LaneRows:
    """Which row of a table holds which pulls, and which rows the tokens of a step take.

    Row 0 is nothing, rows 1 to ``capacity`` are given to the pulls of running requests; a row is free again when the
    last request that needs it is released. ``write(row, pulls)`` fills a row of the table the first time.
    """

    capacity: int
    write: Callable[[int, Pulls], None]
    _free: list[int] = field(init=False)
    _rows: dict[Pulls, int] = field(init=False, default_factory=dict)
    _users: dict[Pulls, int] = field(init=False, default_factory=dict)
    _requests: dict[str, tuple[NDArray[np.int64], NDArray[np.int64], tuple[Pulls, ...]]] = field(
        init=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        self._free = list(range(self.capacity, 0, -1))

    @property
    def in_use(self) -> int:
        return len(self._rows)

    @property
    def requests(self) -> frozenset[str]:
        """Those that hold rows."""
        return frozenset(self._requests)

    def acquire(self, request: str, lanes: Sequence[Lane]) -> None:
        """Rows for all lanes of a request, or ``UsageError`` and none. A request that has rows already changes them."""
        self.release(request)
        sums = tuple(dict.fromkeys(lane.pulls for lane in lanes if lane.pulls))
        new = [pulls for pulls in sums if pulls not in self._rows]
        if len(new) > len(self._free):
            raise UsageError(
                f"{len(new)} rows of steering are needed and {len(self._free)} of {self.capacity} are free"
            )
        for pulls in new:
            row = self._free.pop()
            self._rows[pulls], self._users[pulls] = row, 0
            try:
                self.write(row, pulls)
            except Exception:
                for made in new:
                    if made in self._rows and not self._users[made]:
                        self._drop(made)
                raise
        for pulls in sums:
            self._users[pulls] += 1
        starts = np.array([lane.start for lane in lanes], dtype=np.int64)
        rows = np.array([self._rows.get(lane.pulls, NOTHING) for lane in lanes], dtype=np.int64)
        self._requests[request] = (starts, rows, sums)

    def release(self, request: str) -> None:
        """Rows that nobody else needs are free; a request without rows is let be."""
        _, _, sums = self._requests.pop(request, (None, None, ()))
        for pulls in sums:
            self._users[pulls] -= 1
            if not self._users[pulls]:
                self._drop(pulls)

    def fill(self, out: NDArray[np.int64], requests: Sequence[str], counts: Sequence[int], done: Sequence[int]) -> int:
        """The rows of a step's tokens, request after request, into the beginning of ``out``. Request i has
        ``counts[i]`` tokens, from position ``done[i]`` on. Gives the number of tokens."""
        at = 0
        for request, count, first in zip(requests, counts, done, strict=True):
            held = self._requests.get(request)
            if held is None:
                out[at : at + count] = NOTHING
            elif first >= held[0][-1]:
                out[at : at + count] = held[1][-1]
            else:
                positions = np.arange(first, first + count)
                out[at : at + count] = held[1][np.searchsorted(held[0], positions, side="right") - 1]
            at += int(count)
        return at

    def _drop(self, pulls: Pulls) -> None:
        self._free.append(self._rows.pop(pulls))
        del self._users[pulls]
