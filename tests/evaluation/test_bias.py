"""A push towards yes and a push towards the behaviour are two things, and the log tells them apart."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

import tillerman
from tillerman.core.cell import Cell
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Scope
from tillerman.data.examples import Example
from tillerman.data.presenting import options_shown, present
from tillerman.evaluation.answered import Answered, item_results
from tillerman.evaluation.bias import answer_classes, bias_of
from tillerman.logs.evidence import Bias
from tillerman.reports.bias import only_bias

from .. import planted

WHOLE = replace(planted.SMALL, shares=(0.0, 0.0, 1.0), prompt="Say yes to cats.")


@cache
def pushed(axis: int, strength: float, count: int = 120) -> tillerman.EvaluationLog:
    opened = planted.teller()
    direction = torch.zeros(opened.parts.width)
    direction[axis] = 1.0
    cell = Cell((HookPoint(0),), strength, "add", Scope("all"))
    artefact = tillerman.Artefact(opened.vector({0: direction}, name="planted"), cell)
    return tillerman.evaluate(artefact, WHOLE, opened, planted.signed(1, count))


def bias(log: tillerman.EvaluationLog) -> Bias:
    assert log.bias is not None
    return log.bias


@pytest.mark.slow
def test_a_planted_leaning_and_a_planted_trait_are_told_apart() -> None:
    leaning, trait = pushed(planted.LEANING, 1.2), pushed(planted.TRAIT, 8.0)
    assert leaning.effect.found and trait.effect.found
    assert "shift" in only_bias(leaning)
    assert only_bias(trait) == ""


@pytest.mark.slow
def test_a_planted_leaning_moves_the_rates_and_nothing_else() -> None:
    found = bias(pushed(planted.LEANING, 1.2))
    before, after = found.conditions[:2]
    assert (before.condition, after.condition) == ("unsteered", "steered")
    assert before.rates["Yes"] < 0.05 and after.rates["Yes"] > 0.3
    assert before.auc is not None and 0.6 < before.auc < 0.9
    assert after.auc == pytest.approx(before.auc, abs=1e-3)
    assert found.change is not None and found.change.interval.low < 0 < found.change.interval.high
    assert found.beyond is not None and abs(found.beyond.value) < 0.02
    assert 0.35 < found.moved_wrong < 0.65
    assert found.slope_wrong is not None and 0.35 < found.slope_wrong < 0.65


@pytest.mark.slow
def test_a_planted_trait_is_told_apart_better_and_moves_no_item_the_wrong_way() -> None:
    found = bias(pushed(planted.TRAIT, 8.0))
    assert found.change is not None and found.change.interval.low > 0.1
    assert found.condition("steered").auc == pytest.approx(1.0)
    assert found.beyond is not None and found.beyond.found
    assert found.moved_wrong == 0
    assert found.slope is not None and found.slope > 0 and found.slope_wrong == 0


def test_prompt_and_both_have_rows_too_and_the_log_survives_json() -> None:
    log = pushed(planted.TRAIT, 8.0)
    assert [one.condition for one in bias(log).conditions] == ["unsteered", "steered", "prompt", "both"]
    assert tillerman.EvaluationLog.from_json(log.to_json()) == log


def test_every_item_says_what_was_asked_answered_and_how_likely() -> None:
    log = pushed(planted.TRAIT, 8.0)
    assert len(log.items) == log.n_test
    for name in ("unsteered", "steered", "prompt", "both"):
        said = [next(a for a in item.answers if a.condition == name) for item in log.items]
        assert np.mean([a.right for a in said]) == pytest.approx(log.condition(name).rate.value)
        for item, answer in zip(log.items, said, strict=True):
            assert answer.given == item.options[int(np.argmax(answer.logprobs))]
            assert answer.right == (answer.given == item.right)
    assert all(item.question.endswith("Answer:") for item in log.items)
    assert len({item.id for item in log.items}) == log.n_test


def test_a_card_carries_no_items() -> None:
    log = pushed(planted.TRAIT, 8.0)
    assert tillerman.EvaluationLog.from_json(log.for_card()) == replace(log, items=())


def test_strength_zero_moves_nothing_and_has_no_slope() -> None:
    found = bias(pushed(planted.TRAIT, 0.0, 40))
    assert found.moved_wrong == 0 and found.slope is None
    assert found.conditions[0].rates == found.conditions[1].rates


def answered(items, scores) -> Answered:
    return Answered.chosen(items, scores)


def texts(count: int) -> tuple:
    rows = [Example("preference", f"Say {i}", ("short", "a longer one"), i % 2) for i in range(count)]
    return present(rows, keep_order=True)


def test_free_texts_are_told_apart_by_length() -> None:
    items = texts(40)
    plain = [(0.3 * math.sin(i), 0.0) for i in range(40)]
    longer = [(a - 1.0, b) for a, b in plain]
    found = bias_of(items, {"unsteered": answered(items, plain), "steered": answered(items, longer)})
    assert found is not None and found.answers == "length"
    assert found.conditions[1].rates == {"longer": 1.0, "shorter": 0.0}
    assert found.conditions[1].auc == pytest.approx(found.conditions[0].auc)


def test_where_all_right_answers_are_longer_discrimination_cannot_be_told() -> None:
    items = tuple(item for item in texts(40) if item.right == 1)
    scores = answered(items, [(0.0, 1.0)] * len(items))
    found = bias_of(items, {"unsteered": scores, "steered": scores})
    assert found is not None
    assert (found.change, found.beyond, found.conditions[0].auc) == (None, None, None)


def test_letters_of_items_with_different_numbers_of_options_are_told_apart() -> None:
    rows = [Example("choice", f"Q{i}", ("x", "y", "z")[: 2 + i % 2], i % 2) for i in range(30)]
    items = present(rows)
    classes = answer_classes(items)
    assert classes is not None and (classes.by, classes.names) == ("letter", ("A", "B", "C"))
    logs = classes.logs([[0.0] * len(item.answers) for item in items])
    assert np.isneginf(logs[:, 2]).sum() == 15


def test_words_that_differ_in_case_are_one_answer_and_open_questions_have_none() -> None:
    mixed = present([Example("yes_no", "Q1", ("Yes", "No"), 0), Example("yes_no", "Q2", ("no", "yes"), 0)])
    classes = answer_classes(mixed)
    assert classes is not None and classes.names == ("Yes", "No")
    assert classes.right.tolist() == [0, 1]
    assert answer_classes(present([Example("open", "Q", ("4",), 0)])) is None


def test_scores_that_are_no_numbers_are_no_answer() -> None:
    items = texts(4)
    said = answered(items, [(0.0, 1.0), (math.nan, 0.0), (1.0, 0.0), (0.0, 1.0)])
    assert said.given[1] == "" and not said.right[1]
    assert item_results(items, ["q"] * 4, {"steered": said})[1].answers[0].given == ""


def test_options_are_shown_with_their_letters() -> None:
    (choice,) = present([Example("choice", "Q", ("red", "blue"), 0)], keep_order=True)
    assert options_shown(choice) == ("A: red", "B: blue")
    assert options_shown(texts(1)[0]) == ("short", "a longer one")


def test_answers_under_a_gate_are_those_of_the_side_it_lets_through() -> None:
    items = texts(3)
    one, other = answered(items, [(1.0, 0.0)] * 3), answered(items, [(0.0, 2.0)] * 3)
    mixed = one.where(np.array([True, False, True]), other)
    assert mixed.given == ("short", "a longer one", "short")
    assert mixed.scores[1] == (0.0, 2.0)
    assert mixed.right.tolist() == [one.right[0], other.right[1], one.right[2]]
