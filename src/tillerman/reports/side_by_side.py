"""Several artefacts side by side: what each does, what it costs, what its controls and studies say. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.study import Chart, Line, Mark, StudyLog
from tillerman.logs.table import Table
from tillerman.reports.numbers import compact, condition_label, decimal, points, span
from tillerman.reports.verdict import judge_log
from tillerman.statistics.values import Effect, Rate

_ROLES = ("steered", "prompt", "icl", "null")


@dataclass(frozen=True)
class Column:
    """One artefact: its name, its evaluation, and the studies on its card."""

    name: str
    log: EvaluationLog
    studies: tuple[StudyLog, ...] = ()


def beside_tables(entries: Sequence[Column]) -> tuple[Table, ...]:
    """A column per artefact: the evaluation, then the studies that any of them has."""
    return (_evaluations(entries), *_studies(entries))


def _evaluations(entries: Sequence[Column]) -> Table:
    logs = [entry.log for entry in entries]
    controls = dict.fromkeys(c.name for log in logs for c in log.conditions if c.name not in ("unsteered", "steered"))
    rows = [
        ("verdict", *(judge_log(log).outcome for log in logs)),
        ("data", *(log.data_name for log in logs)),
        ("model", *(log.model_id for log in logs)),
        ("method", *(log.method for log in logs)),
        ("hook point", *(log.hook_point for log in logs)),
        ("dose", *(compact(log.dose) for log in logs)),
        ("test items", *(str(log.n_test) for log in logs)),
        ("unsteered, % (95 %)", *(_rate(log.condition("unsteered").rate) for log in logs)),
        ("steered, % (95 %)", *(_rate(log.condition("steered").rate) for log in logs)),
        ("effect, pp (95 %)", *(_effect(log.effect) for log in logs)),
        *((f"{condition_label(name)}, pp (95 %)", *(_control(log, name) for log in logs)) for name in controls),
        ("perplexity × (95 %)", *(_perplexity(log) for log in logs)),
        ("KL, nats/token", *(decimal(log.side_effects.kl, 3) for log in logs)),
        ("unrelated task, pp (95 %)", *(_effect(log.side_effects.unrelated_effect) for log in logs)),
    ]
    return Table("Side by side", ("", *(entry.name for entry in entries)), tuple(rows), (0, 9))


def _studies(entries: Sequence[Column]) -> list[Table]:
    names = dict.fromkeys(study.study for entry in entries for study in entry.studies)
    if not names:
        return []
    found = [{study.study: study.verdict for study in entry.studies} for entry in entries]
    rows = [(name, *(of[name].outcome if name in of else "not run" for of in found)) for name in names]
    return [Table("Studies", ("", *(entry.name for entry in entries)), tuple(rows))]


def beside_charts(entries: Sequence[Column]) -> tuple[Chart, ...]:
    """Effects on one axis; and what each dose brings against what it costs."""
    effects = tuple(Mark(e.name, e.log.effect.value, e.log.effect.interval, e.log.effect.n) for e in entries)
    charts = [Chart("Effect on its own test items", "bars", "pp", (Line("steered", effects),), "effect")]
    lines = tuple(_curve(entry, _ROLES[k % len(_ROLES)]) for k, entry in enumerate(entries))
    if any(len(line.marks) > 1 for line in lines):
        charts.append(Chart("What it brings at what price", "curve", "pp", lines, "KL on neutral text, nats per token"))
    return tuple(charts)


def _curve(entry: Column, role: str) -> Line:
    """Steering forwards only: change of accuracy over KL. The log holds no paired interval for each dose."""
    base = entry.log.condition("unsteered").rate.value
    spots = [p for p in entry.log.curve if p.dose * entry.log.dose >= 0]
    marks = [Mark(f"dose {compact(p.dose)}", p.rate.value - base, None, p.rate.n, p.kl) for p in spots]
    return Line(entry.name, tuple(marks), role)


def _control(log: EvaluationLog, name: str) -> str:
    found = next((c.effect for c in log.conditions if c.name == name), None)
    return "" if found is None else _effect(found)


def _rate(rate: Rate) -> str:
    return f"{decimal(100 * rate.value, 1)} ({span(rate.interval, places=0)})"


def _effect(effect: Effect) -> str:
    return f"{points(effect.value).removesuffix(' pp')} ({span(effect.interval, signed=True)})"


def _perplexity(log: EvaluationLog) -> str:
    side = log.side_effects
    return f"{decimal(side.perplexity_ratio)} ({span(side.perplexity_ratio_interval, 1, 2)})"
