"""Several behaviours on one screen: what the demo prints. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tillerman.logs.conditions import STEERED, UNSTEERED, ConditionName
from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.table import Table
from tillerman.logs.verdict import OUTCOMES
from tillerman.reports.account import Account
from tillerman.reports.numbers import decimal, shown
from tillerman.reports.verdict import judge_log


def account(logs: Sequence[EvaluationLog]) -> Account:
    models = ", ".join(dict.fromkeys(log.model_id for log in logs))
    return Account(
        f"Steering {models}: held-out test items", (_effects(logs), _controls(logs)), (), verdict_counts(logs)
    )


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
