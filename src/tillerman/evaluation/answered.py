"""What one condition answers to the items of an exam: what was given, whether it is right, and by which scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tillerman.data.presenting import Item, options_shown
from tillerman.data.thoughts import Reply, is_right
from tillerman.evaluation.scoring import best
from tillerman.logs.evidence import ItemAnswer, ItemResult

NO_ANSWER = ""  # of a model that steering has broken, or that never came to an end


@dataclass(frozen=True, eq=False)
class Answered:
    """``scores`` are log-probabilities of each item's options, up to a constant of the item; of an open question
    there are none."""

    right: NDArray[np.bool_]
    given: tuple[str, ...]
    scores: tuple[tuple[float, ...], ...]

    @classmethod
    def chosen(cls, items: Sequence[Item], scores: Sequence[Sequence[float]]) -> Answered:
        """Of items with options: the one with the highest score is given."""
        places = [best(row) for row in scores]
        right = np.array([place == item.right for place, item in zip(places, items, strict=True)], dtype=bool)
        given = [NO_ANSWER if k < 0 else item.answers[k] for k, item in zip(places, items, strict=True)]
        return cls(right, tuple(given), tuple(map(tuple, scores)))

    @classmethod
    def written(cls, items: Sequence[Item], replies: Sequence[Reply]) -> Answered:
        """Of open questions: right where the reply comes to the reference."""
        right = [is_right(reply, item.answers[item.right]) for reply, item in zip(replies, items, strict=True)]
        given = tuple(reply.answer or NO_ANSWER for reply in replies)
        return cls(np.array(right, dtype=bool), given, ((),) * len(items))

    def where(self, mask: NDArray[np.bool_], other: Answered) -> Answered:
        """These answers where the mask is true, those of the other condition elsewhere."""
        pick = [(self if here else other) for here in mask.tolist()]
        return Answered(
            np.where(mask, self.right, other.right),
            tuple(one.given[i] for i, one in enumerate(pick)),
            tuple(one.scores[i] for i, one in enumerate(pick)),
        )


def item_results(
    items: Sequence[Item],
    questions: Sequence[str],
    answered: Mapping[str, Answered],
    slopes: NDArray[np.float64] | None = None,
) -> tuple[ItemResult, ...]:
    """Every item with its question as the model saw it, and what each condition answered; ``slopes`` of their log-odds
    over the doses, where these are known."""
    found = []
    for i, (item, question) in enumerate(zip(items, questions, strict=True)):
        answers = tuple(
            ItemAnswer(name, one.given[i], bool(one.right[i]), _finite(one.scores[i])) for name, one in answered.items()
        )
        right = item.answers[item.right]
        slope = None if slopes is None or not np.isfinite(slopes[i]) else float(slopes[i])
        fields = {name: str(value) for name, value in item.example.extra.items()}
        found.append(ItemResult(item.example.id, question, options_shown(item), right, answers, slope, fields))
    return tuple(found)


def _finite(scores: tuple[float, ...]) -> tuple[float, ...]:
    """None of a broken model: JSON has no word for what is no number."""
    return scores if np.isfinite(scores).all() else ()
