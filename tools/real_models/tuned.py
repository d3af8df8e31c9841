"""The model fine-tuned on the rows that vectors are made of, on the same test prompts or items."""

from __future__ import annotations

from collections.abc import Sequence

from behaviours import BEHAVIOURS
from measured import Measured

from tillerman.logs.evidence import WrittenCondition
from tillerman.logs.table import Table
from tillerman.reports.numbers import decimal, shown, shown_number, shown_rate
from tillerman.reports.tables import markdown_table

TUNED = "lora"
_TITLE = "The model fine-tuned on the training rows (LoRA, rank 8, three epochs), on the same test prompts or items:"
_HEAD = ("behaviour", "n", "unsteered", "fine-tuned", "change", "show it, %: unsteered, fine-tuned")


def fine_tuned(mine: Sequence[Measured]) -> str:
    """A title and a table; empty where no log holds it. Of each behaviour the first log that does."""
    rows = []
    for name in BEHAVIOURS:
        found = (row for one in mine if one.behaviour == name if (row := _row(one)) is not None)
        rows += [(name, *row) for row in [next(found, None)] if row is not None]
    return f"{_TITLE}\n\n{markdown_table(Table('', _HEAD, tuple(rows)))}" if rows else ""


def written_after(mine: Sequence[Measured], behaviour: str) -> WrittenCondition | None:
    """What the fine-tuned model writes, of the first log that holds it."""
    written = (one.log.written for one in mine if one.behaviour == behaviour and one.log is not None)
    found = (one.condition(TUNED) for one in written if one is not None)
    return next((one for one in found if one is not None), None)


def shown_after(mine: Sequence[Measured], least: float) -> list[str]:
    """Ways of writing that so large a share of the fine-tuned model's replies show."""
    found = {name: written_after(mine, name) for name in BEHAVIOURS}
    return [name for name, one in found.items() if one and one.shown and one.shown.value >= least]


def is_held(mine: Sequence[Measured]) -> bool:
    return any(_row(one) is not None for one in mine)


def _row(one: Measured) -> tuple[str, ...] | None:
    if one.log is None:
        return None
    if BEHAVIOURS[one.behaviour].kind == "answered":
        of = {c.name: c for c in one.log.conditions}
        if TUNED not in of or of[TUNED].effect is None:
            return None
        rates = (shown_rate(of[name].rate) for name in ("unsteered", TUNED))
        return (str(one.log.n_test), *rates, shown(of[TUNED].effect), "")
    written = one.log.written
    plain, tuned = (None if written is None else written.condition(name) for name in ("unsteered", TUNED))
    if plain is None or tuned is None or plain.score is None or tuned.score is None or tuned.change is None:
        return None
    scores = (shown_number(one.score.value, one.score.interval) for one in (plain, tuned) if one.score is not None)
    shares = ", ".join("none" if one.shown is None else decimal(100 * one.shown.value, 0) for one in (plain, tuned))
    return (str(tuned.score.n), *scores, shown_number(tuned.change.value, tuned.change.interval, signed=True), shares)
