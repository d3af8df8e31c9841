"""What a model makes of data before anything is fitted: how it sees the items, and what it answers unsteered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tillerman.core.store import Store
from tillerman.data.loading import LoadedData, Source
from tillerman.evaluation.answered import item_results
from tillerman.evaluation.bias import answer_classes, discrimination
from tillerman.logs.conditions import UNSTEERED
from tillerman.logs.evidence import FirstLook
from tillerman.models.opened import OpenModel
from tillerman.pipeline.experiment import Experiment
from tillerman.pipeline.run import Unwatched, Watch
from tillerman.pipeline.set_up import set_up
from tillerman.statistics.detection import auc_interval

SHOWN = 3
MOST = 200  # items that are asked: more make the rates of answers little surer


def first_look(
    experiment: Experiment, opened: OpenModel, data: LoadedData | Source, *, watch: Watch | None = None
) -> FirstLook:
    """Of validation and training items, at most ``MOST``; the test items stay unseen. Open questions are shown with
    what the model writes, the first ``SHOWN`` of them."""
    run = set_up(experiment, opened, data, Store(None, ""), watch or Unwatched(), needed=())
    exams = [exam for exam in (run.validation, run.train, run.test) if exam.items][:2]
    items = [item for exam in exams for item in exam.items]
    written = [one for exam in exams for one in exam.written]
    most = SHOWN if run.test.is_open or exams[0].is_open else MOST
    exam = replace(exams[0], items=tuple(items[:most]), written=tuple(written[:most]))
    with run.watch.stage("unsteered answers", len(exam.items)) as progress:
        (answered,) = exam.answered_under([()], run.store, progress)
    name = str(UNSTEERED)
    shown = item_results(exam.items[:SHOWN], exam.questions[:SHOWN], {name: answered})
    classes = answer_classes(exam.items)
    if classes is None:
        return FirstLook(len(exam.items), "", None, {}, None, shown)
    right = np.bincount(classes.right, minlength=len(classes.names)) / len(exam.items)
    return FirstLook(
        n=len(exam.items),
        answers=classes.by,
        unsteered=discrimination(classes, name, answered),
        right=classes.named(right),
        interval=auc_interval(classes.logs(answered.scores), classes.right),
        items=shown,
    )
