"""The ground of a study: an artefact on its model, the items it has not seen, and what tests them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tillerman.core.artefact import Artefact
from tillerman.core.cell import Cell
from tillerman.core.errors import UsageError
from tillerman.core.plan import Plan
from tillerman.core.rows import Progress, silent
from tillerman.core.steerings.base import Steering
from tillerman.core.store import Store
from tillerman.data.loading import LoadedData
from tillerman.data.presenting import Item
from tillerman.data.writing import Writer
from tillerman.evaluation.exam import Exam
from tillerman.evaluation.scoring import best
from tillerman.evaluation.side_effects import Windows
from tillerman.logs.base import build
from tillerman.logs.study import Trial
from tillerman.models.opened import OpenModel, open_model
from tillerman.pipeline.experiment import Experiment
from tillerman.pipeline.held_out import gated
from tillerman.pipeline.prompt_search import found_by_fit
from tillerman.pipeline.run import Run, Unwatched, Watch
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.together import TOGETHER
from tillerman.pipeline.vectors import AS
from tillerman.studies.options import StudyOptions
from tillerman.studies.trials import KL, PERPLEXITY, odds_of

MORE_DRAWS = 10_000  # seeds of nulls that no fit uses


@dataclass(frozen=True, eq=False)
class Subject:
    """What is studied: an artefact, its model, and labelled items. ``others``: further artefacts with their
    own items, for the studies of several. ``opener`` opens models that a study names."""

    artefact: Artefact
    opened: OpenModel
    data: LoadedData
    others: tuple[tuple[Artefact, LoadedData], ...] = ()
    opener: Callable[[str], OpenModel] = open_model

    def __post_init__(self) -> None:
        if not self.artefact.cell.strength:
            raise UsageError(
                "the artefact abstains (strength 0): there is nothing to study; fit it with other data or "
                "another method"
            )


@dataclass(frozen=True, eq=False)
class Lab:
    """A subject with everything a study needs to look at it. ``run`` has the shares of the artefact's own fit,
    so on the data it was fitted on its test items are new to it."""

    subject: Subject
    run: Run
    options: StudyOptions

    @property
    def opened(self) -> OpenModel:
        return self.run.opened

    @property
    def store(self) -> Store:
        return self.run.store

    @property
    def artefact(self) -> Artefact:
        return self.subject.artefact

    @property
    def cell(self) -> Cell:
        return self.artefact.cell

    @cached_property
    def steering(self) -> Steering:
        """The artefact's, at the hook points of its cell."""
        return self.artefact.steering.at(self.cell.points)

    @cached_property
    def exam(self) -> Exam:
        """The artefact's test items, at most ``limit`` of them."""
        return first(self.run.test, self.options.limit)

    def exam_of(self, items: Sequence[Item], writer: Writer) -> Exam:
        """Other items, or the same in another writing."""
        return Exam.of(self.opened, items, writer, self.run.experiment.answer_tokens)

    def stage(self, title: str, total: int) -> AbstractContextManager[Progress]:
        return self.run.watch.stage(title, total)

    def plan(self, factor: float = 1.0) -> Plan:
        """The artefact's own, at a multiple of its strength; its gate decides by itself."""
        return gated(self.artefact, factor)

    def plan_of(self, steering: Steering) -> Plan:
        """Another steering at the artefact's cell and dose, under its gate."""
        return self.cell.at_dose(self.artefact.dose, steering).plan(steering, self.artefact.gate)

    def random_plans(self, count: int) -> list[Plan]:
        """Random directions of the artefact's norms; draws that its fit did not use."""
        return random_plans(self.artefact, count, self.options.seed)

    def kept(self, piece: str, make: Callable[[], Iterable[Trial]]) -> list[Trial]:
        """Trials that are made once: found in the store where an earlier run left them."""
        found = self.store.value(piece, lambda: [asdict(trial) for trial in make()])
        return [build(Trial, dict(values)) for values in found]

    def right(
        self, exam: Exam, plans: Mapping[str, Plan], progress: Progress | None = None
    ) -> dict[str, NDArray[np.bool_]]:
        """Whether each item is right under each named plan; a plan that is empty is the unsteered model. Finished
        pieces are in the store."""
        tell = progress or (lambda _: None)
        found = exam.correct_under(list(plans.values()), self.store, tell)
        return dict(zip(plans, found, strict=True))

    def trials(
        self,
        case: str,
        exam: Exam,
        plans: Mapping[str, Plan],
        *,
        at: float | None = None,
        progress: Progress | None = None,
    ) -> list[Trial]:
        """``right`` as trials of one case."""
        found = self.right(exam, plans, progress)
        return [trial_of(case, name, exam, right, at=at) for name, right in found.items()]

    def scored(self, case: str, exam: Exam, plans: Mapping[str, Plan], progress: Progress | None = None) -> list[Trial]:
        """``trials``, and beside each the log-odds of the right answer (``odds_of(condition)``): against all others
        of its item, ``log p(right) - log sum p(wrong)``, in nats. Log-odds that are no numbers give no trial, and
        neither do open questions, which have no options."""
        if exam.is_open:
            return self.trials(case, exam, plans, progress=progress)
        places, trials = [written.right for written in exam.written], []
        for name, scores in zip(
            plans, exam.scores_under(list(plans.values()), self.store, progress or silent), strict=True
        ):
            chosen = np.array([best(row) for row in scores])
            trials.append(trial_of(case, name, exam, chosen == np.array(places)))
            odds = [_log_odds(row, place) for row, place in zip(scores, places, strict=True)]
            if np.isfinite(odds).all():
                ids = tuple(item.example.id for item in exam.items)
                trials.append(Trial(case, odds_of(name), ids, tuple(odds), scorer="log-odds"))
        return trials


