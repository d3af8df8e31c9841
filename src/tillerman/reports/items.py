"""The test items one by one: what steering changed, as rows of a page and as flat rows of a file. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tillerman.logs.conditions import STEERED, UNSTEERED, condition_label
from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.evidence import ItemAnswer, ItemResult
from tillerman.reports.numbers import decimal

# Wrong before and right now, right before and wrong now, another wrong answer, the same answer: as a page sorts them.
OUTCOMES = ("gained", "lost", "flipped", "same")
MOST = 300  # rows of a page
_LONGEST = 1500  # characters of one text on a page


@dataclass(frozen=True)
class ItemRow:
    """One item of a page's table. ``answers`` are words and whether they are right, a pair for each condition."""

    outcome: str
    question: str
    options: tuple[str, ...]
    right: str
    answers: tuple[tuple[str, bool], ...]
    change: str


@dataclass(frozen=True)
class ItemsView:
    """The items that a page shows, those that changed first; ``left_out`` says how many it does not show."""

    conditions: tuple[str, ...]
    rows: tuple[ItemRow, ...]
    counts: tuple[tuple[str, int], ...]
    left_out: str


def outcome(item: ItemResult) -> str:
    """What steering did to an item; the same where it was not asked both ways."""
    before, after = answer_of(item, UNSTEERED), answer_of(item, STEERED)
    if before is None or after is None or (before.given == after.given and before.right == after.right):
        return "same"
    if before.right == after.right:
        return "flipped"
    return "gained" if after.right else "lost"


def answer_of(item: ItemResult, condition: str) -> ItemAnswer | None:
    return next((one for one in item.answers if one.condition == condition), None)


def log_odds(item: ItemResult, condition: str) -> float | None:
    """Of the right answer against all others, in nats; None where options were not scored or the model was broken."""
    answer = answer_of(item, condition)
    scores = () if answer is None else answer.logprobs
    place = right_place(item)
    if place is None or len(scores) < 2 or len(scores) != len(item.options) or not np.isfinite(scores).all():
        return None
    others = [score for k, score in enumerate(scores) if k != place]
    return float(scores[place] - np.logaddexp.reduce(others))


def right_place(item: ItemResult) -> int | None:
    """Which option is right: the one that is the right answer, or that has its letter."""
    found = (k for k, option in enumerate(item.options) if option == item.right or option.startswith(f"{item.right}: "))
    return next(found, None)


def moved(item: ItemResult) -> float | None:
    """Change of the right answer's log-odds under steering, in nats."""
    before, after = log_odds(item, UNSTEERED), log_odds(item, STEERED)
    return None if before is None or after is None else after - before


def items_view(log: EvaluationLog, most: int = MOST) -> ItemsView:
    """At most ``most`` items: gained, lost and flipped ones first, those whose log-odds moved most before others."""
    order = sorted(log.items, key=lambda item: (OUTCOMES.index(outcome(item)), -abs(moved(item) or 0.0)))
    conditions = conditions_of(log.items)
    counts = [(name, sum(outcome(item) == name for item in log.items)) for name in OUTCOMES]
    rest = len(order) - most
    left_out = f"{rest} of {len(order)} items are left out here; --samples FILE writes all of them." if rest > 0 else ""
    rows = tuple(_row(item, conditions) for item in order[:most])
    return ItemsView(tuple(map(condition_label, conditions)), rows, tuple(counts), left_out)


def conditions_of(items: Sequence[ItemResult]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(one.condition) for item in items for one in item.answers))


def flat_rows(items: Sequence[ItemResult]) -> list[dict[str, Any]]:
    """A row of plain values for each item, every row with the same keys: three of each condition, and what changed."""
    conditions, rows = conditions_of(items), []
    fields = sorted({name for item in items for name in item.fields})
    for item in items:
        row: dict[str, Any] = {
            "id": item.id,
            "question": item.question,
            "options": list(item.options),
            "right": item.right,
            "outcome": outcome(item),
            "log_odds_change": moved(item),
            "slope": item.slope,
            **{f"field {name}": item.fields.get(name) for name in fields},
        }
        for name in conditions:
            answer = answer_of(item, name)
            row[name] = None if answer is None else answer.given
            row[f"{name}_right"] = None if answer is None else answer.right
            row[f"{name}_logprobs"] = None if answer is None else list(answer.logprobs)
        rows.append(row)
    return rows


def _row(item: ItemResult, conditions: Sequence[str]) -> ItemRow:
    answers = [answer_of(item, name) for name in conditions]
    return ItemRow(
        outcome=outcome(item),
        question=_cut(item.question),
        options=tuple(map(_cut, item.options)),
        right=_cut(item.right),
        answers=tuple(("", False) if one is None else (_cut(one.given) or "no answer", one.right) for one in answers),
        change=decimal(moved(item), 2, signed=True),
    )


def _cut(text: str) -> str:
    """The ends of a long text: a question may stand behind many exemplars."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST // 3]} … ({len(text) - _LONGEST} characters) … {text[-(_LONGEST - _LONGEST // 3) :]}"
