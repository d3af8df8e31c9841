"""Step ``study``: fit a vector, then ask one of the studies about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from tillerman.core.errors import FitError, UnknownNameError
from tillerman.core.store import Store
from tillerman.data.rephrasings import CHARACTERS, ROLE
from tillerman.logs.reproduction import Measured, Piece
from tillerman.logs.study import Trial
from tillerman.pipeline.flow import fit
from tillerman.recipes.steps.work import Work, of_effect, of_interval, of_rate, of_value
from tillerman.statistics.estimates import bootstrap_mean
from tillerman.studies.attack import options as attack
from tillerman.studies.base import Subject
from tillerman.studies.id_ood import options as id_ood
from tillerman.studies.options import StudyOptions
from tillerman.studies.registry import STUDIES, run
from tillerman.studies.trials import cases_of, has, paired, pick, rate_of, values


def run_study(work: Work, shared: Store) -> list[Piece]:
    """One piece. ``FitError`` where the search abstains: there is nothing to study."""
    options = options_of(work.step.study, work.step.options)
    data = work.data()
    outcome = fit(work.experiment, work.opened, data, store=shared, watch=work.watch)
    log = outcome.log
    if not log.strength:
        raise FitError("the search chose strength 0: no strength helps on the validation items")
    studied = run(work.step.study, Subject(outcome.artefact, work.opened, data), options, watch=work.watch)
    figures = _FIGURES[work.step.study](studied.trials)
    cell = f"{log.method}, {log.hook_point} × {log.strength:.3g}"
    return [work.piece({"effect": of_effect(log.effect), "dose": of_value(log.dose), **figures}, cell=cell)]


def options_of(study: str, given: Mapping[str, Any]) -> StudyOptions:
    """``UnknownNameError`` for a study that a recipe cannot read, or an option that it does not have."""
    if study not in _FIGURES:
        raise UnknownNameError("study", study, _FIGURES)
    kind = STUDIES[study].options
    known = [f.name for f in fields(kind)]
    for name in given:
        if name not in known:
            raise UnknownNameError(f"option of the study {study}", name, known)
    values: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in given.items()}
    return kind(**values)


def _of_id_ood(trials: Sequence[Trial]) -> dict[str, Measured]:
    """As fitted, the mean over other ways of asking, and the mean over other behaviours."""
    cases = [case for case in cases_of(trials) if not case.startswith(id_ood.MATRIX)]
    others = [case for case in cases if case.startswith(id_ood.OTHER)]
    # Roles and other characters came later: without them figures are those of the runs that are published.
    shifted = [case for case in cases if case not in (*others, id_ood.HOME, ROLE, CHARACTERS)]
    found = {"id_effect": of_effect(paired(trials, id_ood.HOME))}
    for name, of_kind in (("ood_effect", shifted), ("other_effect", others)):
        if of_kind:
            found[name] = _mean([of_effect(paired(trials, case)) for case in of_kind])
    if id_ood.FREE in cases:
        found["free_effect"] = of_effect(paired(trials, id_ood.FREE))
    return found


def _mean(figures: Sequence[Measured]) -> Measured:
    """Of cases on the same items, so their intervals are not counted as independent."""
    value, half = float(np.mean([f.value for f in figures])), float(np.mean([f.half for f in figures]))
    return Measured(value, value - half, value + half, figures[0].n)


def _of_attack(trials: Sequence[Trial]) -> dict[str, Measured]:
    """The share of answers that were reversed with the whole budget: steered, prompted, and by random texts."""
    whole = [case for case in cases_of(trials) if case.startswith(attack.AFTER)][-1]
    names = {"reversed": attack.STEERED, "reversed_random": attack.RANDOM, "reversed_prompted": attack.PROMPT}
    found = {name: of_rate(rate_of(pick(trials, whole, condition))) for name, condition in names.items()}
    usual = values(pick(trials, attack.USUAL, attack.STEERED))
    nats = {"nats_natural": of_interval(float(usual.mean()), bootstrap_mean(usual), len(usual))}
    if has(trials, attack.FIRST, attack.STEERED):
        first = values(pick(trials, attack.FIRST, attack.STEERED))
        nats["nats_attack"] = of_interval(float(first.mean()), bootstrap_mean(first), len(first))
    return found | nats


_FIGURES: Mapping[str, Callable[[Sequence[Trial]], dict[str, Measured]]] = {
    "id-ood": _of_id_ood,
    "attack": _of_attack,
}
