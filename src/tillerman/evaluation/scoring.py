"""Which answer a model gives to each item."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import Progress, silent
from tillerman.data.writing import Written
from tillerman.models.logits import answer_logprobs, option_logprobs, option_restarts
from tillerman.models.opened import OpenModel
from tillerman.models.restart import Restart, border_of


def answers_given(
    opened: OpenModel, written: Sequence[Written], progress: Progress = silent, restart: Restart | None = None
) -> NDArray[np.int64]:
    """The most likely answer per item: by its first token where that tells the answers apart, else
    by the mean log-probability per token of the whole answer. One forward per prompt or answer. -1 where
    the scores are not numbers (a model that steering has wrecked): no answer, so never a right one."""
    given = np.zeros(len(written), dtype=np.int64)
    short = [i for i, w in enumerate(written) if not w.whole]
    scores = option_logprobs(
        opened,
        [written[i].prompt for i in short],
        [[answer[0] for answer in written[i].answers] for i in short],
        restart=restart,
        progress=progress,
    )
    for i, score in zip(short, scores, strict=True):
        given[i] = _best(score.tolist())
    long = [i for i, w in enumerate(written) if w.whole]
    rows = [written[i].row(k) for i in long for k in range(len(written[i].answers))]
    whole = iter(answer_logprobs(opened, rows, progress=progress).tolist())
    for i in long:
        given[i] = _best([next(whole) for _ in written[i].answers])
    return given


def restarts_for(
    opened: OpenModel, written: Sequence[Written], points: Sequence[HookPoint]
) -> dict[HookPoint, Restart]:
    """Where passes over these items may start when one of the points is edited; whole answers, whose
    rows are another list, start at the embedding."""
    short = [w.prompt for w in written if not w.whole]
    borders = sorted({border_of(point) for point in points} - {0})
    found = option_restarts(opened, short, borders) if short else {}
    return {point: found[border_of(point)] for point in points if border_of(point) in found}


def _best(scores: Sequence[float]) -> int:
    return -1 if np.isnan(scores).any() else int(np.argmax(scores))


def correct(given: NDArray[np.int64], written: Sequence[Written]) -> NDArray[np.bool_]:
    return np.equal(given, np.array([w.right for w in written], dtype=np.int64))
