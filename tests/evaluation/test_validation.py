"""A scorer held against labels: agreement, threshold, ranking, disagreements, and what the log keeps."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from tillerman.core.errors import UsageError
from tillerman.data.reply_labels import ReplyLabels
from tillerman.evaluation.scorers.base import ScoreRange
from tillerman.evaluation.scorers.registry import text_scorer
from tillerman.evaluation.validation import BEST, validate, validate_again
from tillerman.logs.validation import ValidationLog

RATING = ScoreRange("rating", 0.0, 10.0)


@dataclass(frozen=True)
class Numbers:
    """Scores a reply by the number it begins with; none without."""

    scale: ScoreRange = RATING
    name: str = "numbers"
    note: str = "reads numbers"

    def score(self, prompts, replies):
        return [float(text.split()[0]) if text[:1].isdigit() else None for text in replies]


def replies(scores: list[float], labels: list[bool], **people: tuple[bool | None, ...]) -> ReplyLabels:
    texts = tuple(f"{score} is the score of reply number {k} of all of them here" for k, score in enumerate(scores))
    ids = tuple(f"r{k}" for k in range(len(scores)))
    return ReplyLabels("made", "label", ("1",), ids, ("",) * len(ids), texts, tuple(labels), people)


def planted(n: int = 200, noise: float = 2.0) -> ReplyLabels:
    draw = np.random.default_rng(1)
    labels = draw.random(n) < 0.4
    scores = np.clip(3 + 3 * labels + draw.normal(0, noise, n), 0, 9.9).round(2) + 0.001
    return replies(scores.tolist(), labels.tolist())


def test_a_scorer_that_is_right_has_kappa_1_and_one_that_guesses_has_none() -> None:
    right = validate(Numbers(), replies([9.0, 8, 9, 1, 2, 1] * 5, [True, True, True, False, False, False] * 5))
    assert right.agreed.same.value == 1 and right.agreed.kappa is not None and right.agreed.kappa.value == 1
    assert right.auc is not None and right.auc.value == 1 and right.wrong == ()
    draw = np.random.default_rng(0)
    guess = validate(Numbers(), replies((10 * draw.random(400)).tolist(), (draw.random(400) < 0.5).tolist()))
    assert guess.agreed.kappa is not None and guess.agreed.kappa.interval.low < 0 < guess.agreed.kappa.interval.high
    assert guess.auc is not None and guess.auc.interval.low < 0.5 < guess.auc.interval.high


def test_the_middle_of_the_range_is_the_threshold_and_another_can_be_given() -> None:
    made = planted()
    middle, given = validate(Numbers(), made), validate(Numbers(), made, 4.0)
    assert (middle.threshold, middle.how, given.threshold, given.how) == (5.0, "middle", 4.0, "given")
    assert validate_again(middle, 4.0) == given
    assert middle.auc == given.auc and middle.agreed.table != given.agreed.table


def test_a_chosen_threshold_is_judged_on_replies_that_had_no_part_in_it() -> None:
    """Of pure noise the best threshold looks better than chance on the replies that it was chosen on."""
    draw, inside, outside = np.random.default_rng(4), [], []
    for _ in range(30):
        made = replies((10 * draw.random(60)).round(3).tolist(), (draw.random(60) < 0.5).tolist())
        chosen = validate(Numbers(), made, BEST)
        inside.append(validate(Numbers(), made, chosen.threshold).agreed.same.balanced)
        outside.append(chosen.agreed.same.balanced)
    assert np.mean(inside) > 0.56 and abs(np.mean(outside) - 0.5) < 0.04 and chosen.how == "chosen"


def test_below_turns_scorer_and_ranking_round() -> None:
    made = planted()
    turned = replace(made, labels=tuple(not one for one in made.labels))
    up, down = validate(Numbers(), made), validate(Numbers(), turned, below=True)
    assert down.auc is not None and up.auc is not None and down.auc.value == pytest.approx(up.auc.value)
    assert down.agreed.same.value == pytest.approx(up.agreed.same.value)
    assert down.reliability is not None and up.reliability is not None
    assert down.reliability.brier.value == pytest.approx(up.reliability.brier.value)


def test_replies_that_cannot_be_measured_are_left_out_and_counted() -> None:
    made = planted()
    made = replace(made, replies=("nothing", *made.replies[1:]))
    log = validate(Numbers(), made)
    assert log.missing == 1 and log.agreed.table.n == 199 and log.replies[0].called is None


def test_disagreements_come_with_the_most_confident_first_and_begin_only() -> None:
    log = validate(Numbers(), planted())
    away = [abs((one.score or 0) - 5) for one in log.wrong]
    assert away == sorted(away, reverse=True) and len(away) == sum(log.agreed.table.counts[1:3])
    assert all(one.begins.endswith(" …") and not one.text for one in log.wrong)
    assert "all of them here" not in json.dumps(log.to_json())
    assert "all of them here" in validate(Numbers(), planted(), texts=True).replies[0].text


def test_annotators_are_held_against_the_scorer_and_each_other() -> None:
    made = planted()
    first = made.labels
    second = tuple(None if k % 10 == 0 else one != (k % 25 == 1) for k, one in enumerate(first))
    log = validate(Numbers(), replace(made, annotators={"ann": first, "bob": second}))
    assert [(one.first, one.second, one.table.n) for one in log.pairs] == [
        ("numbers", "label", 200),
        ("numbers", "ann", 200),
        ("numbers", "bob", 180),
        ("ann", "bob", 180),
    ]
    assert log.pairs[3].same.value == pytest.approx(172 / 180)


def test_a_scorer_of_yes_and_no_has_no_ranking_and_no_calibration() -> None:
    made = replace(planted(), replies=tuple("sorry" if k % 2 else "sure" for k in range(200)))
    log = validate(text_scorer("any:sorry"), made)
    assert log.auc is None and log.reliability is None and log.threshold == 0.5
    assert log.notes == ("2 of 200 replies are distinct; every one counts, so intervals are narrow by that",)


def test_a_range_without_end_asks_for_a_threshold_and_has_no_calibration() -> None:
    with pytest.raises(UsageError, match=r"'length' has no upper end \(words\).*give a number as `threshold`, or best"):
        validate(text_scorer("length"), planted())
    log = validate(text_scorer("length"), replace(planted(), replies=tuple("a " * (k % 7) for k in range(200))), 3.0)
    assert log.auc is not None and log.reliability is None and (log.low, log.high) == (0.0, None)


def test_what_leaves_nothing_to_hold_against_is_refused() -> None:
    made = planted()
    with pytest.raises(UsageError, match="measured 0 of 200 replies, of one label only"):
        validate(Numbers(), replace(made, replies=("x",) * 200))
    with pytest.raises(UsageError, match="`threshold` 'good': a number, or best"):
        validate(Numbers(), made, "good")


def test_the_log_is_read_back_as_it_was() -> None:
    log = validate(Numbers(), replace(planted(), annotators={"ann": planted().labels}))
    assert ValidationLog.from_json(json.loads(json.dumps(log.to_json()))) == log
