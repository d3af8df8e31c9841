"""What a second look at published outcomes says: a table per file, one over all, a sentence per test. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tillerman.logs.second_look import BETTER, SAME, WORSE, Retested, SecondLookLog
from tillerman.logs.table import Table
from tillerman.reports.account import Account
from tillerman.reports.numbers import (
    compact,
    decimal,
    in_points,
    interval_words,
    p_value,
    percent,
    points,
    shown_number,
    shown_p,
    size,
)
from tillerman.reports.tables import to_markdown as account_markdown
from tillerman.statistics.power import ALPHA

_SIGNED = 3  # decimals of scores


def account(log: SecondLookLog) -> Account:
    over = [one for one in log.tests if not one.table]
    tables = tuple(_of_file(log, name) for name in log.tables)
    whole = (_over_all(log, over),) if len(log.tables) > 1 else ()
    follows = Table("What follows", ("test", "verdict"), tuple((_name(t), verdict(t, log)) for t in log.tests))
    return Account(heading(log), (*tables, *whole, follows), _sentences(log), conclusion(log), title="Second look")


def to_markdown(log: SecondLookLog) -> str:
    return account_markdown(account(log))


def heading(log: SecondLookLog) -> str:
    """What was tested, in one line."""
    names = list(dict.fromkeys(one.condition for one in log.tests))
    conditions = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    files = f"{len(log.tables)} files" if len(log.tables) > 1 else "".join(log.tables)
    return f"{files}: {conditions} against {log.baseline}, {len(log.tests)} {_plural('test', len(log.tests))}"


def short(log: SecondLookLog) -> str:
    """As a ``repr``."""
    return f"{heading(log)}: {_counted(log.tests)}"


def conclusion(log: SecondLookLog) -> str:
    """One sentence: how many differences stand, and which."""
    standing = [one for one in log.tests if one.outcome in (BETTER, WORSE)]
    tests = f"{len(log.tests)} {_plural('difference', len(log.tests))} from {log.baseline}"
    after = " after Holm's correction" if len(log.tests) > 1 else ""
    if not standing:
        same = sum(one.outcome == SAME for one in log.tests)
        within = f"; {same} within the margin" if same else ""
        return f"Of {tests} none stands{after}{within}."
    named = ", ".join(f"{_name(one)} ({one.outcome}, {_value(one)})" for one in standing[:4])
    more = f" and {len(standing) - 4} more" if len(standing) > 4 else ""
    return f"Of {tests} {len(standing)} {'stands' if len(standing) == 1 else 'stand'}{after}: {named}{more}."


def verdict(one: Retested, log: SecondLookLog) -> str:
    """Better, worse, the same within the margin, or undecided with what is ruled out."""
    found = f"{_value(one)} ({interval_words(one.effect.interval, _scale(one), _places(one), signed=True)})"
    if one.outcome in (BETTER, WORSE):
        small = one.equivalence_p_holm is not None and one.equivalence_p_holm < ALPHA
        less = f", though by less than the margin of {_margin(one, log)}" if small else ""
        return f"{one.outcome}: {found}, {_raised(one, log)}{less}"
    if one.outcome == SAME:
        return f"the same within ±{_margin(one, log)}: {found}"
    return f"undecided{_ruled_out(one, log)}"


def _ruled_out(one: Retested, log: SecondLookLog) -> str:
    within = one.effect.interval
    if not within.known:
        return f": {one.items} items are too few for an interval, and nothing is ruled out"
    if one.effect.p_value < ALPHA <= one.p_holm:
        ends = interval_words(within, _scale(one), _places(one), signed=True)
        way = "a gain" if one.effect.value > 0 else "a loss"
        return (
            f": as the only test it would show {way} ({_value(one)}, {ends}, {p_value(one.effect.p_value)}); as one of "
            f"{len(log.tests)} it does not ({p_value(one.p_holm)})"
        )
    told = [_beyond("gains", within.high, one)] if within.high >= 0 else []
    told += [_beyond("losses", within.low, one)] if within.low <= 0 else []
    return f"; ruled out: {', '.join(told)}"


def _of_file(log: SecondLookLog, name: str) -> Table:
    mine = [one for one in log.tests if one.table == name]
    first = mine[0]
    base = percent(first.before) if not first.graded else decimal(first.before, _SIGNED)
    mean, change = ("mean", "change (95 %)") if first.graded else ("right, %", "effect, pp (95 %)")
    head = ("", mean, change, *(("up", "down") if first.graded else ("gained", "lost")), "p", "p (Holm)")
    detectable = () if first.graded else ("detectable, pp",)
    rows = tuple((*_cells(one), *(() if one.graded else (_detectable(one),))) for one in mine)
    title = f"{name}: {first.items:,} items, {log.baseline} {base}"
    return Table(title, (*head, *detectable), rows, _strong(mine))


def _over_all(log: SecondLookLog, over: Sequence[Retested]) -> Table:
    """A row per condition: in how many files it stands, and all of them together."""
    names = dict.fromkeys(one.condition for one in log.tests)
    together = {one.condition: one for one in over}
    rows = []
    for name in names:
        single = [one for one in log.tests if one.condition == name and one.table]
        counts = [sum(one.outcome == outcome for one in single) for outcome in (BETTER, WORSE)]
        one = together.get(name)
        whole = ("", "", "", "") if one is None else (_change(one), f"{one.items:,} ({one.rows:,})", *_ps(one))
        rows.append((name, str(len(single)), *map(str, counts), *whole))
    whole_head = "all (95 %)" if any(one.graded for one in over) else "all, pp (95 %)"
    head = ("", "files", "better in", "worse in", whole_head, "items (answers)", "p", "p (Holm)")
    strong = tuple(i for i, name in enumerate(names) if name in together and together[name].outcome in (BETTER, WORSE))
    return Table("Over all files", head, tuple(rows), strong)


def _cells(one: Retested) -> tuple[str, ...]:
    mean = decimal(one.after, _SIGNED) if one.graded else decimal(100 * one.after, 1)
    return (one.condition, mean, _change(one), f"{one.gained:,}", f"{one.lost:,}", *_ps(one))


def _change(one: Retested) -> str:
    if one.graded:
        return shown_number(one.effect.value, one.effect.interval, _SIGNED, signed=True)
    return in_points(one.effect.value, one.effect.interval)


def _ps(one: Retested) -> tuple[str, str]:
    return shown_p(one.effect.p_value), shown_p(one.p_holm)


def _detectable(one: Retested) -> str:
    if one.power is None:
        return ""
    return "none" if one.power.minimum is None else decimal(100 * one.power.minimum, 1)


def _strong(tests: Sequence[Retested]) -> tuple[int, ...]:
    return tuple(i for i, one in enumerate(tests) if one.outcome in (BETTER, WORSE))


def _sentences(log: SecondLookLog) -> tuple[str, ...]:
    kinds = {one.graded for one in log.tests}
    count = len(log.tests)
    said = [
        "Gained and lost are items right under one condition and wrong under the other. Interval: Tango's, widened to "
        "0 where the test does not refuse it; p: exact McNemar test."
        if False in kinds
        else "",
        "Scores: p of a sign-flip test of the paired differences, bootstrap interval (t-interval below 20 items, none "
        "below 8)."
        if True in kinds
        else "",
        "Detectable: the smallest true effect that so many items, of which so many change, would have shown in four of "
        "five runs, with this number of tests."
        if any(one.power for one in log.tests)
        else "",
        "Over all files every answer counts alike; answers to the same item are drawn together, since they are not "
        "independent."
        if len(log.tables) > 1
        else "",
        f"A difference stands where its p, adjusted by Holm's rule for all {count} tests of this run, is below 0.05; "
        "intervals are not adjusted."
        if count > 1
        else "",
        _margin_words(log),
        f"Not used, since they hold texts: {', '.join(log.unused[:8])}." if log.unused else "",
        *(f"Note: {note}" for note in log.notes),
    ]
    return tuple(filter(None, said))


def _margin_words(log: SecondLookLog) -> str:
    if log.margin is None:
        return ""
    return (
        f"The same: one-sided tests against ±{compact(log.margin)} in the unit of the values, a share for outcomes, "
        "adjusted among themselves; a margin says something only where it was set before the outcomes were seen."
    )


def _counted(tests: Sequence[Retested]) -> str:
    counts: dict[str, int] = {}
    for one in tests:
        counts[one.outcome] = counts.get(one.outcome, 0) + 1
    return ", ".join(f"{number} {outcome}" for outcome, number in counts.items())


def _name(one: Retested) -> str:
    return f"{one.table or 'over all files'}, {one.condition}"


def _scale(one: Retested) -> float:
    return 1.0 if one.graded else 100.0


def _places(one: Retested) -> int:
    return _SIGNED if one.graded else 1


def _value(one: Retested) -> str:
    return decimal(one.effect.value, _SIGNED, signed=True) if one.graded else points(one.effect.value)


def _beyond(what: str, end: float, one: Retested) -> str:
    amount = size(decimal(end, _SIGNED) if one.graded else points(end))
    nothing = not any(digit in amount for digit in "123456789")
    return f"all {what}" if nothing else f"{what} above {amount}"


def _margin(one: Retested, log: SecondLookLog) -> str:
    margin = log.margin or 0.0
    return compact(margin) if one.graded else size(points(margin))


def _raised(one: Retested, log: SecondLookLog) -> str:
    return f"n = {one.items:,}, {p_value(one.p_holm)}{' after Holm' if len(log.tests) > 1 else ''}"


def _plural(word: str, number: int) -> str:
    return word if number == 1 else f"{word}s"
