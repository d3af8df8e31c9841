"""Where a behaviour of a model stands: does a vector do it, does a prompt do it better, or does nothing?"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from measured import Measured

from tillerman.logs.evaluation import EvaluationLog
from tillerman.reports.bias import only_bias

MORE_REPEATED = 0.3  # of a reply's runs of words than in the unsteered model's: above it a vector makes loops


class Standing(StrEnum):
    VECTOR = "a vector does more than the prompt"
    BOTH = "a vector does it, and nothing shows that the prompt does less or more"
    PROMPT = "a vector does it, and the prompt does more"
    PROMPT_ALONE = "the prompt does it, and no vector that was tried"
    NOTHING = "neither a vector nor the prompt does it"


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
    low, high = lead(best.log)
    found = Standing.VECTOR if low > 0 else Standing.PROMPT if high < 0 else Standing.BOTH
    return found, best


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
    if is_written(log):
        told = log.written.condition("prompt") if log.written is not None else None
        return told is not None and told.change is not None and told.change.found
    return any(c.name == "prompt" and c.effect is not None and c.effect.found for c in log.conditions)


def changed(log: EvaluationLog) -> float:
    steered = log.written.condition("steered") if log.written is not None else None
    return log.effect.value if steered is None or steered.change is None else steered.change.value


def lead(log: EvaluationLog) -> tuple[float, float]:
    """The interval of steered minus prompted; open where there is none."""
    if is_written(log) and log.written is not None:
        told = log.written.condition("prompt")
        found = None if told is None or told.lead is None else told.lead.interval
    else:
        leads = [c.lead.interval for c in log.conditions if c.name == "prompt" and c.lead is not None]
        found = leads[0] if leads else None
    return (float("-inf"), float("inf")) if found is None else (found.low, found.high)
