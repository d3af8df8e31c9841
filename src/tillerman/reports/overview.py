"""Several behaviours on one screen: what the demo prints. Pure."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence

from tillerman.logs.conditions import STEERED, UNSTEERED, ConditionName
from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.table import Table
from tillerman.logs.verdict import OUTCOMES
from tillerman.reports.account import Account
from tillerman.reports.numbers import decimal, shown, shown_number
from tillerman.reports.verdict import judge_log

_BESIDE = (ConditionName.PROMPT, ConditionName.ICL, ConditionName.RANDOM)
_LONGEST = 120  # characters of a reply


def account(logs: Sequence[EvaluationLog]) -> Account:
    models = ", ".join(dict.fromkeys(log.model_id for log in logs))
    tables = (_effects(logs), _controls(logs), *(table for table in (_written(logs), _texts(logs)) if table.rows))
    return Account(f"Steering {models}: held-out test items", tables, (), verdict_counts(logs))


def verdict_counts(logs: Sequence[EvaluationLog]) -> str:
    """``Verdicts: 3 good, 1 mixed (risk-seeking), 1 bad (...).``"""
    judged = {log.data_name: judge_log(log).outcome for log in logs}
    counts = Counter(judged.values())
    said = []
    for outcome in filter(counts.__getitem__, OUTCOMES):
        names = ", ".join(name for name, found in judged.items() if found == outcome)
        said.append(f"{counts[outcome]} {outcome}" + ("" if outcome == "good" else f" ({names})"))
    return f"Verdicts: {', '.join(said)}."


def _effects(logs: Sequence[EvaluationLog]) -> Table:
    rows = []
    for log in logs:
        rates = {c.name: decimal(100 * c.rate.value, 0) for c in log.conditions}
        rows.append(
            (
                log.data_name,
                f"{rates[UNSTEERED]} → {rates[STEERED]}",
                shown(log.effect, 0),
                rates.get(ConditionName.PROMPT, ""),
                rates.get(ConditionName.ICL, ""),
                judge_log(log).outcome,
            )
        )
    head = ("behaviour", "right, %", "effect, pp (95 %)", "prompt, %", "few-shot, %", "verdict")
    return Table("Effect, and the baselines on the same items", head, tuple(rows))


def _controls(logs: Sequence[EvaluationLog]) -> Table:
    rows = []
    for log in logs:
        effects = {c.name: shown(c.effect, 0) for c in log.conditions if c.effect is not None}
        rows.append(
            (
                log.data_name,
                log.method,
                effects.get(ConditionName.RANDOM, ""),
                effects.get(ConditionName.SHUFFLED, ""),
                decimal(log.side_effects.perplexity_ratio, 1),
            )
        )
    head = ("behaviour", "method", "random null, pp (95 %)", "shuffled null, pp (95 %)", "ppl ×")
    return Table("Its controls, which must show no effect, and its cost", head, tuple(rows))


def _written(logs: Sequence[EvaluationLog]) -> Table:
    """What the replies score, of behaviours whose replies were read."""
    rows = []
    for log in logs:
        of = {} if log.written is None else {c.name: c for c in log.written.conditions}
        if STEERED not in of:
            continue
        score = {name: decimal(one.score.value) for name, one in of.items() if one.score is not None}
        share = {name: decimal(100 * one.shown.value, 0) for name, one in of.items() if one.shown is not None}
        change, none = of[STEERED].change, ""
        rows.append(
            (
                log.data_name,
                f"{score.get(UNSTEERED, none)} → {score.get(STEERED, none)}",
                "" if change is None else shown_number(change.value, change.interval, signed=True),
                *(score.get(name, none) for name in _BESIDE),
                *(share.get(name, none) for name in (STEERED, ConditionName.PROMPT)),
            )
        )
    beside = ("prompt", "few-shot", "random")
    head = ("behaviour", "score", "change (95 %)", *beside, "steered: show it, %", "prompt: show it, %")
    return Table("Written replies: mean score, 0 to 1, by a scorer made of the labels", head, tuple(rows))


def _texts(logs: Sequence[EvaluationLog]) -> Table:
    """The replies to the first prompt of each behaviour side by side."""
    rows = []
    for log in logs:
        of = {} if log.written is None else {c.name: c for c in log.written.conditions}
        if log.written is None or STEERED not in of or not log.written.prompts:
            continue
        said = (of[name].replies[0] if name in of else "" for name in (UNSTEERED, STEERED, ConditionName.PROMPT))
        rows.append((log.data_name, log.written.prompts[0], *(_first_words(text) for text in said)))
    return Table("Texts side by side", ("behaviour", "question", "unsteered", "steered", "prompt"), tuple(rows))


def _first_words(text: str) -> str:
    return textwrap.shorten(text, _LONGEST, placeholder=" ...")
