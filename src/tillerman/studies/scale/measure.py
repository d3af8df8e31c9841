"""Each model's size, its answers at every dose, and what each dose costs there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from tillerman.core.artefact import Artefact
from tillerman.core.errors import UsageError
from tillerman.core.plan import Plan
from tillerman.core.store import Store
from tillerman.data.neutral import load_texts
from tillerman.evaluation.side_effects import DriftMeter, neutral_text
from tillerman.logs.study import Trial
from tillerman.models.opened import EMBEDDED, OpenModel
from tillerman.pipeline.held_out import gated
from tillerman.pipeline.run import Run
from tillerman.pipeline.search import choose
from tillerman.pipeline.set_up import set_up
from tillerman.studies.base import Lab, cost_trials, first, model_labels, random_plans, trial_of
from tillerman.studies.scale.options import BYTES, SIZE, STEERED, ScaleOptions, at_dose

_SEARCHED = (0.1, 0.2, 0.35, 0.5)  # doses that a model's own cell is chosen from


def measure(lab: Lab, options: ScaleOptions) -> Iterator[Trial]:
    """Each model: how large it is, its test items at every dose, and what each dose costs."""
    for resident in _residents(lab, options):
        yield from lab.kept(f"{resident.name}: size", partial(_size, resident))
        yield from lab.kept(f"{resident.name}: answers", partial(_answers, lab, resident, options))
        yield from lab.kept(f"{resident.name}: neutral text", partial(_neutral, lab, resident, options))


@dataclass(frozen=True, eq=False)
class _Resident:
    """A model in the study, with a vector for the behaviour; opened and fitted when it is first needed."""

    name: str
    opener: Callable[[], OpenModel]
    home: Lab
    characters: int

    @cached_property
    def run(self) -> Run:
        """The artefact's own experiment on this model: the same split, at the same relative depths."""
        home = self.home.run
        opened = self.opener()
        if opened is home.opened:
            return home
        steered = {point.layer for point in self.home.cell.points}
        experiment = replace(
            home.experiment,
            layers=_depths(steered, home.opened.layers, opened.layers),
            doses=_SEARCHED,
            strengths=None,
            zero=False,
            max_kl=None,
            max_perplexity_ratio=None,
            gate=None,
            null_draws=2,
        )
        return set_up(experiment, opened, home.data, Store(None, ""), home.watch)

    @cached_property
    def chosen(self) -> Artefact:
        """The artefact itself on its own model, elsewhere a vector that is fitted and chosen there."""
        if self.run is self.home.run:
            return self.home.artefact
        choice = choose(self.run, self.meter)
        return Artefact(choice.fitted.vector, choice.cell)

    @cached_property
    def meter(self) -> DriftMeter:
        """Of the text that all models read, in windows of this model's own tokens."""
        source, opened = self.home.run.experiment.neutral, self.run.opened
        text = "\n\n".join(load_texts(source))[: self.characters]
        return DriftMeter(opened, neutral_text(opened, source, [text], len(text)))

    @property
    def dose(self) -> float:
        return self.chosen.dose

    def plan(self, dose: float) -> Plan:
        return gated(self.chosen, dose / self.dose)


def _residents(lab: Lab, options: ScaleOptions) -> list[_Resident]:
    home, names = lab.opened.id, options.models
    if names is None and home in EMBEDDED:
        names = tuple(EMBEDDED)
    others = [name for name in dict.fromkeys(names or ()) if name != home]
    if not others:
        raise UsageError("scale: one model has no scale; give `models` NAME or FOLDER, best four or more of one family")
    labels = model_labels([home, *others])
    openers: list[Callable[[], OpenModel]] = [
        lambda: lab.opened,
        *(partial(lab.subject.opener, name) for name in others),
    ]
    return [_Resident(label, opener, lab, options.characters) for label, opener in zip(labels, openers, strict=True)]


def _depths(steered: set[int], layers: int, there: int) -> tuple[int, ...]:
    """The layers of another model that lie as deep as these, as a share of all."""
    return tuple(sorted({min(there - 1, math.floor((layer + 0.5) / layers * there)) for layer in steered}))


def _size(resident: _Resident) -> Iterator[Trial]:
    opened, windows = resident.run.opened, resident.meter.text.windows
    count = sum(parameter.numel() for parameter in opened.model.parameters())
    family = str(opened.model.config.get_text_config().model_type)
    yield Trial(resident.name, SIZE, ("model",), (float(count),), texts=(family,), scorer="count")
    length = np.mean([len(str(opened.tokenizer.decode(window[1:])).encode()) / (len(window) - 1) for window in windows])
    yield Trial(resident.name, BYTES, ("neutral text",), (float(length),), scorer="bytes")


def _answers(lab: Lab, resident: _Resident, options: ScaleOptions) -> Iterator[Trial]:
    here = replace(lab, run=replace(resident.run, store=Store(None, "")))
    exam = first(resident.run.test, options.limit)
    randoms = enumerate(random_plans(resident.chosen, options.draws, options.seed), start=1)
    plans: dict[str, tuple[float, Plan]] = {
        "unsteered": (0.0, ()),
        STEERED: (resident.dose, resident.plan(resident.dose)),
    }
    plans |= {at_dose(dose): (dose, resident.plan(dose)) for dose in options.doses}
    plans |= {f"null:random {k}": (resident.dose, plan) for k, plan in randoms}
    with lab.stage(resident.name, len(plans) * len(exam.items)) as progress:
        right = here.right(exam, {name: plan for name, (_, plan) in plans.items()}, progress)
    for name, (dose, _) in plans.items():
        yield trial_of(resident.name, name, exam, right[name], at=dose)


def _neutral(lab: Lab, resident: _Resident, options: ScaleOptions) -> Iterator[Trial]:
    meter, plans = resident.meter, [resident.plan(dose) for dose in options.doses]
    with lab.stage(f"{resident.name}: neutral text", len(plans) * meter.passes) as progress:
        found = meter.windows(plans, progress)
    for dose, one in zip(options.doses, found, strict=True):
        for trial in cost_trials(resident.name, one, at=dose):
            yield replace(trial, condition=f"{trial.condition}, {at_dose(dose)}")
