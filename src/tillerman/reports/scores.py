"""What a log of scored replies says: a table per scorer, and sentences. Pure."""

from __future__ import annotations

import math

from tillerman.logs.conditions import ConditionName, condition_label
from tillerman.logs.scores import JudgeAgreement, ScoreLog, ScorerResult, ScorerRow
from tillerman.logs.table import Table
from tillerman.reports.account import Account
from tillerman.reports.numbers import compact, decimal, shown_number
from tillerman.statistics.agreement import Statistic

_HEAD = ("condition", "dose", "n", "left out", "mean (95 %)", "change (95 %)")


def account(log: ScoreLog) -> Account:
    return Account(heading(log), tuple(_table(log, one) for one in log.scored), sentences(log))


def heading(log: ScoreLog) -> str:
    size = f"{len(log.prompts)} prompts, {log.samples} replies each of at most {log.tokens} tokens"
    where = f"{log.method} at {log.hook_point}, scope {log.scope}, model {log.model_id}"
    return f"{where}; {size}, temperature {compact(log.temperature)}, seed {log.seed}"


def _table(log: ScoreLog, one: ScorerResult) -> Table:
    places = _places(one)
    return Table(_title(one), _HEAD, tuple(_row(log, row, places) for row in one.rows))


def _row(log: ScoreLog, row: ScorerRow, places: int) -> tuple[str, ...]:
    spoken, figure, moved = log.conditions[row.condition], row.figure, row.change
    return (
        condition_label(spoken.name),
        decimal(spoken.dose),
        "0" if figure is None else f"{figure.n}" if figure.of == "prompts" else f"{figure.n} {figure.of}",
        "all" if figure is None else str(figure.missing or ""),
        "" if figure is None else shown_number(figure.value, figure.interval, places),
        "" if moved is None else shown_number(moved.value, moved.interval, places, signed=True),
    )


def _title(one: ScorerResult) -> str:
    low, high = ("none" if end is None else compact(end) for end in (one.low, one.high))
    bounds = "unbounded" if one.low is None and one.high is None else f"{low} to {high}"
    if one.low is not None and one.high is None:
        bounds = f"{low} or more"
    better = "" if one.better == "neither" else f", {one.better} is better"
    return f"{one.scorer} ({one.unit}, {bounds}{better})"


def _places(one: ScorerResult) -> int:
    """Decimals that leave the largest figure three digits."""
    largest = max((abs(row.figure.value) for row in one.rows if row.figure is not None), default=1.0)
    return min(4, max(0, 2 - math.floor(math.log10(largest)))) if largest > 0 else 3


def sentences(log: ScoreLog) -> tuple[str, ...]:
    system = next((c.detail for c in log.conditions if c.name == ConditionName.PROMPT), "")
    return (
        f"Prompt baseline: {system or 'no fair prompt was given; give one with --prompt'}",
        "Intervals are over prompts, those of the null over its draws; changes are paired with unsteered.",
        *(f"{one.scorer}: {one.note}" for one in log.scored if one.note),
        *(_agreed(one) for one in log.agreements),
        *(f"Note: {note}" for note in log.notes),
    )


def _agreed(one: JudgeAgreement) -> str:
    a = one.agreement
    kappa = "undefined (all ratings of a side are the same)" if a.kappa is None else _mean(a.kappa)
    return (
        f"Judge's {one.rubric}, rated twice: weighted kappa {kappa}, mean difference {_mean(a.difference)}, "
        f"n = {a.n}, left out {a.missing}"
    )


def _mean(figure: Statistic) -> str:
    return shown_number(figure.value, figure.interval)
