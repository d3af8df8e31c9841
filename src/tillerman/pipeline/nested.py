"""How much the choice on validation items is optimistic: nested cross-validation. Test items play no part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from tillerman.core.errors import DataError, FitError
from tillerman.core.hookpoint import named
from tillerman.data.duplicates import Split, clean_split, folds_of
from tillerman.data.examples import Example
from tillerman.data.presenting import present
from tillerman.evaluation.exam import Exam
from tillerman.evaluation.side_effects import DriftMeter
from tillerman.logs.base import build
from tillerman.logs.evaluation import Fold, Nested
from tillerman.pipeline.run import Run
from tillerman.pipeline.search import Choice, choose
from tillerman.statistics.estimates import t_interval

# Seeds of the folds lie far from those of runs, so that stored work and splits are never shared.
_APART = 1_000_000


def nested_folds(run: Run, meter: DriftMeter, count: int) -> Nested:
    """Train and validation items in ``count`` folds. The items of all folds but one are split again, in the run's
    own proportion; methods are fitted and searched on them as in the run, and the chosen cell is tested on the fold
    left out.

    Without the run's gate, which plays no part in choosing. Finished folds are kept in the store. The interval is
    over folds, which share most of what they were fitted on: take it as a guide.

    ``DataError`` where a share is empty, ``FitError`` where a fold gives no vector.
    """
    pool = (*run.split.train, *run.split.validation)
    outer = folds_of(pool, count, run.experiment.seed)
    folds = []
    for k, left_out in enumerate(outer):
        rest = [example for other in outer if other is not left_out for example in other]
        inner = _inner(run, rest, left_out, k)
        shares = [exam.written for exam in (inner.train, inner.validation, inner.test)]
        here = run.store.scoped(
            run.opened.identity, inner.experiment.to_json(), inner.experiment.sources, shares, meter.text.windows
        )
        folds.append(build(Fold, here.value("fold", _run(inner, meter, k))))
    return _summed(folds)


def _inner(run: Run, rest: Sequence[Example], left_out: Sequence[Example], k: int) -> Run:
    """The run of one fold: its test items are the fold left out."""
    e = run.experiment
    share = len(run.split.train) / (len(run.split.train) + len(run.split.validation))
    inside = replace(e, seed=e.seed + _APART * (k + 1))
    found = clean_split(rest, (share, 1 - share, 0.0), inside.seed)
    shares = {"train": found.train, "validation": found.validation, "outer": tuple(left_out)}
    for name, items in shares.items():
        if not items:
            raise DataError(f"`nested`, fold {k + 1}: no {name} item; provide more data, or fewer folds")
    shown = [present(items, inside.seed, keep_order=inside.keep_order) for items in shares.values()]
    exams = [Exam.of(run.opened, items, run.writer, e.answer_tokens) for items in shown]
    split = Split(found.train, found.validation, tuple(left_out), found.dropped)
    return replace(run, experiment=inside, split=split, train=exams[0], validation=exams[1], test=exams[2])


def _run(inner: Run, meter: DriftMeter, k: int) -> Any:
    def run() -> dict[str, Any]:
        try:
            return asdict(_tested(inner, choose(inner, meter)))
        except FitError as error:
            raise FitError(f"`nested`, fold {k + 1}: {error}") from error

    return run


def _tested(inner: Run, choice: Choice) -> Fold:
    cell = choice.cell
    plan = cell.plan(choice.fitted.vector) if cell.strength else ()
    with inner.watch.stage("nested, outer fold", 2 * len(inner.test.items)) as progress:
        before, after = inner.test.correct_under([(), plan], inner.store, progress).mean(1)
    with inner.watch.stage("nested, unsteered", len(inner.validation.items)) as progress:
        unsteered = inner.validation.correct_under([()], inner.store, progress)
    return Fold(
        method=choice.fitted.vector.provenance.method,
        hook_point=named(cell.points),
        strength=cell.strength,
        n_validation=len(inner.validation.items),
        validation=choice.chosen.score,
        validation_unsteered=float(unsteered.mean()),
        n_outer=len(inner.test.items),
        outer=float(after),
        outer_unsteered=float(before),
    )


def _summed(folds: Sequence[Fold]) -> Nested:
    inside = np.array([fold.validation - fold.validation_unsteered for fold in folds])
    outside = np.array([fold.outer - fold.outer_unsteered for fold in folds])
    outer, outer_interval, _ = t_interval(outside.tolist())
    optimism, optimism_interval, _ = t_interval((inside - outside).tolist())
    return Nested(tuple(folds), float(inside.mean()), outer, outer_interval, optimism, optimism_interval)
