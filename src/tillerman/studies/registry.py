"""The studies by name, and how one is run: measure, then judge. A line per study."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tillerman.core.errors import UsageError
from tillerman.core.hookpoint import named
from tillerman.core.registry import Registry
from tillerman.core.store import Store
from tillerman.logs.base import build
from tillerman.logs.study import Judged, StudyLog, Trial
from tillerman.pipeline.run import Watch
from tillerman.studies.attack.judge import judge as judge_attack
from tillerman.studies.attack.measure import measure as measure_attack
from tillerman.studies.attack.options import AttackOptions
from tillerman.studies.base import Lab, Subject, set_up_lab
from tillerman.studies.certify.judge import judge as judge_certify
from tillerman.studies.certify.measure import measure as measure_certify
from tillerman.studies.certify.options import CertifyOptions
from tillerman.studies.id_ood.judge import judge as judge_id_ood
from tillerman.studies.id_ood.measure import measure as measure_id_ood
from tillerman.studies.id_ood.options import IdOodOptions
from tillerman.studies.interaction.judge import judge as judge_interaction
from tillerman.studies.interaction.measure import measure as measure_interaction
from tillerman.studies.interaction.options import InteractionOptions
from tillerman.studies.options import StudyOptions
from tillerman.studies.safety.judge import judge as judge_safety
from tillerman.studies.safety.measure import measure as measure_safety
from tillerman.studies.safety.options import SafetyOptions
from tillerman.studies.samples.judge import judge as judge_samples
from tillerman.studies.samples.measure import measure as measure_samples
from tillerman.studies.samples.options import SamplesOptions
from tillerman.studies.scale.judge import judge as judge_scale
from tillerman.studies.scale.measure import measure as measure_scale
from tillerman.studies.scale.options import ScaleOptions
from tillerman.studies.side_effects.judge import judge as judge_side_effects
from tillerman.studies.side_effects.measure import measure as measure_side_effects
from tillerman.studies.side_effects.options import SideEffectsOptions
from tillerman.studies.transfer.judge import judge as judge_transfer
from tillerman.studies.transfer.measure import measure as measure_transfer
from tillerman.studies.transfer.options import TransferOptions
from tillerman.studies.turns.judge import judge as judge_turns
from tillerman.studies.turns.measure import measure as measure_turns
from tillerman.studies.turns.options import TurnsOptions


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
        IdOodOptions,
        measure_id_ood,
        judge_id_ood,
    ),
    Study("samples", "How many examples does the vector need?", SamplesOptions, measure_samples, judge_samples),
    Study(
        "side-effects",
        "What does it cost, and how strong may it be?",
        SideEffectsOptions,
        measure_side_effects,
        judge_side_effects,
    ),
    Study("attack", "Can a text in the question reverse it?", AttackOptions, measure_attack, judge_attack),
    Study(
        "interaction",
        "Do several vectors keep their effects when applied together?",
        InteractionOptions,
        measure_interaction,
        judge_interaction,
    ),
    Study(
        "transfer",
        "Does the vector steer other models of the same shape?",
        TransferOptions,
        measure_transfer,
        judge_transfer,
    ),
    Study(
        "scale",
        "Does the behaviour steer models of every size, and do larger ones resist degradation?",
        ScaleOptions,
        measure_scale,
        judge_scale,
    ),
    Study(
        "safety",
        "What does it do to refusals, of unsafe prompts and of safe ones?",
        SafetyOptions,
        measure_safety,
        judge_safety,
    ),
    Study(
        "turns",
        "Does it hold over many turns, and what is left when it is switched off?",
        TurnsOptions,
        measure_turns,
        judge_turns,
    ),
    Study(
        "certify",
        "Does it pass every gate at its own strength: control, utility, robustness, safety?",
        CertifyOptions,
        measure_certify,
        judge_certify,
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
    artefact = subject.artefact
    return StudyLog(
        study=name,
        question=study.question,
        data_name=subject.data.name,
        model_id=subject.opened.id,
        method=artefact.steering.provenance.method,
        hook_point=named(artefact.cell.points),
        strength=artefact.cell.strength,
        dose=artefact.dose,
        scope=str(artefact.cell.scope),
        options=asdict(asked),
        trials=trials,
        verdict=result.verdict,
        tables=result.tables,
        charts=result.charts,
        notes=result.notes,
        provenance=artefact.steering.provenance.to_json(),
        seconds=time.monotonic() - started + lab.store.saved - saved,
    )


def judge_again(log: StudyLog) -> StudyLog:
    """Tables, charts and verdict made anew from a log's trials; no model is needed.

    ``UsageError`` where the trials were left out (an artefact's card has none)."""
    if not log.trials:
        raise UsageError(f"this log of {log.study} holds no trials (a card has none); give the study.json of its run")
    study = STUDIES[log.study]
    return log.judged(study.judge(log.trials, build(study.options, log.options)))
