"""Scorers of answers, from the model's scores of an item's options.

Scores are log-probabilities up to a constant of the item (logits order and differ as they do): of the option's first
token, or of the whole answer per token where one token does not tell the options apart (``Written.whole``). A score
that is not a number (steering has broken the model) makes accuracy 0 and the other values None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tillerman.core.errors import DataError, UnknownNameError
from tillerman.data.presenting import Item
from tillerman.evaluation.scorers.base import AnswerKey, AnswerScorer, ScoreRange
from tillerman.evaluation.scoring import best
from tillerman.statistics.scores import Value

AGAINST = ("rest", "best")
_RIGHT = ScoreRange("share", 0.0, 1.0, "more")
_ODDS = ScoreRange("nats", -math.inf, math.inf, "more")
_VARIATION = ScoreRange("share", 0.0, 1.0, "less")
_DIVERGENCE = ScoreRange("nats", 0.0, math.inf, "less")


def answer_keys(items: Sequence[Item], shares: Sequence[Sequence[float]] | None = None) -> list[AnswerKey]:
    """Of items as they are presented; ``shares`` of people per option, in the order of the item's answers."""
    given = shares if shares is not None else [()] * len(items)
    return [
        AnswerKey(item.right, item.answers[item.right], tuple(mine)) for item, mine in zip(items, given, strict=True)
    ]


@dataclass(frozen=True)
class Accuracy:
    """1 where the right option has the highest score, else 0."""

    name: str = "accuracy"
    scale: ScoreRange = _RIGHT

    def score(self, scores: Sequence[Sequence[float]], keys: Sequence[AnswerKey]) -> list[Value]:
        return [float(best(row) == key.right) for row, key in zip(scores, keys, strict=True)]


@dataclass(frozen=True)
class LogOdds:
    """``log p(right) - log sum_wrong p`` in nats; against ``best``, ``log p(right) - max_wrong log p``. Above 0 the
    right answer has more than all wrong ones (than each of them). For two options both are the same."""

    name: str = "log-odds"
    against: str = "rest"
    scale: ScoreRange = _ODDS

    def __post_init__(self) -> None:
        if self.against not in AGAINST:
            raise UnknownNameError("rival of the right answer", self.against, AGAINST)

    def score(self, scores: Sequence[Sequence[float]], keys: Sequence[AnswerKey]) -> list[Value]:
        def odds(row: NDArray[np.float64], key: AnswerKey) -> float:
            wrong = np.delete(row, key.right)
            return float(row[key.right] - (np.logaddexp.reduce(wrong) if self.against == "rest" else wrong.max()))

        return _each(odds, scores, keys)


@dataclass(frozen=True)
class TotalVariation:
    """``1/2 sum |p - q|`` between people's shares p and the model's over the same options q."""

    name: str = "target-tv"
    scale: ScoreRange = _VARIATION

    def score(self, scores: Sequence[Sequence[float]], keys: Sequence[AnswerKey]) -> list[Value]:
        return _each(lambda row, key: float(np.abs(_people(row, key) - np.exp(_chances(row))).sum()) / 2, scores, keys)


@dataclass(frozen=True)
class Divergence:
    """``KL(people || model) = sum p (log p - log q)`` in nats over the same options; an option that nobody chose
    adds nothing."""

    name: str = "target-kl"
    scale: ScoreRange = _DIVERGENCE

    def score(self, scores: Sequence[Sequence[float]], keys: Sequence[AnswerKey]) -> list[Value]:
        def divergence(row: NDArray[np.float64], key: AnswerKey) -> float:
            people, said = _people(row, key), _chances(row)
            some = people > 0
            return max(0.0, float((people[some] * (np.log(people[some]) - said[some])).sum()))

        return _each(divergence, scores, keys)


def _each(
    value: Callable[[NDArray[np.float64], AnswerKey], float],
    scores: Sequence[Sequence[float]],
    keys: Sequence[AnswerKey],
) -> list[Value]:
    rows = [np.asarray(row, dtype=np.float64) for row in scores]
    found = [value(row, key) if np.isfinite(row).all() else None for row, key in zip(rows, keys, strict=True)]
    return [None if one is None or not math.isfinite(one) else one for one in found]


def _chances(row: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(row - np.logaddexp.reduce(row))


def _people(row: NDArray[np.float64], key: AnswerKey) -> NDArray[np.float64]:
    people = np.asarray(key.shares, dtype=np.float64)
    if people.shape != row.shape or people.min() < 0 or abs(people.sum() - 1) > 1e-6:
        raise DataError(f"shares {key.shares} of {len(row)} options: expected as many, none below 0, sum 1")
    return people


SCORERS: Mapping[str, AnswerScorer] = {
    "accuracy": Accuracy(),
    "log-odds": LogOdds(),
    "log-odds-best": LogOdds("log-odds-best", against="best"),
    "target-tv": TotalVariation(),
    "target-kl": Divergence(),
}
