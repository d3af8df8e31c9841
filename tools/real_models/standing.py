"""Where a behaviour of a model stands: does a vector do it, do a prompt or exemplars do it better, or does nothing?"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from measured import Measured

from tillerman.logs.evaluation import EvaluationLog
from tillerman.reports.bias import only_bias
from tillerman.statistics.values import Interval

RIVALS = ("prompt", "icl")
MORE_REPEATED = 0.3  # of a reply's runs of words than in the unsteered model's: above it a vector makes loops


class Standing(StrEnum):
    VECTOR = "a vector does more than the prompt and exemplars"
    BOTH = "a vector does it, and nothing shows that prompt or exemplars do less or more"
    PROMPT = "a vector does it, and the prompt or exemplars do more"
    PROMPT_ALONE = "the prompt or exemplars do it, and no vector that was tried"
    NOTHING = "neither a vector nor prompt nor exemplars do it"


def standing(many: Sequence[Measured]) -> tuple[Standing, Measured | None] | None:
    """Of one behaviour of one model, with the vector that does it and changes most; None of no logs."""
    logs = [one for one in many if one.log is not None]
    if not logs:
        return None
    first = logs[0].log
    assert first is not None
    working = [one for one in logs if one.log is not None and works(one.log)]
    if not working:
        return (Standing.PROMPT_ALONE if prompt_works(first) else Standing.NOTHING), None
    best = max(working, key=lambda one: changed(one.log) if one.log is not None else 0.0)
    assert best.log is not None
    found = leads(best.log)
    if any(one.high < 0 for one in found):
        return Standing.PROMPT, best
    return (Standing.VECTOR if found and all(one.low > 0 for one in found) else Standing.BOTH), best


def by_validation(many: Sequence[Measured]) -> Measured | None:
    """The method whose chosen cell did best on the validation items, of those that took the data: the first of equals.
    None of no logs. Test items have no say in it."""
    logs = [one for one in many if one.log is not None]
    return max(logs, key=_on_validation, default=None)


def _on_validation(one: Measured) -> float:
    cell = None if one.log is None else one.log.chosen
    if cell is None:
        return float("-inf")
    return cell.score if cell.written is None else cell.written


def is_written(log: EvaluationLog) -> bool:
    return log.written is not None and bool(log.written.conditions)


def works(log: EvaluationLog) -> bool:
    """Written: more like the wanted answers, beyond random directions, and no loops. Answered: more answers right, by
    more than a shift of the answer's bias, and beyond both controls."""
    if log.strength == 0:
        return False
    if not is_written(log):
        nulls = [c.effect.value for c in log.conditions if c.name.startswith("null:") and c.effect is not None]
        return log.effect.found and not only_bias(log) and max(nulls, default=0.0) < log.effect.value / 2
    assert log.written is not None
    plain, steered, null = (log.written.condition(name) for name in ("unsteered", "steered", "null:random"))
    if plain is None or steered is None or steered.change is None or not steered.change.found:
        return False
    random = 0.0 if null is None or null.change is None else null.change.value
    return random < steered.change.value / 2 and steered.repetition <= plain.repetition + MORE_REPEATED


def prompt_works(log: EvaluationLog) -> bool:
    """The prompt or the exemplars."""
    if is_written(log) and log.written is not None:
        changes = [c.change for c in log.written.conditions if c.name in RIVALS]
        return any(change is not None and change.found for change in changes)
    return any(c.name in RIVALS and c.effect is not None and c.effect.found for c in log.conditions)


def changed(log: EvaluationLog) -> float:
    steered = log.written.condition("steered") if log.written is not None else None
    return log.effect.value if steered is None or steered.change is None else steered.change.value


def leads(log: EvaluationLog) -> list[Interval]:
    """The intervals of steered minus prompted and minus few-shot, those that there are."""
    if is_written(log) and log.written is not None:
        written = [c.lead for c in log.written.conditions if c.name in RIVALS]
        return [one.interval for one in written if one is not None]
    return [c.lead.interval for c in log.conditions if c.name in RIVALS and c.lead is not None]
