"""The studies by name, and how one is run: measure, then judge. A line per study."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tillerman.core.errors import UsageError
from tillerman.core.registry import Registry
from tillerman.core.store import Store
from tillerman.logs.base import build
from tillerman.logs.study import Judged, StudyLog, Trial
from tillerman.pipeline.run import Watch
from tillerman.studies import attack, id_ood, interaction, samples, scale, side_effects, transfer
from tillerman.studies.base import Lab, StudyOptions, Subject, set_up_lab


@dataclass(frozen=True)
class Study:
    """A question and how it is answered. ``measure`` asks the model; ``judge`` is pure: trials and options in,
    tables, charts and verdict out."""

    name: str
    question: str
    options: type[StudyOptions]
    measure: Callable[[Lab, Any], Iterable[Trial]]
    judge: Callable[[Sequence[Trial], Any], Judged]


_STUDIES = (
    Study(
        "id-ood",
        "Where does the vector work besides where it was fitted?",
        id_ood.IdOodOptions,
        id_ood.measure,
        id_ood.judge,
    ),
    Study("samples", "How many examples does the vector need?", samples.SamplesOptions, samples.measure, samples.judge),
    Study(
        "side-effects",
        "What does it cost, and how strong may it be?",
        side_effects.SideEffectsOptions,
        side_effects.measure,
        side_effects.judge,
    ),
    Study("attack", "Can a text in the question reverse it?", attack.AttackOptions, attack.measure, attack.judge),
    Study(
        "interaction",
        "What do vectors do together that each does alone?",
        interaction.InteractionOptions,
        interaction.measure,
        interaction.judge,
    ),
    Study(
        "transfer",
        "Does the vector steer other models of the same shape?",
        transfer.TransferOptions,
        transfer.measure,
        transfer.judge,
    ),
    Study(
        "scale",
        "Does the behaviour steer models of every size, and do larger ones resist degradation?",
        scale.ScaleOptions,
        scale.measure,
        scale.judge,
    ),
)
STUDIES: Registry[Study] = Registry("study", {study.name: study for study in _STUDIES})


def run(
    name: str,
    subject: Subject,
    options: StudyOptions | None = None,
    *,
    store: Store | None = None,
    watch: Watch | None = None,
) -> StudyLog:
    """One study of one artefact. The same subject, options and seed give the same numbers; ``store`` keeps
    finished pieces over interruptions."""
    started, study = time.monotonic(), STUDIES[name]
    asked = study.options() if options is None else options
    if not isinstance(asked, study.options):
        raise UsageError(f"{name}: expected {study.options.__name__}, got {type(asked).__name__}")
    lab = set_up_lab(subject, asked, store, watch)
    saved = lab.store.saved
    trials = tuple(study.measure(lab, asked))
    result = study.judge(trials, asked)
    card = subject.artefact.card
    assert card is not None  # a subject has one
    return StudyLog(
        study=name,
        question=study.question,
        data_name=subject.data.name,
        model_id=subject.opened.id,
        method=subject.artefact.steering.provenance.method,
        hook_point=card.hook_point,
        strength=card.strength,
        dose=card.dose,
        scope=card.scope,
        options=asdict(asked),
        trials=trials,
        verdict=result.verdict,
        tables=result.tables,
        charts=result.charts,
        notes=result.notes,
        provenance=subject.artefact.steering.provenance.to_json(),
        seconds=time.monotonic() - started + lab.store.saved - saved,
    )


def judge_again(log: StudyLog) -> StudyLog:
    """Tables, charts and verdict made anew from a log's trials; no model is needed.

    ``UsageError`` where the trials were left out (an artefact's card has none)."""
    if not log.trials:
        raise UsageError(f"this log of {log.study} holds no trials (a card has none); give the study.json of its run")
    study = STUDIES[log.study]
    return log.judged(study.judge(log.trials, build(study.options, log.options)))
