"""The logs that an artefact's card carries."""

from __future__ import annotations

from tillerman.core.errors import LogError
from tillerman.core.provenance import Card
from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.study import StudyLog


def evaluation_on(card: Card) -> EvaluationLog | None:
    """What was measured when the artefact was fitted; None where nothing was. ``LogError`` for a damaged report."""
    return EvaluationLog.from_json(dict(card.report), "report") if card.report else None


def studies_on(card: Card) -> tuple[StudyLog, ...]:
    """What studies found, without their trials. ``LogError`` for a damaged one."""
    found = []
    for name, values in card.studies.items():
        log = StudyLog.from_json(values, f"study {name[:40]}")
        if log.study != name:
            raise LogError(f"study {name[:40]}: the log of another study, {log.study[:40]}")
        found.append(log)
    return tuple(found)
