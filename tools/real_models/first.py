"""What README shows of a real model: ways of writing under the method that validation prompts took, of those run."""

from __future__ import annotations

from collections.abc import Sequence

from behaviours import BEHAVIOURS, DEFAULTS
from measured import Measured
from standing import by_validation, is_written
from tuned import TUNED, written_after

from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.evidence import WrittenCondition
from tillerman.logs.table import Table
from tillerman.reports.numbers import decimal, shown_number
from tillerman.reports.tables import markdown_table

SHOWN = "smollm2"


def taken(many: Sequence[Measured]) -> list[Measured]:
    """Of every way of writing the method that its validation prompts took."""
    found = [
        by_validation([one for one in many if (one.model, one.behaviour) == (SHOWN, name) and one.method != DEFAULTS])
        for name, b in BEHAVIOURS.items()
        if b.kind == "written"
    ]
    return [one for one in found if one is not None and one.log is not None and is_written(one.log)]


def first_table(many: Sequence[Measured]) -> str:
    head = (
        "way of writing",
        "method",
        "unsteered",
        "steered",
        "change (95 %)",
        "prompt",
        "few-shot",
        "fine-tuned",
        "random",
        "show it, %: steered, prompt, few-shot, fine-tuned",
        "KL, nats",
    )
    mine = [one for one in many if one.model == SHOWN]
    rows = tuple(_row(one, one.log, written_after(mine, one.behaviour)) for one in taken(many) if one.log is not None)
    return markdown_table(Table("", head, rows)) + "\n"


def _row(one: Measured, log: EvaluationLog, tuned: WrittenCondition | None) -> tuple[str, ...]:
    """What fine-tuning on the same rows makes is in the log of one method, for all."""
    assert log.written is not None
    of = {c.name: c for c in (*log.written.conditions, *([tuned] if tuned else []))}
    score = {name: decimal(c.score.value) for name, c in of.items() if c.score is not None}
    share = {name: decimal(100 * c.shown.value, 0) for name, c in of.items() if c.shown is not None}
    change = of["steered"].change if "steered" in of else None
    moved = "" if change is None else shown_number(change.value, change.interval, signed=True)
    shares = ", ".join(share.get(name, "none") for name in ("steered", "prompt", "icl", TUNED))
    return (
        one.behaviour,
        f"`{one.method}`",
        score.get("unsteered", ""),
        score.get("steered", "abstains"),
        moved,
        *(score.get(name, "") for name in ("prompt", "icl")),
        score.get(TUNED, "not run"),
        score.get("null:random", ""),
        shares,
        decimal(log.side_effects.kl) if log.strength else "",
    )
