"""The trials of every gate, each under the gate's name: what its own study measures, at the artefact's own strength."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tillerman.core.errors import UsageError
from tillerman.core.plan import Plan
from tillerman.data.presenting import turned
from tillerman.logs.study import Trial
from tillerman.studies.base import Lab
from tillerman.studies.certify.options import CONTROL, FEW, ORDERS, ROBUSTNESS, SAFETY, UTILITY, CertifyOptions
from tillerman.studies.certify.parts import under
from tillerman.studies.id_ood.measure import measure as measure_robustness
from tillerman.studies.options import StudyOptions
from tillerman.studies.safety.measure import measure as measure_safety
from tillerman.studies.samples.measure import counts_of, measure as measure_few
from tillerman.studies.side_effects.measure import measure as measure_utility


def measure(lab: Lab, options: CertifyOptions) -> Iterator[Trial]:
    """``UsageError`` for other data than the artefact's own: only of these it is known what its fit has not seen."""
    if lab.subject.data.digest != lab.artefact.steering.provenance.data_digest:
        raise UsageError(
            f"{lab.subject.data.name}: not the data that the artefact was fitted on, so nobody knows which items its "
            "fit has seen; give its own data. 'tillerman eval' and the studies test it on others"
        )
    counts_of(options.few, len(lab.run.train.items))  # more than there are is refused before the first pass
    yield from _named(CONTROL, _every_order(_with(lab, options)))
    yield from _named(UTILITY, measure_utility(_with(lab, options.utility), options.utility))
    yield from _named(ROBUSTNESS, measure_robustness(_with(lab, options.robustness), options.robustness))
    yield from _named(FEW, measure_few(_with(lab, options.few), options.few))
    yield from _named(SAFETY, measure_safety(_with(lab, options.safety), options.safety))


def _with(lab: Lab, options: StudyOptions) -> Lab:
    return replace(lab, options=options)


def _named(gate: str, trials: Iterable[Trial]) -> Iterator[Trial]:
    return (replace(trial, case=under(gate, trial.case)) for trial in trials)


def _every_order(lab: Lab) -> Iterator[Trial]:
    """Lettered items over all rotations of their options: a letter that the vector prefers gains nothing here. The
    value of an item is the share of its orders that are answered right."""
    if lab.run.kind != "choice":
        return
    items = lab.exam.items
    exam = lab.exam_of((*items, *turned(items)), lab.run.writer)
    plans: dict[str, Plan] = {"unsteered": (), "steered": lab.plan()}
    with lab.stage(ORDERS, len(plans) * len(exam.items)) as progress:
        found = lab.right(exam, plans, progress)
    ids = [item.example.id for item in exam.items]
    names = tuple(item.example.id for item in items)
    for condition, right in found.items():
        shares = _shares(ids, right)
        yield Trial(ORDERS, condition, names, tuple(shares[name] for name in names), scorer="share of orders")


def _shares(ids: list[str], right: NDArray[np.bool_]) -> dict[str, float]:
    gathered: dict[str, list[float]] = {}
    for name, one in zip(ids, right, strict=True):
        gathered.setdefault(name, []).append(float(one))
    return {name: sum(values) / len(values) for name, values in gathered.items()}
