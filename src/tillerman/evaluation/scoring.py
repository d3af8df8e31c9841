"""Which answer a model gives to each item."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tillerman.core.rows import Progress, silent
from tillerman.data.writing import Written
from tillerman.models.grid import branch_fault
from tillerman.models.logits import answer_logprobs, option_logprobs
from tillerman.models.opened import OpenModel
from tillerman.models.unsteered import unsteered_answers, unsteered_options


def answers_given(
    opened: OpenModel, written: Sequence[Written], progress: Progress = silent, *, unsteered: bool = False
) -> NDArray[np.int64]:
    """The most likely answer per item: by its first token where that tells the answers apart, else
    by the mean log-probability per token of the whole answer. One forward per prompt or answer. -1 where
    the scores are not numbers (steering has broken the model): no answer, so never a right one.
    ``unsteered`` (no edit is running) lets prompts that begin alike share their beginning."""
    scores = option_scores(opened, written, progress, unsteered=unsteered)
    return np.array([best(row) for row in scores], dtype=np.int64)


def option_scores(
    opened: OpenModel, written: Sequence[Written], progress: Progress = silent, *, unsteered: bool = False
) -> list[list[float]]:
    """What ``answers_given`` goes by, ``[items][options]``: log-probabilities up to a constant of the item."""
    found: list[list[float]] = [[] for _ in written]
    short = [i for i, w in enumerate(written) if not w.whole]
    prompts = [written[i].prompt for i in short]
    options = [[answer[0] for answer in written[i].answers] for i in short]
    long = [i for i, w in enumerate(written) if w.whole]
    if unsteered and all(w.prompt for w in written) and branch_fault(opened) is None:
        scores = unsteered_options(opened, prompts, options, progress=progress)
        asked, answers = [written[i].prompt for i in long], [written[i].answers for i in long]
        whole = [one.tolist() for one in unsteered_answers(opened, asked, answers, progress=progress)]
    else:
        scores = option_logprobs(opened, prompts, options, progress=progress)
        rows = [written[i].row(k) for i in long for k in range(len(written[i].answers))]
        each = iter(answer_logprobs(opened, rows, progress=progress).tolist())
        whole = [[next(each) for _ in written[i].answers] for i in long]
    for i, score in zip(short, scores, strict=True):
        found[i] = score.tolist()
    for i, means in zip(long, whole, strict=True):
        found[i] = means
    return [calibrated(row, w) for row, w in zip(found, written, strict=True)]


def calibrated(scores: Sequence[float], written: Written) -> list[float]:
    """An item's scores without the bias of its answers, where that was measured."""
    count = len(written.offsets)  # a row may have columns beyond the item's last answer
    return [*(score - nats for score, nats in zip(scores[:count], written.offsets, strict=True)), *scores[count:]]


def best(scores: Sequence[float]) -> int:
    """The place of the highest score; -1, no answer, where a score is not a number."""
    return -1 if np.isnan(scores).any() else int(np.argmax(scores))


def correct(given: NDArray[np.int64], written: Sequence[Written]) -> NDArray[np.bool_]:
    return np.equal(given, np.array([w.right for w in written], dtype=np.int64))