def random_plans(artefact: Artefact, count: int, seed: int) -> list[Plan]:
    """The artefact's plan with random directions of its norms; no fit uses these seeds."""
    cell, gate = artefact.cell, artefact.gate
    steering, first_seed = artefact.steering.at(cell.points), MORE_DRAWS + 100 * seed
    drawn = [steering.random_like(k) for k in range(first_seed, first_seed + count)]
    return [cell.for_draw(one).plan(one, gate) for one in drawn]


def _log_odds(scores: Sequence[float], right: int) -> float:
    wrong = [score for place, score in enumerate(scores) if place != right]
    return float(scores[right] - np.logaddexp.reduce(wrong))


def trial_of(case: str, condition: str, exam: Exam, right: NDArray[np.bool_], *, at: float | None = None) -> Trial:
    ids = tuple(item.example.id for item in exam.items)
    return Trial(case, condition, ids, tuple(map(float, right)), tuple(exam.groups), at=at)


def cost_trials(case: str, windows: Windows, *, at: float | None = None) -> list[Trial]:
    """What a plan costs per window of neutral text, in nats per token: log of the perplexity ratio, and KL. What is not
    a finite number gives no trial: steering breaks the model there, and no mean can say so."""
    costs = {PERPLEXITY: windows.steered.double() - windows.unsteered.double(), KL: windows.kl.double()}
    names = tuple(f"window {i}" for i in range(1, len(windows.kl) + 1))
    return [
        Trial(case, name, names, tuple(per_window.tolist()), at=at, scorer="nats per token")
        for name, per_window in costs.items()
        if bool(torch.isfinite(per_window).all())
    ]


def model_labels(names: Sequence[str]) -> list[str]:
    """Folders by their last part: logs name no place of one machine. ``UsageError`` for two that are called alike."""
    found = [Path(name).name if Path(name).is_dir() else name for name in names]
    alike = sorted({label for label in found if found.count(label) > 1})
    if alike:
        raise UsageError(f"two models are both called {alike[0]}; give each once, from folders of different names")
    return found


def first(exam: Exam, count: int) -> Exam:
    """At most ``count`` of the items; their order is by hash, so these are a fair share."""
    return replace(exam, items=exam.items[:count], written=exam.written[:count])


def set_up_lab(subject: Subject, options: StudyOptions, store: Store | None = None, watch: Watch | None = None) -> Lab:
    """The run of the artefact's own fit: the same split, option orders, template and system prompt."""
    experiment = experiment_of(subject.artefact)
    needed = ("test",) if subject.data.digest != subject.artefact.steering.provenance.data_digest else ("train", "test")
    run = set_up(experiment, subject.opened, subject.data, store or Store(None, ""), watch or Unwatched(), needed)
    return Lab(subject, replace(run, found=found_by_fit(subject.artefact)), options)


def experiment_of(artefact: Artefact) -> Experiment:
    """The experiment that an artefact came out of, for one method, read as its vector was. Where it was fine-tuned, its
    model has been."""
    made = artefact.steering.provenance
    method, read_otherwise, _ = made.method.removesuffix(TOGETHER).partition(AS)
    found = replace(Experiment.from_json(made.options, method), base_lora=False)
    return replace(found, read=made.read_positions) if read_otherwise else found


def study_key(study: str, options: StudyOptions, subject: Subject) -> str:
    """Names a study for its store: same key, same numbers."""

    def cell(artefact: Artefact) -> list[Any]:
        return [artefact.steering.provenance.to_json(), artefact.cell.to_json()]

    facts: list[Any] = [study, asdict(options), subject.opened.fingerprint, subject.opened.template_hash]
    facts += [cell(subject.artefact), subject.data.digest, *([cell(a), d.digest] for a, d in subject.others)]
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()
