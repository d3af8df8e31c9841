"""What a model makes of data before a fit, in findings and lines. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tillerman.core.finding import Finding
from tillerman.logs.evidence import FirstLook, ItemResult
from tillerman.reports.numbers import decimal, interval_words, percent

LOPSIDED = 0.85  # the share of one answer from which on a model says it to nearly everything
_EXCESS = 0.15  # by which it says it more often than it is right
_CHANCE = 0.5


def look_findings(look: FirstLook) -> tuple[Finding, ...]:
    """Whether the unsteered model says one thing to nearly everything, and whether its log-odds tell items apart."""
    if look.unsteered is None:
        return ()
    return (_rates(look), *_discrimination(look))


def _rates(look: FirstLook) -> Finding:
    assert look.unsteered is not None
    rates = look.unsteered.rates
    name = max(rates, key=lambda one: rates[one])
    given, right = rates[name], look.right.get(name, 0.0)
    words = f"unsteered, {_called(look, name)} is given to {percent(given, 0)} of {look.n} items (right for "
    words += f"{percent(right, 0)})"
    if given < LOPSIDED or given - right < _EXCESS:
        return Finding("answer-bias", "ok", words, given, LOPSIDED)
    remedy = (
        "calibrated choices (--calibrate) take this bias away"
        if look.answers in ("letter", "answer")
        else "the whole answers' likelihood favours it; answers of equal length would not"
    )
    return Finding(
        "answer-bias",
        "warning",
        f"{words}: any push away from it gains accuracy, whatever it is about; {remedy}",
        given,
        LOPSIDED,
    )


def _discrimination(look: FirstLook) -> tuple[Finding, ...]:
    assert look.unsteered is not None
    area = look.unsteered.auc
    if area is None:
        message = "one answer is right for all items, so what the model tells apart cannot be told from what it prefers"
        return (Finding("discrimination", "warning", message),)
    if look.interval is None:
        message = f"AUC {decimal(area)}: too few items of each right answer for an interval"
        return (Finding("discrimination", "note", message, area, _CHANCE),)
    words = f"AUC {decimal(area)} ({interval_words(look.interval, 1, 2)}, n = {look.n})"
    if look.interval.low > _CHANCE:
        return (Finding("discrimination", "ok", f"the log-odds tell right answers apart: {words}", area, _CHANCE),)
    if look.interval.high < _CHANCE:
        message = f"unsteered, the log-odds point to the wrong answers: {words}"
        return (Finding("discrimination", "note", message, area, _CHANCE),)
    message = f"unsteered, the log-odds do not tell right answers apart: {words}; a gain may be a shift of the answers"
    return (Finding("discrimination", "warning", f"{message} alone, see the AUC in the report", area, _CHANCE),)


def _called(look: FirstLook, name: str) -> str:
    return f"the {name} option" if look.answers == "length" else repr(name)


def item_lines(items: Sequence[ItemResult], seen_by: str) -> tuple[str, ...]:
    """Each item as it is seen, line by line, with its options and what is right."""
    lines = []
    for number, item in enumerate(items, start=1):
        lines += [f"Item {number} of {len(items)}, {seen_by}:", *(f"  {line}" for line in item.question.split("\n"))]
        options = f"options: {' | '.join(item.options)}; " if item.options else ""
        said = "".join(f"; {one.condition}: {one.given or 'no answer'}" for one in item.answers)
        lines.append(f"  {options}right: {item.right}{said}")
    return tuple(lines)
