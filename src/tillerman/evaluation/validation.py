"""A scorer or judge held against replies that people have labelled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tillerman.core.errors import UsageError
from tillerman.data.reply_labels import ReplyLabels
from tillerman.data.splits import hash_fraction
from tillerman.evaluation.scorers.base import TextScorer, checked
from tillerman.logs.validation import CHOSEN, GIVEN, MIDDLE, Pairwise, RatedReply, ValidationLog
from tillerman.statistics.agreement import Statistic
from tillerman.statistics.confusion import Confusion, Flags, Reliability, best_threshold, cohen_kappa, reliability
from tillerman.statistics.ranking import area, area_interval

BEST = "best"  # the threshold that tells these replies apart best
FOLDS = 5
_WORDS = 8  # of a reply that a log holds unless it is to hold all
_LONG = 60  # characters of them


def validate(
    scorer: TextScorer,
    replies: ReplyLabels,
    threshold: float | str | None = None,
    *,
    below: bool = False,
    texts: bool = False,
) -> ValidationLog:
    """Scores every reply and holds the scores against the labels. A score above ``threshold`` is called yes (with
    ``below`` one below it): None is the middle of the scorer's range, ``best`` is chosen on these replies, each fifth
    by the other four. ``texts``: the log holds whole replies, not their first words alone.

    ``UsageError`` where no reply could be measured, a label is left without one, or the range has no middle.
    """
    scores = checked(scorer.name, scorer.scale, scorer.score(replies.prompts, replies.replies))
    low, high = (end if math.isfinite(end) else None for end in (scorer.scale.low, scorer.scale.high))
    said = list(zip(*replies.annotators.values(), strict=True)) or [()] * len(scores)
    rated = tuple(
        RatedReply(id, label, score, None, _begin(text), people, text if texts else "")
        for id, label, score, text, people in zip(
            replies.ids, replies.labels, scores, replies.replies, said, strict=True
        )
    )
    log = ValidationLog(
        scorer.name,
        scorer.scale.unit,
        low,
        high,
        scorer.note,
        replies.name,
        replies.digest,
        replies.column,
        replies.wanted,
        tuple(replies.annotators),
        0.0,
        GIVEN,
        below,
        rated,
        (),
        notes=_repeated(replies.replies),
    )
    return validate_again(log, threshold, below=below)


def validate_again(
    log: ValidationLog, threshold: float | str | None = None, *, below: bool | None = None
) -> ValidationLog:
    """The log with another threshold, or direction, from the scores that it holds."""
    below = log.below if below is None else below
    there = [one for one in log.replies if one.score is not None]
    labels = np.array([one.label for one in there], dtype=np.bool_)
    if labels.all() or not labels.any():
        counted = f"{len(there)} of {len(log.replies)} replies"
        raise UsageError(f"scorer {log.scorer!r} measured {counted}, of one label only: give replies of both")
    scores = np.array([one.score for one in there], dtype=np.float64)
    at, how, called = _called(log, scores, labels, [one.begins for one in there], threshold, below)
    given = iter(called.tolist())
    rated = tuple(replace(one, called=None if one.score is None else next(given)) for one in log.replies)
    graded = len(np.unique(scores)) > 2
    signed = -scores if below else scores
    return replace(
        log,
        threshold=at,
        how=how,
        below=below,
        replies=rated,
        pairs=_pairs(log, rated),
        auc=_area(signed, labels) if graded else None,
        reliability=_reliability(log, scores, labels, below) if graded else None,
    )


def _called(
    log: ValidationLog,
    scores: NDArray[np.float64],
    labels: Flags,
    begins: Sequence[str],
    threshold: float | str | None,
    below: bool,
) -> tuple[float, str, Flags]:
    """The threshold, how it came about, and which replies are called yes. Folds go by first words, so that a reply that
    many prompts got is not on both sides."""
    sign = -1.0 if below else 1.0
    if threshold == BEST:
        fold = np.array([int(FOLDS * hash_fraction(one)) for one in begins])
        called = np.zeros(len(scores), dtype=np.bool_)
        for k in np.unique(fold).tolist():
            rest = fold != k
            if labels[rest].all() or not labels[rest].any() or np.ptp(scores[rest]) == 0:
                raise UsageError(
                    f"{len(scores)} replies are too few, or begin too much alike, to choose a threshold on some "
                    "of them for others; give a number as `threshold`"
                )
            called[~rest] = sign * scores[~rest] > best_threshold(sign * scores[rest], labels[rest])
        return sign * best_threshold(sign * scores, labels), CHOSEN, called
    if isinstance(threshold, str):
        raise UsageError(f"`threshold` {threshold!r}: a number, or {BEST}")
    if threshold is None and (log.low is None or log.high is None):
        raise UsageError(
            f"scorer {log.scorer!r} has no upper end ({log.unit}), so its range no middle; give a number as "
            f"`threshold`, or {BEST}, which is chosen on these replies"
        )
    at = threshold if threshold is not None else ((log.low or 0.0) + (log.high or 0.0)) / 2
    return at, MIDDLE if threshold is None else GIVEN, np.asarray(sign * scores > sign * at)


def _pairs(log: ValidationLog, rated: Sequence[RatedReply]) -> tuple[Pairwise, ...]:
    """The scorer against the label and against every annotator, and those against each other."""
    called, label = [one.called for one in rated], [one.label for one in rated]
    people = {name: [one.said[k] for one in rated] for k, name in enumerate(log.annotators)}
    found = [_pair(log.scorer, log.column, called, label)]
    found += [_pair(log.scorer, name, called, said) for name, said in people.items()]
    names = list(people)
    found += [
        _pair(first, second, people[first], people[second])
        for k, first in enumerate(names)
        for second in names[k + 1 :]
    ]
    return tuple(one for one in found if one is not None)


def _pair(first: str, second: str, one: Sequence[bool | None], other: Sequence[bool | None]) -> Pairwise | None:
    """None where they share no reply."""
    both = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    if not both:
        return None
    a, b = np.array(both, dtype=np.bool_).T
    table = Confusion.of(a, b)
    return Pairwise(first, second, table, table.accuracy, cohen_kappa(table))


def _area(scores: NDArray[np.float64], labels: Flags) -> Statistic:
    found = area(scores[labels], scores[~labels])
    return Statistic(found, area_interval(found, int(labels.sum()), int((~labels).sum())))


def _reliability(log: ValidationLog, scores: NDArray[np.float64], labels: Flags, below: bool) -> Reliability | None:
    """Of scores read as a share of their range; None where it has no ends."""
    if log.low is None or log.high is None or log.high <= log.low:
        return None
    shares = np.clip((scores - log.low) / (log.high - log.low), 0.0, 1.0)
    return reliability(1 - shares if below else shares, labels)


def _begin(text: str) -> str:
    words = text.split()
    begun = " ".join(words[:_WORDS])
    cut = len(words) > _WORDS or len(begun) > _LONG
    return f"{begun[:_LONG]} …" if cut else begun


def _repeated(texts: Sequence[str]) -> tuple[str, ...]:
    distinct = len(set(texts))
    if distinct == len(texts):
        return ()
    return (f"{distinct:,} of {len(texts):,} replies are distinct; every one counts, so intervals are narrow by that",)
