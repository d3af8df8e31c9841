"""Whether steering changes what a model tells apart, or only which answer it leans to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tillerman.data.presenting import Item
from tillerman.evaluation.answered import Answered
from tillerman.evaluation.moved_wrong import item_slopes, moved_wrong_by, share_interval
from tillerman.logs.conditions import STEERED, UNSTEERED
from tillerman.logs.evidence import Bias, Discrimination
from tillerman.statistics import detection
from tillerman.statistics.estimates import bootstrap_mean, effect

MOST = 26  # answers; more words than letters are no answers that items have in common


@dataclass(frozen=True, eq=False)
class AnswerClasses:
    """By what the answers of items are told apart (``by``), the classes' names, each item's right one ``[n]`` and the
    class of each of its options."""

    by: str  # answer, letter or length
    names: tuple[str, ...]
    right: NDArray[np.int64]
    places: tuple[tuple[int, ...], ...]

    def logs(self, scores: Sequence[Sequence[float]]) -> NDArray[np.float64]:
        """Scores of options as log-probabilities of classes ``[n, k]``: the highest of a class, minus infinity where
        an item has none of it, NaN throughout where a score is no number."""
        found = np.full((len(scores), len(self.names)), -np.inf)
        for row, places, mine in zip(found, self.places, scores, strict=True):
            if not np.isfinite(mine).all():
                row[:] = np.nan
                continue
            for place, score in zip(places, mine, strict=True):
                row[place] = max(row[place], score)
        return found

    def named(self, rates: NDArray[np.float64]) -> dict[str, float]:
        return dict(zip(self.names, rates.tolist(), strict=True))


def answer_classes(items: Sequence[Item]) -> AnswerClasses | None:
    """Letters of lettered choices, words of yes/no questions (spelt alike but for case), the longer and the shorter
    of free texts. None for open questions, and for answers that items do not share."""
    kinds = {item.example.kind for item in items}
    if not kinds or "open" in kinds:
        return None
    if kinds <= {"choice", "yes_no"}:
        return _by_answer(items, "letter" if kinds == {"choice"} else "answer")
    longest = [int(np.argmax([len(text) for text in item.answers])) for item in items]
    places = [
        tuple(int(k != best) for k in range(len(item.answers))) for item, best in zip(items, longest, strict=True)
    ]
    right = [mine[item.right] for mine, item in zip(places, items, strict=True)]
    return AnswerClasses("length", ("longer", "shorter"), np.array(right), tuple(places))


def _by_answer(items: Sequence[Item], by: str) -> AnswerClasses | None:
    spelt: dict[str, str] = {}
    for item in items:
        for answer in item.answers if by == "letter" else item.example.options:  # not in the order shown
            spelt.setdefault(answer.strip().casefold(), answer.strip())
    if len(spelt) > MOST:
        return None
    order = sorted(spelt) if by == "letter" else list(spelt)
    places = [tuple(order.index(answer.strip().casefold()) for answer in item.answers) for item in items]
    right = [mine[item.right] for mine, item in zip(places, items, strict=True)]
    return AnswerClasses(by, tuple(spelt[key] for key in order), np.array(right), tuple(places))


def discrimination(classes: AnswerClasses, name: str, answered: Answered) -> Discrimination:
    """One condition's AUC and d', and how often it gives each answer."""
    logs = classes.logs(answered.scores)
    area, distance = detection.auc(logs, classes.right), detection.d_prime(logs, classes.right)
    return Discrimination(name, area, distance, classes.named(detection.rates(logs)))


def bias_of(
    items: Sequence[Item], answered: Mapping[str, Answered], curve: Mapping[float, Answered] | None = None
) -> Bias | None:
    """What conditions tell apart and lean to; ``answered`` has unsteered and steered, ``curve`` answers by dose.
    None where items have no classes of answers."""
    classes = answer_classes(items)
    if classes is None:
        return None
    before, after = (classes.logs(answered[name].scores) for name in (UNSTEERED, STEERED))
    names = dict.fromkeys((str(UNSTEERED), str(STEERED), *answered))
    found = tuple(discrimination(classes, name, answered[name]) for name in names)
    every = item_slopes(classes, curve or {})
    slopes = None if every is None else every[np.isfinite(every)]
    slopes = None if slopes is None or not len(slopes) else slopes
    told = all(one.auc is not None for one in found[:2])
    shifted = detection.at_rates(before, detection.answers(after)) == classes.right
    groups = [classes.names[k] for k in classes.right.tolist()]
    wrong = ~(detection.odds(after, classes.right) >= detection.odds(before, classes.right))
    return Bias(
        answers=classes.by,
        conditions=found,
        change=detection.auc_change(after, before, classes.right),
        moved_wrong=float(wrong.mean()),
        beyond=effect(detection.answers(after) == classes.right, shifted, groups) if told else None,
        slope=None if slopes is None else float(slopes.mean()),
        slope_wrong=None if slopes is None else float((slopes < 0).mean()),
        wrong_interval=share_interval(wrong),
        slope_interval=None if slopes is None else bootstrap_mean(slopes),
        slope_wrong_interval=None if slopes is None else share_interval(slopes < 0),
        wrong_by=moved_wrong_by(items, classes, wrong, answered[UNSTEERED].right),
    )
