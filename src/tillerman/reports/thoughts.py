"""What a log of thoughts says: its tables and sentences. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tillerman.logs.conditions import STEERED, ConditionName, condition_label
from tillerman.logs.table import Table
from tillerman.logs.thoughts import Mean, Thinking, ThoughtLog
from tillerman.reports.account import Account
from tillerman.reports.numbers import briefly, compact, shown, shown_number, shown_rate


def account(log: ThoughtLog) -> Account:
    heading = f"{log.data_name}, {log.n} test items, model {log.model_id}"
    conditions = _table(log.conditions, "Under each condition")
    curve = _table(log.curve, "The vector at other strengths")
    return Account(heading, (conditions, curve), sentences(log), verdict(log))


def _table(rows: Sequence[Thinking], title: str) -> Table:
    head = (
        "condition",
        "strength",
        "thought, tokens (95 %)",
        "change, tokens (95 %)",
        "without repeats (95 %)",
        "right, % (95 %)",
        "change, pp (95 %)",
        "unended, % (95 %)",
    )
    made = tuple(
        (
            condition_label(row.name),
            compact(row.strength),
            shown_number(row.length.value, row.length.interval, 1),
            "" if row.change is None else _tokens(row.change),
            shown_number(row.stripped.value, row.stripped.interval, 1),
            "" if row.right is None else shown_rate(row.right),
            "" if row.effect is None else shown(row.effect),
            shown_rate(row.unfinished),
        )
        for row in rows
    )
    return Table(title, head, made)


def sentences(log: ThoughtLog) -> tuple[str, ...]:
    system = "" if log.system is None else f", under the system prompt {log.system!r}"
    told = next((one.detail for one in log.conditions if one.name == ConditionName.PROMPT), "")
    dose = f"strength {compact(log.strength)} (dose {compact(log.dose)})"
    return (
        f"{log.method} at {log.hook_point}, {dose}, scope {log.scope}{system}; replies of at most {log.limit} tokens",
        f"Prompt baseline: {told or 'no fair prompt was given or found; give one with --prompt'}",
        *(f"Note: {note}" for note in log.notes),
    )


def verdict(log: ThoughtLog) -> str:
    """Whether thoughts are longer or shorter, and how the answers change."""
    row = log.condition(STEERED)
    assert row.change is not None  # compared with unsteered
    low, high = row.change.interval.low, row.change.interval.high
    numbers = f"{_tokens(row.change)} tokens, n = {row.change.n}"
    said = f"Thoughts are shorter: {numbers}" if high < 0 else f"Thoughts are longer: {numbers}"
    if low <= 0 <= high:
        said = f"No change detected in the length of thoughts: {numbers}"
    return f"{said}." if row.effect is None else f"{said}; right answers {briefly(row.effect)}."


def _tokens(mean: Mean) -> str:
    return shown_number(mean.value, mean.interval, 1, signed=True)
