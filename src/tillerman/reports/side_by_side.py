"""Several artefacts side by side: what each does, what it costs, what its controls and studies say. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tillerman.logs.conditions import STEERED, UNSTEERED, condition_label
from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.study import Chart, Line, Mark, StudyLog
from tillerman.logs.table import Table
from tillerman.reports.account import Account, Named
from tillerman.reports.numbers import compact, decimal, shown, shown_number, shown_rate
from tillerman.reports.verdict import judge_log, judgements

_ROLES = ("steered", "prompt", "icl", "null")


@dataclass(frozen=True)
class Column:
    """One artefact: its name, its evaluation, and the studies on its card."""

    name: str
    log: EvaluationLog
    studies: tuple[StudyLog, ...] = ()


def verdicts(entries: Sequence[Column]) -> tuple[Named, ...]:
    """What the evaluation and each study say of each artefact."""
    return tuple(
        Named(f"{entry.name}, {named.source}", named.verdict)
        for entry in entries
        for named in judgements(entry.log, entry.studies)
    )


def account(entries: Sequence[Column]) -> Account:
    return Account("", beside_tables(entries), verdicts=verdicts(entries))


def beside_tables(entries: Sequence[Column]) -> tuple[Table, ...]:
    """A column per artefact: the evaluation, then the studies that any of them has."""
    return (_evaluations(entries), *_studies(entries))


def _evaluations(entries: Sequence[Column]) -> Table:
    logs = [entry.log for entry in entries]
    costs = [log.side_effects for log in logs]
    controls = dict.fromkeys(c.name for log in logs for c in log.conditions if c.name not in (UNSTEERED, STEERED))
    rows = [
        ("Verdict", *(judge_log(log).outcome for log in logs)),
        ("Data", *(log.data_name for log in logs)),
        ("Model", *(log.model_id for log in logs)),
        ("Method", *(log.method for log in logs)),
        ("Hook point", *(log.hook_point for log in logs)),
        ("Dose", *(compact(log.dose) for log in logs)),
        ("Test items", *(str(log.n_test) for log in logs)),
        (f"{condition_label(UNSTEERED)}, % (95 %)", *(shown_rate(log.condition(UNSTEERED).rate) for log in logs)),
        (f"{condition_label(STEERED)}, % (95 %)", *(shown_rate(log.condition(STEERED).rate) for log in logs)),
        ("Effect, pp (95 %)", *(shown(log.effect) for log in logs)),
        *((f"{condition_label(name)}, pp (95 %)", *(_control(log, name) for log in logs)) for name in controls),
        ("Perplexity × (95 %)", *(shown_number(s.perplexity_ratio, s.perplexity_ratio_interval) for s in costs)),
        ("KL, nats/token", *(decimal(s.kl, 3) for s in costs)),
        ("Unrelated task, pp (95 %)", *(shown(s.unrelated_effect) for s in costs)),
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
        charts.append(Chart("Effect against cost", "curve", "pp", lines, "KL on neutral text, nats per token"))
    return tuple(charts)


def _curve(entry: Column, role: str) -> Line:
    """Steering forwards only: change of accuracy over KL. The log holds no paired interval for each dose."""
    base = entry.log.condition(UNSTEERED).rate.value
    spots = [p for p in entry.log.curve if p.dose * entry.log.dose >= 0]
    marks = [Mark(f"dose {compact(p.dose)}", p.rate.value - base, None, p.rate.n, p.kl) for p in spots]
    return Line(entry.name, tuple(marks), role)


def _control(log: EvaluationLog, name: str) -> str:
    found = next((c.effect for c in log.conditions if c.name == name), None)
    return "" if found is None else shown(found)
