"""Every target's answers under the vector, under one of its own, and what steering costs there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch

from tillerman.core.cell import Cell
from tillerman.core.errors import DataError, FitError, HookPointError
from tillerman.core.plan import Plan, Scope
from tillerman.core.steerings.base import Steering
from tillerman.core.store import Store
from tillerman.logs.study import Trial
from tillerman.models.opened import OpenModel
from tillerman.models.precision import in_precision, makeable
from tillerman.pipeline.run import Run, Unwatched
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.side_effects import make_meter
from tillerman.pipeline.vectors import fit_methods
from tillerman.studies.base import Lab, cost_trials, first, model_labels
from tillerman.studies.transfer.options import COSINE, DOSE, HOME, NORM, OWN, TUNED, TransferOptions


def measure(lab: Lab, options: TransferOptions) -> Iterator[Trial]:
    """Home, then every target: unsteered, steered, random directions, the prompt baseline, a vector of its own, and
    what steering costs there."""
    yield from _asked(lab, _Target(HOME, lambda: lab.opened, lab), options)
    for target in _targets(lab, options):
        yield from _asked(lab, target, options)


@dataclass(frozen=True, eq=False)
class _Target:
    """A model that the vector is tried on; opened when it is first needed."""

    name: str
    opener: Callable[[], OpenModel]
    home: Lab

    @cached_property
    def opened(self) -> OpenModel:
        found = self.opener()
        found.check_provenance(self.home.steering.provenance, allow_mismatch=True)
        return found

    @cached_property
    def lab(self) -> Lab:
        """The same items, written for this model's tokenizer. Nothing is stored by itself: pieces of a fit are named
        without their model."""
        if self.name == HOME:
            return self.home
        run, opened, alone = self.home.run, self.opened, Store(None, "")
        hashes = (run.opened.tokenizer_hash, run.opened.template_hash)
        if (opened.tokenizer_hash, opened.template_hash) == hashes:
            return replace(self.home, run=replace(run.of(opened), store=alone))
        return replace(self.home, run=set_up(run.experiment, opened, run.data, alone, run.watch))

    @cached_property
    def cell(self) -> Cell:
        return replace(self.home.cell, scope=_scope(self.home.cell.scope, self.lab.run))

    @property
    def plan(self) -> Plan:
        return self.cell.plan(self.home.steering, self.home.artefact.gate)

    @cached_property
    def own(self) -> Steering | None:
        """The method's vector of this model's own training items; None where they give none."""
        if self.name == HOME:
            return self.home.steering
        wanted, run = self.cell.points, self.lab.run
        layers = tuple(sorted({point.layer for point in wanted}))
        experiment = replace(run.experiment, layers=layers, null_draws=2)
        try:
            fitted, _ = fit_methods(replace(run, experiment=experiment, watch=Unwatched()))
            return fitted[experiment.spec].vector.at(wanted)
        except (FitError, HookPointError):
            return None


def _scope(scope: Scope, run: Run) -> Scope:
    """The artefact's scope; marks that are tokens are this tokenizer's own."""
    if not (scope.marker or scope.opening or scope.piece):
        return scope
    return replace(run, experiment=replace(run.experiment, scope=scope.name)).scope(run.experiment.spec)


def _targets(lab: Lab, options: TransferOptions) -> Iterator[_Target]:
    asked = options.to or options.tuned
    precisions = (() if asked else makeable()) if options.precisions is None else options.precisions
    for precision in precisions:
        yield _Target(precision, partial(in_precision, lab.opened, precision), lab)
    labels = model_labels([*precisions, *options.to])[len(precisions) :]
    for label, name in zip(labels, options.to, strict=True):
        yield _Target(label, partial(lab.subject.opener, name), lab)
    if options.tuned:
        if not lab.run.train.items:
            raise DataError("`tuned`: there is no training item to fine-tune on; give the data of the fit")
        yield _Target(TUNED, lambda: lab.run.tuned, lab)


def _asked(lab: Lab, target: _Target, options: TransferOptions) -> Iterator[Trial]:
    yield from lab.kept(f"{target.name}: facts", partial(_facts, target))
    yield from lab.kept(f"{target.name}: answers", partial(_answers, target, options))
    yield from lab.kept(f"{target.name}: neutral text", partial(_neutral, target))


def _facts(target: _Target) -> Iterator[Trial]:
    """Dose of the vector and length of the stream there; and whether a vector fitted there is the same direction."""
    steering, own = target.home.steering, target.own
    names = tuple(str(point) for point in steering.points)
    if own is None:
        return
    norms = [own.stream_norms[point] for point in own.points]
    scale = np.mean([steering.stream_norms[p] / norm for p, norm in zip(steering.points, norms, strict=True)])
    dose = target.home.artefact.dose * float(scale)
    yield Trial(target.name, NORM, names, tuple(norms), scorer="mean norm")
    yield Trial(target.name, DOSE, ("all hook points",), (dose,), scorer="dose")
    if own.is_constant and steering.is_constant:
        pairs = [(own.directions[point], steering.directions[point]) for point in own.points]
        alike = tuple(float(torch.cosine_similarity(one, other, dim=0)) for one, other in pairs)
        yield Trial(target.name, COSINE, names, alike, scorer="cosine")


def _answers(target: _Target, options: TransferOptions) -> Iterator[Trial]:
    lab, cell = replace(target.lab, run=replace(target.lab.run, store=Store(None, ""))), target.cell
    exam = first(lab.run.test, lab.options.limit)
    asked: dict[str, Plan] = {"unsteered": (), "steered": target.plan}
    randoms = enumerate(target.home.random_plans(options.draws), start=1)
    others: dict[str, Plan] = {f"null:random {k}": (replace(plan[0], scope=cell.scope),) for k, plan in randoms}
    if target.name != HOME and target.own is not None:
        there = cell.at_dose(target.home.artefact.dose, target.own)
        others[OWN] = there.plan(target.own, target.home.artefact.gate)
    asks_prompt = target.home.run.told_writer is not None  # the same words on every model
    with lab.stage(target.name, (len(asked) + len(others) + asks_prompt) * len(exam.items)) as progress:
        yield from lab.scored(target.name, exam, asked, progress)
        yield from lab.trials(target.name, exam, others, progress=progress)
        if asks_prompt:
            told = lab.exam_of(exam.items, lab.run.writer.with_system(target.home.run.told))
            yield from lab.trials(target.name, told, {"prompt": ()}, progress=progress)


def _neutral(target: _Target) -> Iterator[Trial]:
    meter = make_meter(target.lab.run)
    with target.lab.stage(f"{target.name}: neutral text", meter.passes) as progress:
        (windows,) = meter.windows([target.plan], progress)
    yield from cost_trials(target.name, windows)
