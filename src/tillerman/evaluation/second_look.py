"""Outcomes that others published, tested again: every condition against the baseline on the same items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tillerman.core.errors import UnknownNameError
from tillerman.data.outcomes import OutcomeTable
from tillerman.logs.second_look import BETTER, SAME, UNDECIDED, WORSE, Retested, SecondLookLog
from tillerman.statistics.estimates import holm
from tillerman.statistics.power import ALPHA, foreseen
from tillerman.statistics.shifts import ItemShift, count, paired_change, paired_equivalence, rows_of, shifts
from tillerman.statistics.values import Power


@dataclass(frozen=True)
class _Pair:
    """A condition against the baseline, not yet tested. ``table`` is empty over all files."""

    table: str
    condition: str
    graded: bool
    before: float
    after: float
    moved: tuple[ItemShift, ...]


def second_look(tables: Sequence[OutcomeTable], baseline: str, margin: float | None = None) -> SecondLookLog:
    """Paired tests of every condition in every table and, where several tables have it, over all of them, with Holm's
    correction over all of these. ``margin``: the largest difference that does not matter, in the unit of the values.

    Over all, each answer counts alike; answers to the same item (the same id in several files, or the same row of
    files without ids) are not independent, and are drawn together.
    """
    pairs = [_pair(table, name) for table in tables for name in table.conditions]
    names = dict.fromkeys(pair.condition for pair in pairs)
    pairs += [over for name in names if (over := _over_all(tables, name)) is not None]
    left = tuple(f"{table.name}: without the conditions asked for" for table in tables if not table.conditions)
    log = SecondLookLog(
        baseline,
        _tested(pairs, margin),
        margin,
        {name: digest for table in tables for name, digest in table.digests.items()},
        tuple(dict.fromkeys(name for table in tables for name in table.unused)),
        (*left, *_without_ids(tables)),
    )
    return log


def look_again(
    log: SecondLookLog, margin: float | None = None, conditions: Sequence[str] | None = None
) -> SecondLookLog:
    """The log judged anew from how far its items moved: with another margin (None: its own), or these conditions
    alone."""
    known = dict.fromkeys(one.condition for one in log.tests)
    for name in conditions or ():
        if name not in known:
            raise UnknownNameError("condition of this log", name, known)
    kept = [one for one in log.tests if conditions is None or one.condition in conditions]
    pairs = [_Pair(t.table, t.condition, t.graded, t.before, t.after, t.moved) for t in kept]
    margin = log.margin if margin is None else margin
    return replace(log, tests=_tested(pairs, margin), margin=margin)


def _pair(table: OutcomeTable, name: str) -> _Pair:
    before, after = table.baseline, table.conditions[name]
    return _Pair(table.name, name, table.graded, float(before.mean()), float(after.mean()), shifts(after - before))


def _over_all(tables: Sequence[OutcomeTable], name: str) -> _Pair | None:
    """None where fewer than two tables have the condition, or one has outcomes and another scores."""
    having = [table for table in tables if name in table.conditions]
    if len(having) < 2 or len({table.graded for table in having}) > 1:
        return None
    before = np.concatenate([table.baseline for table in having])
    after = np.concatenate([table.conditions[name] for table in having])
    keys = [key for table in having for key in table.keys]
    graded = having[0].graded
    return _Pair("", name, graded, float(before.mean()), float(after.mean()), shifts(after - before, keys))


def _tested(pairs: Sequence[_Pair], margin: float | None) -> tuple[Retested, ...]:
    effects = [paired_change(pair.moved, graded=pair.graded) for pair in pairs]
    raised = holm([one.p_value for one in effects])
    same = [None if margin is None else paired_equivalence(p.moved, margin, graded=p.graded) for p in pairs]
    within = holm([one.p_value for one in same if one is not None]) if margin is not None else [None] * len(pairs)
    return tuple(
        Retested(
            pair.table,
            pair.condition,
            pair.graded,
            pair.before,
            pair.after,
            pair.moved,
            found,
            p,
            _outcome(found.value, p, within_p),
            _power(pair, len(pairs)),
            equal,
            within_p,
        )
        for pair, found, p, equal, within_p in zip(pairs, effects, raised, same, within, strict=True)
    )


def _outcome(value: float, p: float, within: float | None) -> str:
    if p < ALPHA:
        return BETTER if value > 0 else WORSE
    return SAME if within is not None and within < ALPHA else UNDECIDED


def _power(pair: _Pair, tests: int) -> Power | None:
    """Of outcomes of single rows: what so many items, of which so many changed, would have shown."""
    items, changed = rows_of(pair.moved), count(pair.moved, 1) + count(pair.moved, -1)
    if pair.graded or any(one.rows > 1 for one in pair.moved):
        return None
    return foreseen(items, tests, changed / items)


def _without_ids(tables: Sequence[OutcomeTable]) -> tuple[str, ...]:
    names = [table.name for table in tables if not table.has_ids]
    if not names:
        return ()
    return (f"{', '.join(names[:3])}{' and more' if len(names) > 3 else ''}: no ids, rows are paired by their order",)
