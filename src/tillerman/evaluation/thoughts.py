"""How long a reasoning model thinks, whether it comes to an end, and whether its answer is right.

The log is plain values, written to JSON and read back. Lengths are tokens between the thinking tags.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tillerman.core.errors import DataError
from tillerman.data.thoughts import Reply, is_right
from tillerman.logs.thoughts import Mean, Thinking
from tillerman.statistics.estimates import bootstrap_mean, effect, rate


def thinking(
    name: str,
    replies: Sequence[Reply],
    references: Sequence[str | None],
    unsteered: Sequence[Reply] | None = None,
    *,
    detail: str = "",
    strength: float = 0.0,
) -> Thinking:
    """The figures of one condition; ``unsteered`` are the replies it is compared with, item by item."""
    lengths = _lengths(replies)
    right = _right(replies, references)
    base = None if unsteered is None else _right(unsteered, references)
    one = ["all"] * len(replies)
    return Thinking(
        name=name,
        detail=detail,
        strength=strength,
        length=_mean(lengths),
        change=None if unsteered is None else _mean(lengths - _lengths(unsteered)),
        stripped=_mean(np.array([reply.stripped for reply in replies], dtype=np.float64)),
        repetition=float(np.mean([reply.repetition for reply in replies])),
        unfinished=rate(np.array([not reply.finished or reply.answer is None for reply in replies]), one),
        thoughtless=float(np.mean([not reply.thought for reply in replies])),
        right=None if right is None else rate(right, one),
        effect=None if right is None or base is None else effect(right, base, one),
    )


def ensure_thoughts(replies: Sequence[Reply]) -> None:
    """``DataError`` where no reply has a thought whose length could be measured."""
    if not any(reply.thought for reply in replies):
        raise DataError(
            f"none of {len(replies)} unsteered replies has a thought between its tags; this model does not think on "
            "these questions, or `answer_tokens` is too small"
        )


def _lengths(replies: Sequence[Reply]) -> NDArray[np.float64]:
    return np.array([len(reply.thought) for reply in replies], dtype=np.float64)


def _right(replies: Sequence[Reply], references: Sequence[str | None]) -> NDArray[np.bool_] | None:
    known = [r for r in references if r is not None]
    if len(known) < len(references):
        return None
    return np.array([is_right(reply, reference) for reply, reference in zip(replies, known, strict=True)])


def _mean(values: NDArray[np.float64]) -> Mean:
    return Mean(float(values.mean()), bootstrap_mean(values), len(values))
