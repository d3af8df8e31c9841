"""The bias of a model's answers: what it likes to say, whatever it is asked."""

from __future__ import annotations

import numpy as np

from tillerman.core.errors import UsageError
from tillerman.core.rows import Progress, silent
from tillerman.core.store import Store
from tillerman.evaluation.bias import answer_classes
from tillerman.evaluation.exam import Exam


def answer_offsets(exam: Exam, store: Store, progress: Progress = silent) -> dict[str, float]:
    """Nats by which the unsteered model likes each answer word or letter better than others, on these items; their
    mean is 0. Subtracted from the log-probabilities they put the criterion in the middle: between two answers, at the
    mean of the mean log-odds where either is right (Macmillan and Creelman 2005, chapter 2: c = 0).

    An offset is the mean log-probability of the answer among the item's answers, over items with the same right
    answer and then over right answers, so that it does not matter how often each is right. ``UsageError`` for free
    texts and open questions, and where one answer is right for all items: what the model knows and what it likes to
    say are then the same.
    """
    if not exam.items:
        raise UsageError("`calibrate`: the bias of answers is measured on validation items, and there are none")
    kind = exam.items[0].example.kind
    classes = answer_classes(exam.items) if kind in ("choice", "yes_no") else None
    if classes is None:
        raise UsageError(
            f"`calibrate`: the bias of answers is that of a word or a letter, and items of kind {kind} have no answers "
            "in common; leave it out"
        )
    rights = np.unique(classes.right)
    if len(rights) < 2:
        raise UsageError(
            f"`calibrate`: {classes.names[rights[0]]!r} is right for all {len(exam.items)} validation items, so a bias "
            "cannot be told from knowledge; give data with other right answers, or show yes/no questions by `as_choice`"
        )
    (scores,) = exam.scores_under([()], store, progress)
    logs = classes.logs(scores)
    logs = logs - np.logaddexp.reduce(logs, 1, keepdims=True)
    there = np.where(np.isneginf(logs), np.nan, logs)  # not every item has every letter
    means = np.array([[_mean(there[classes.right == right, k]) for k in range(logs.shape[1])] for right in rights])
    offsets = np.array([_mean(column) for column in means.T])
    return classes.named(offsets - offsets.mean())


def _mean(values: np.ndarray) -> float:
    """Over those that there are; 0 where there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else 0.0
