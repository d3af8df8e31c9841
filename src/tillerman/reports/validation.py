"""What holding a scorer against labelled replies says: agreement, ranking, calibration, disagreements. Pure."""

from __future__ import annotations

from tillerman.logs.table import Table
from tillerman.logs.validation import CHOSEN, MIDDLE, Pairwise, RatedReply, ValidationLog
from tillerman.reports.account import Account
from tillerman.reports.numbers import compact, decimal, interval_words, percent, shown_number, shown_rate
from tillerman.reports.tables import to_markdown as account_markdown
from tillerman.statistics.agreement import Statistic
from tillerman.statistics.confusion import Bin
from tillerman.statistics.values import Rate

SHOWN = 20  # disagreements


def account(log: ValidationLog, shown: int = SHOWN) -> Account:
    made = (_agreement(log), _confusion(log), _bins(log), _wrong(log, shown))
    tables = tuple(table for table in made if table is not None)
    return Account(heading(log), tables, _sentences(log), conclusion(log), title=f"Scorer {log.scorer}, validated")


def to_markdown(log: ValidationLog, shown: int = SHOWN) -> str:
    return account_markdown(account(log, shown))


def heading(log: ValidationLog) -> str:
    """What was held against what, in one line."""
    yes = sum(one.label for one in log.replies)
    names = ", ".join(log.wanted[:6])
    return f"{log.data_name}: {len(log.replies):,} replies, {yes:,} labelled yes ({log.column}: {names})"


def short(log: ValidationLog) -> str:
    """As a ``repr``."""
    return f"{log.scorer} on {log.data_name}: {percent(log.agreed.same.value)} of {log.agreed.table.n:,}"


def conclusion(log: ValidationLog) -> str:
    """One sentence: how far the scorer agrees with the labels, beside how far people do."""
    found = log.agreed
    kappa = "kappa undefined" if found.kappa is None else f"kappa {_said(found.kappa)}"
    people = [one for one in log.pairs[1:] if one.first in log.annotators and one.kappa is not None]
    said = (
        f"{log.scorer} agrees with the labels on {percent(found.same.value)} of {found.table.n:,} replies "
        f"({interval_words(found.same.interval)}), {kappa}"
    )
    if not people or found.kappa is None:
        return f"{said}."
    least = min(people, key=lambda one: one.kappa.value if one.kappa is not None else 1.0)
    assert least.kappa is not None
    below = found.kappa.interval.high < least.kappa.interval.low
    beside = "less than two people do" if below else "not told from how two people do"
    return f"{said}: {beside} ({least.first} and {least.second}: {_said(least.kappa)})."


def _said(found: Statistic) -> str:
    return f"{decimal(found.value)} ({interval_words(found.interval, 1.0, 2, name='')})"


def _agreement(log: ValidationLog) -> Table:
    rows = tuple(_pair(one) for one in log.pairs)
    strong = tuple(k for k, one in enumerate(log.pairs) if k and one.first in log.annotators)
    return Table("Agreement", ("", "n", "same, % (95 %)", "Cohen's kappa (95 %)"), rows, strong)


def _pair(one: Pairwise) -> tuple[str, ...]:
    kappa = "undefined" if one.kappa is None else shown_number(one.kappa.value, one.kappa.interval)
    return (f"{one.first} and {one.second}", f"{one.table.n:,}", shown_rate(one.same), kappa)


def _confusion(log: ValidationLog) -> Table:
    found = log.agreed.table
    head = ("label", "called yes", "called no", "called right, % (95 %)")
    rows = (
        ("yes", f"{found.true_positives:,}", f"{found.false_negatives:,}", _rate(found.sensitivity)),
        ("no", f"{found.false_positives:,}", f"{found.true_negatives:,}", _rate(found.specificity)),
    )
    side = "below" if log.below else "above"
    return Table(f"Called yes: a score {side} {compact(log.threshold)} ({_unit(log)})", head, rows)


def _rate(found: Rate | None) -> str:
    return "" if found is None else shown_rate(found)


def _bins(log: ValidationLog) -> Table | None:
    if log.reliability is None:
        return None
    rows = tuple(
        (_span(one), f"{one.share.n:,}", decimal(one.score), shown_rate(one.share)) for one in log.reliability.bins
    )
    return Table("Calibration", ("score, of its range", "n", "mean score", "labelled yes, % (95 %)"), rows)


def _span(one: Bin) -> str:
    return f"{decimal(one.low, 1)} to {decimal(one.high, 1)}"


def _wrong(log: ValidationLog, shown: int) -> Table | None:
    wrong = log.wrong
    if not wrong or not shown:
        return None
    whole = any(one.text for one in wrong)
    more = f", the first {shown} of {len(wrong):,}" if len(wrong) > shown else ""
    head = ("reply", "label", "score", *log.annotators, "text" if whole else "begins")
    rows = tuple(_reply(one) for one in wrong[:shown])
    return Table(f"Disagreements, the score farthest from the threshold first{more}", head, rows)


def _reply(one: RatedReply) -> tuple[str, ...]:
    said = tuple("" if word is None else _word(word) for word in one.said)
    return (one.id, _word(one.label), compact(one.score), *said, one.text or one.begins)


def _word(yes: bool) -> str:
    return "yes" if yes else "no"


def _unit(log: ValidationLog) -> str:
    if log.low is None or log.high is None:
        return log.unit
    return f"{log.unit}, {compact(log.low)} to {compact(log.high)}"


def _sentences(log: ValidationLog) -> tuple[str, ...]:
    found, left = log.agreed.table, log.missing
    said = [
        f"Always giving the commoner label would be right on {percent(found.commoner)} (kappa 0).",
        _threshold_words(log),
        _auc_words(log),
        _calibration_words(log),
        f"Left out, since there was nothing to measure: {left:,} of {len(log.replies):,} replies." if left else "",
        f"{log.scorer}: {log.note}" if log.note else "",
        *(f"Note: {note}" for note in log.notes),
    ]
    return tuple(filter(None, said))


def _threshold_words(log: ValidationLog) -> str:
    if log.how == CHOSEN:
        return (
            f"The threshold {compact(log.threshold)} tells these replies apart best; for the figures, that of each "
            "fifth was chosen on the other four."
        )
    if log.how == MIDDLE:
        return f"The threshold {compact(log.threshold)} is the middle of the range; no label had a part in it."
    return ""


def _auc_words(log: ValidationLog) -> str:
    if log.auc is None:
        return "No AUC and no calibration: the scorer says yes or no." if log.reliability is None else ""
    turned = "" if log.auc.interval.high >= 0.5 else "; it ranks the wrong way round: a low score means yes"
    return f"AUC {_said(log.auc)}: how often a reply labelled yes scores higher than one labelled no{turned}."


def _calibration_words(log: ValidationLog) -> str:
    found = log.reliability
    if found is None:
        return ""
    return (
        f"Brier score {shown_number(found.brier.value, found.brier.interval, 3)}, where the share of yes, said of "
        f"every reply, has {decimal(found.commoner, 3)}; expected calibration error {decimal(found.error, 3)}."
    )
