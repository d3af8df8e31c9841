"""The chapter of ``docs/real-models.md`` on what comes out where nothing but a way of writing is given."""

from __future__ import annotations

from collections.abc import Sequence

from behaviours import BEHAVIOURS, DEFAULTS
from measured import Measured

from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.table import Table
from tillerman.reports.numbers import decimal, shown_number
from tillerman.reports.tables import markdown_table

HALF = 0.5
HEAD = (
    "way of writing",
    "chosen",
    "n",
    "unsteered",
    "steered",
    "change (95 %)",
    "prompt, by hand",
    "prompt and steered",
    "few-shot",
    "random",
    "show it, %: unsteered, steered, prompt, both, few-shot",
    "KL, nats",
    "perplexity",
    "repeated, %",
)


def by_defaults(many: Sequence[Measured], names: dict[str, str]) -> str:
    """A table of each model; a behaviour that was not run, or was refused, says so."""
    parts = []
    for model, title in names.items():
        of = {one.behaviour: one for one in many if (one.model, one.method) == (model, DEFAULTS)}
        if not of:
            parts += [f"{title}: not run."]
            continue
        written = [name for name, b in BEHAVIOURS.items() if b.kind == "written"]
        rows = tuple((name, *_row(of.get(name))) for name in written)
        shown = [name for name in written if name in of and _share(of[name].log, "steered") >= HALF]
        parts += [
            f"{title}: half of the replies or more show it in {len(shown)} of {len(of)} ways of writing"
            f"{': ' if shown else ''}{', '.join(shown)}.",
            markdown_table(Table("", HEAD, tuple((*row, *("",) * (len(HEAD) - len(row))) for row in rows))),
        ]
    return "\n\n".join(parts) + "\n"


def _share(log: EvaluationLog | None, condition: str) -> float:
    one = None if log is None or log.written is None else log.written.condition(condition)
    return 0.0 if one is None or one.shown is None else one.shown.value


def _row(one: Measured | None) -> tuple[str, ...]:
    if one is None:
        return ("not run",)
    log = one.log
    if log is None or log.written is None or not log.written.conditions:
        return (f"refused: {one.refused or 'no scorer'}",)
    of = {c.name: c for c in log.written.conditions}
    score = {name: decimal(c.score.value) for name, c in of.items() if c.score is not None}
    percent = {name: decimal(100 * c.shown.value, 0) for name, c in of.items() if c.shown is not None}
    again = {name: decimal(100 * c.repetition, 0) for name, c in of.items()}
    steered, plain = of.get("steered"), of["unsteered"].score
    moved = steered.change if steered is not None else None
    side = log.side_effects
    return (
        f"`{log.method}`, {log.hook_point}, {decimal(log.dose, 3)}" if log.strength else "abstains",
        str(plain.n) if plain is not None else "0",
        score.get("unsteered", ""),
        score.get("steered", ""),
        "" if moved is None else shown_number(moved.value, moved.interval, signed=True),
        *(score.get(name, "") for name in ("prompt", "both", "icl", "null:random")),
        ", ".join(percent.get(name, "none") for name in ("unsteered", "steered", "prompt", "both", "icl")),
        decimal(side.kl, 2) if log.strength else "",
        f"{decimal(side.perplexity_ratio)} ×" if log.strength else "",
        f"{again['unsteered']} to {again.get('steered', again['unsteered'])}",
    )
