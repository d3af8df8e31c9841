"""Findings of studies on an artefact's card."""

from __future__ import annotations

import json
from dataclasses import replace

from tillerman.core.artefact import Artefact
from tillerman.core.errors import ArtefactError
from tillerman.core.provenance import Card
from tillerman.logs.cards import evaluation_on, studies_on
from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.study import StudyLog


def with_study(artefact: Artefact, log: StudyLog) -> Artefact:
    """The artefact with what a study found on its card: all but the trials. A study made again replaces its last, and
    takes away the signature that was under it."""
    card = artefact.card or Card()
    kept = json.loads(json.dumps(replace(log, trials=()).to_json()))
    others = {name: one for name, one in card.signatures.items() if name != log.study}
    return replace(artefact, card=replace(card, studies={**card.studies, log.study: kept}, signatures=others))


def evaluation_of(artefact: Artefact) -> EvaluationLog:
    """What was measured when the artefact was fitted. ``ArtefactError`` where it carries nothing."""
    if artefact.card is None or not artefact.card.report:
        raise ArtefactError("this artefact has no evaluation; run 'tillerman eval' to add one")
    log = evaluation_on(artefact.card)
    assert log is not None  # the report is not empty
    return log


def studies_of(artefact: Artefact) -> tuple[StudyLog, ...]:
    """What studies found about an artefact, without their trials."""
    return () if artefact.card is None else studies_on(artefact.card)
