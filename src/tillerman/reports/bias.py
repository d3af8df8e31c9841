"""What an evaluation says of discrimination and criterion, in a table and in sentences. Pure."""

from __future__ import annotations

from tillerman.logs.conditions import STEERED, condition_label
from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.evidence import Bias
from tillerman.logs.table import Table
from tillerman.reports.numbers import briefly, decimal, percent, points, shown_number, shown_p, span
from tillerman.statistics.values import Interval

_ALPHA = 0.05  # after Holm's adjustment
_SHARE = 0.5  # of the effect: where a shift of the answers leaves less, it is most of it
_BY = {"letter": "letter", "answer": "answer word", "length": "length"}


def bias_table(log: EvaluationLog) -> Table:
    """Discrimination and criterion of every condition whose answers were scored."""
    bias = log.bias
    if bias is None:
        return Table("", ("condition",), ())
    names = list(bias.conditions[0].rates)
    rows = tuple(
        (
            condition_label(one.condition),
            decimal(one.auc, 3),
            decimal(one.d_prime),
            *(decimal(100 * one.rates.get(name, 0.0), 1) for name in names),
        )
        for one in bias.conditions
    )
    strong = tuple(i for i, one in enumerate(bias.conditions) if one.condition == STEERED)
    head = ("condition", "AUC", "d′", *(f"gives {name}, %" for name in names))
    title = f"Discrimination (AUC, d′) and criterion (answers given), by {_BY.get(bias.answers, bias.answers)}"
    return Table(title, head, rows, strong)


def bias_words(log: EvaluationLog) -> str:
    """The change in discrimination and in criterion, and the items moved the wrong way; empty where answers were not
    scored."""
    bias = log.bias
    if bias is None:
        return ""
    parts = [f"Discrimination: {_change(bias)}", f"criterion: {criterion_words(bias)}"]
    wrong = _with_interval(percent(bias.moved_wrong, 0), bias.wrong_interval)
    parts.append(f"{wrong} of the items moved the wrong way (log-odds of the right answer fell)")
    if bias.slope is not None and bias.slope_wrong is not None:
        slope, ends = decimal(bias.slope, 2, signed=True), bias.slope_interval
        slope += f" ({span(ends, 1.0, 2, signed=True)})" if ends is not None else ""
        parts.append(
            f"over the dose curve the log-odds change by {slope} nats per unit of dose, on average, and fall for "
            f"{_with_interval(percent(bias.slope_wrong, 0), bias.slope_wrong_interval)} of the items"
        )
    if apart := _who(bias):
        parts.append(apart)
    if bias.beyond is not None:
        shift = points(log.effect.value - bias.beyond.value)
        parts.append(
            f"the unsteered answers, shifted by a constant until each is given as often as under steering, gain {shift}"
        )
    return "; ".join(parts) + "."


def moved_wrong_table(log: EvaluationLog) -> Table:
    """Who moved the wrong way; no rows where nothing is known of the items."""
    found = () if log.bias is None else log.bias.wrong_by
    rows = tuple(
        (one.field, one.value, str(one.n), percent(one.share, 0), span(one.interval, places=0), shown_p(one.p_value))
        for one in found
    )
    strong = tuple(k for k, one in enumerate(found) if one.p_value < _ALPHA)
    head = ("field", "value", "n", "wrong way", "95 %", "p (Fisher, Holm)")
    return Table("Items moved the wrong way, by what is known of them", head, rows, strong)


def _who(bias: Bias) -> str:
    """The values whose items moved the wrong way more often than the others; empty where no field tells."""
    found = [one for one in bias.wrong_by if one.p_value < _ALPHA and one.share > bias.moved_wrong]
    named = [f"{one.field} {one.value!r} ({percent(one.share, 0)} of {one.n})" for one in found]
    return f"more often than the others: {', '.join(named)}" if named else ""


def _with_interval(share: str, interval: Interval | None) -> str:
    return f"{share} ({span(interval, places=0)})" if interval is not None and interval.known else share


def only_bias(log: EvaluationLog) -> str:
    """Why an effect is only a shift of the answer's bias; empty where there is no effect, where it is more, and where
    the items cannot tell.

    Three things together: the interval of the change in AUC includes 0 or lies below; a constant added to the
    unsteered model's log-odds, so that it gives each answer as often as under steering, gains more than half of the
    effect; and it does so for each right answer alike (balanced)."""
    bias = log.bias
    if bias is None or not log.effect.found or bias.change is None or bias.beyond is None:
        return ""
    if bias.change.interval.low > 0 or max(bias.beyond.value, bias.beyond.balanced) >= _SHARE * log.effect.value:
        return ""
    gained = points(log.effect.value - bias.beyond.value)
    return (
        f"it is a shift of the answer's bias: {criterion_words(bias)}, discrimination is unchanged "
        f"({_change(bias)}), and a constant shift of the unsteered answers gains {gained}; beyond it "
        f"{briefly(bias.beyond)} remains"
    )


def criterion_words(bias: Bias) -> str:
    """The answer whose rate moved most: ``Yes is given to 64 % of the items instead of 12 %``."""
    before, after = bias.conditions[0].rates, bias.condition(STEERED).rates
    name = max(before, key=lambda one: after.get(one, 0.0) - before[one])
    given = f"the {name} option" if bias.answers == "length" else name
    return f"{given} is given to {percent(after.get(name), 0)} of the items instead of {percent(before[name], 0)}"


def _change(bias: Bias) -> str:
    before, after = bias.conditions[0].auc, bias.condition(STEERED).auc
    if before is None:
        return "not to be told, since the same answer is right for all items"
    if after is None:
        return "gone, the steered model gives scores that are no numbers"
    levels = f"AUC {decimal(before, 3)} to {decimal(after, 3)}"
    if bias.change is None:
        return f"{levels}, too few items of each right answer for an interval"
    return f"{levels}, change {shown_number(bias.change.value, bias.change.interval, 3, signed=True)}"
