"""A paired difference from how far items moved: all that its tests need, without the items themselves.

``ItemShift(change, rows, items)``: so many items moved by ``change`` in sum over their ``rows`` rows. Of 0/1 outcomes
of single rows these are the counts gained (+1), lost (-1) and unmoved (0). An item that is asked several times (of
several models, say) is one item with several rows: its rows are not independent, so the item is what is drawn and
flipped.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tillerman.core.errors import UsageError
from tillerman.statistics.equivalence import equivalence, equivalence_of_answers
from tillerman.statistics.estimates import bootstrap_mean, effect, ensure_finite, sign_flip, t_interval
from tillerman.statistics.values import Equivalence, MeanEffect

_MANY = 5_000  # items from which a bootstrap is a t-interval that costs memory


@dataclass(frozen=True)
class ItemShift:
    """So many items moved by so much in sum over their rows."""

    change: float
    rows: int
    items: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.items < 1 or not np.isfinite(self.change):
            raise ValueError(f"{self.items} items of {self.rows} rows moved by {self.change:g}")


def shifts(changes: NDArray[np.float64], keys: Sequence[Hashable] | None = None) -> tuple[ItemShift, ...]:
    """Of the rows' differences ``[rows]``; rows with the same key are of one item."""
    ensure_finite(changes, "paired differences")
    places: dict[Hashable, int] = {}
    at = np.array([places.setdefault(key, len(places)) for key in keys or range(len(changes))], dtype=np.int64)
    totals, sizes = np.bincount(at, changes, len(places)), np.bincount(at, minlength=len(places))
    pairs, counts = np.unique(np.column_stack([totals, sizes]), axis=0, return_counts=True)
    return tuple(ItemShift(float(c), int(s), int(n)) for (c, s), n in zip(pairs, counts, strict=True))


def paired_change(moves: Sequence[ItemShift], *, graded: bool) -> MeanEffect:
    """Mean difference per row, with a 95 % interval and a two-sided p.

    0/1 outcomes of items with one row each: Tango's interval and the exact McNemar test (``estimates.effect``). Else
    over items: a sign-flip test of the items' sums (``estimates``; over all flips where outcomes were summed), and the
    bootstrap interval of ``u_i = d + (s_i - d m_i) K / N``, the linearised ratio of sums s to rows m of K items with N
    rows (Cochran, "Sampling Techniques", 1977, section 6.3), so that items with more rows may count more; beyond 5,000
    items the paired t-interval and, for scores, t-test, which they come to.

    ``UsageError`` for fewer than two items.
    """
    items = sum(one.items for one in moves)
    if items < 2:
        raise UsageError(f"{items} items: a paired test wants at least 2")
    if not graded and all(one.rows == 1 for one in moves):
        after, before = _answers(moves)
        found = effect(after, before, [""] * items)
        return MeanEffect(found.value, found.interval, found.p_value, items)
    values, sums = _linearised(moves), _each(moves, [one.change for one in moves])
    if items > _MANY:
        mean, interval, above = t_interval(values.tolist())
        p = min(1.0, 2 * min(above, 1 - above))
    else:
        mean, interval, p = float(values.mean()), bootstrap_mean(values), 1.0
    there = sums[sums != 0]  # a flip of 0 changes nothing
    if not graded:
        p = all_flips(there.astype(np.int64))
    elif items <= _MANY and len(there) > 1:  # one item alone can as well have the other sign
        p = sign_flip(there)
    return MeanEffect(mean, interval, p, items)


def all_flips(sums: NDArray[np.int64]) -> float:
    """Two-sided p that whole numbers whose signs are drawn sum to as much as these, over all flips: of ones and minus
    ones the exact McNemar test."""
    chance, sizes = np.ones(1), np.abs(sums)
    for size in np.unique(sizes[sizes > 0]).tolist():
        number = int((sizes == size).sum())
        spread = np.zeros(size * number + 1)
        spread[::size] = stats.binom.pmf(np.arange(number + 1), number, 0.5)
        chance = np.convolve(chance, spread)
    totals = 2 * np.arange(len(chance)) - (len(chance) - 1)
    return min(1.0, float(chance[np.abs(totals) >= abs(int(sums.sum()))].sum()))


def paired_equivalence(moves: Sequence[ItemShift], margin: float, *, graded: bool) -> Equivalence:
    """Is the difference smaller than ``margin``, in the unit of the values? Tango's score tests for 0/1 outcomes of
    single rows, else t-tests over items (``statistics.equivalence``)."""
    if not graded and all(one.rows == 1 for one in moves):
        return equivalence_of_answers(*_answers(moves), margin)
    return equivalence(_linearised(moves), margin)


def count(moves: Sequence[ItemShift], sign: int) -> int:
    """Items that moved up (1) or down (-1)."""
    return sum(one.items for one in moves if one.change * sign > 0)


def rows_of(moves: Sequence[ItemShift]) -> int:
    return sum(one.rows * one.items for one in moves)


def _answers(moves: Sequence[ItemShift]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """After and before, with an unmoved item wrong both times: which it was changes neither test nor interval."""
    change = _each(moves, [one.change for one in moves])
    return np.asarray(change > 0), np.asarray(change < 0)


def _linearised(moves: Sequence[ItemShift]) -> NDArray[np.float64]:
    sums, sizes = _each(moves, [one.change for one in moves]), _each(moves, [one.rows for one in moves])
    mean = sums.sum() / sizes.sum()
    return np.asarray(mean + (sums - mean * sizes) * (len(sums) / sizes.sum()))


def _each(moves: Sequence[ItemShift], values: Sequence[float]) -> NDArray[np.float64]:
    return np.repeat(np.asarray(values, dtype=np.float64), [one.items for one in moves])
