"""Which pairs a scorer tells apart: one that the user names, or one that is learned from the pairs themselves.

The learned one is ``labels`` (docs/scorers.md), learned from four fifths of the questions and asked about the rest, so
that no pair is judged by what was learned from it. A pair is told apart where both answers lie on their own side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tillerman.data.making.filters import WrittenPair
from tillerman.data.splits import hash_fraction
from tillerman.evaluation.scorers.base import TextScorer, checked
from tillerman.evaluation.scorers.labels import NAME, AnswerPair, learn
from tillerman.statistics.ranking import area, area_interval
from tillerman.statistics.values import Interval

FOLDS, FEWEST = 5, 20  # pairs, below which nothing is learned from them
LEAST_AREA = 0.6


@dataclass(frozen=True)
class Telling:
    """Of each pair whether it is told apart; ``area``: under the curve, of all wanted against all unwanted answers
    that have a score, before any is dropped. None where nothing was scored."""

    scorer: str
    told: tuple[bool, ...]
    area: float | None = None
    interval: Interval | None = None
    n: int = 0

    @property
    def blind(self) -> str:
        """Why the sides cannot be told apart at all; empty where they can, and where there are too few to say."""
        if self.area is None or self.interval is None or self.n < FEWEST:
            return ""
        if self.area >= LEAST_AREA and self.interval.low > 0.5:
            return ""
        low, high = self.interval.low, self.interval.high
        return (
            f"the answers of the two sides cannot be told apart (scorer {self.scorer}: AUC {self.area:.2f}, {low:.2f} "
            f"to {high:.2f}, n = {self.n})"
        )


def tell_by_labels(pairs: Sequence[WrittenPair]) -> Telling:
    """By what is learned from the other folds of questions; all are kept where there are too few to learn from."""
    if len(pairs) < FEWEST:
        return Telling(NAME, (True,) * len(pairs))
    fold = np.array([int(hash_fraction(f"fold {pair.question}") * FOLDS) for pair in pairs])
    wanted, unwanted = np.zeros(len(pairs)), np.zeros(len(pairs))
    for k in range(FOLDS):
        here, rest = np.flatnonzero(fold == k).tolist(), np.flatnonzero(fold != k).tolist()
        if not here or not rest:
            continue
        scorer = learn([AnswerPair(pairs[i].wanted, pairs[i].unwanted) for i in rest])
        wanted[here] = scorer.log_odds([pairs[i].wanted for i in here])
        unwanted[here] = scorer.log_odds([pairs[i].unwanted for i in here])
    found = area(wanted, unwanted)
    told = tuple(bool(one) for one in (wanted > 0) & (unwanted < 0))
    return Telling(NAME, told, found, area_interval(found, len(pairs), len(pairs)), len(pairs))


def tell_by(scorer: TextScorer, pairs: Sequence[WrittenPair], margin: float = 0.0) -> Telling:
    """By a scorer of the user's: the wanted answer scores higher, by more than ``margin``. A pair of which an answer
    has no score is not told apart."""
    questions = [pair.question for pair in pairs]
    high = checked(scorer.name, scorer.scale, scorer.score(questions, [pair.wanted for pair in pairs]))
    low = checked(scorer.name, scorer.scale, scorer.score(questions, [pair.unwanted for pair in pairs]))
    told = tuple(a is not None and b is not None and a - b > margin for a, b in zip(high, low, strict=True))
    scored = [(a, b) for a, b in zip(high, low, strict=True) if a is not None and b is not None]
    if not scored:
        return Telling(scorer.name, told)
    found = area([a for a, _ in scored], [b for _, b in scored])
    return Telling(scorer.name, told, found, area_interval(found, len(scored), len(scored)), len(scored))


def measured(name: str, scores: NDArray[np.float64], wanted: NDArray[np.bool_]) -> Telling:
    """Of single texts: told apart where a wanted one scores above 0 and another below. A score that is no number is of
    a text that has none, and is not told apart."""
    known = np.isfinite(scores)
    told = tuple(bool(one) for one in known & np.where(wanted, scores > 0, scores < 0))
    high, low = scores[known & wanted], scores[known & ~wanted]
    found = area(high, low)
    return Telling(name, told, found, area_interval(found, len(high), len(low)), int(known.sum()))
