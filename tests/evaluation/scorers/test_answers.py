"""Scorers of answers: known values, and the model's own probabilities under a plan."""

from __future__ import annotations

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from tillerman.core.errors import DataError, UnknownNameError, UsageError
from tillerman.core.plan import Intervention, Scope
from tillerman.core.store import Store
from tillerman.data.examples import Example
from tillerman.data.presenting import present
from tillerman.data.writing import make_writer
from tillerman.evaluation.exam import Exam
from tillerman.evaluation.scorers.answers import LogOdds, answer_keys
from tillerman.evaluation.scorers.base import AnswerKey
from tillerman.evaluation.scorers.registry import ANSWER_SCORERS
from tillerman.statistics.scores import figure
from tillerman.steering.steer import steer

from ... import tiny

THREE = np.log([0.2, 0.3, 0.5]).tolist()


def one(name, row, right=0, shares=()):
    (value,) = ANSWER_SCORERS[name].score([row], [AnswerKey(right, "A", shares)])
    return value


def test_log_odds_are_against_all_wrong_answers_together_or_the_best_of_them():
    assert one("log-odds", THREE, 2) == pytest.approx(0)  # half the probability
    assert one("log-odds", THREE, 0) == pytest.approx(math.log(0.2 / 0.8))
    assert one("log-odds-best", THREE, 2) == pytest.approx(math.log(0.5 / 0.3))
    assert one("accuracy", THREE, 2) == 1 and one("accuracy", THREE, 1) == 0


def test_distances_to_people_are_those_of_the_definitions():
    people = (0.5, 0.5, 0.0)
    assert one("target-tv", THREE, shares=people) == pytest.approx((0.3 + 0.2 + 0.5) / 2)
    assert one("target-kl", THREE, shares=people) == pytest.approx(
        0.5 * math.log(0.5 / 0.2) + 0.5 * math.log(0.5 / 0.3)
    )
    assert one("target-kl", THREE, shares=(0.2, 0.3, 0.5)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", ANSWER_SCORERS)
def test_a_constant_added_to_an_items_scores_changes_nothing(name):
    shares = (0.1, 0.2, 0.7)
    moved = [score + 37.5 for score in THREE]
    assert one(name, moved, 1, shares) == pytest.approx(one(name, THREE, 1, shares))


@pytest.mark.parametrize("name", sorted(set(ANSWER_SCORERS) - {"accuracy"}))
def test_a_wrecked_model_gives_no_value_and_no_right_answer(name):
    assert one(name, [math.nan, 0.0, 0.0], 1, (0.1, 0.2, 0.7)) is None
    assert one("accuracy", [math.nan, 0.0, 0.0], 1) == 0


@pytest.mark.parametrize("shares", [(), (0.5, 0.5), (0.5, 0.6, 0.5), (1.5, -0.5, 0.0)])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(DataError, match="expected as many, none below 0, sum 1"):
        one("target-tv", THREE, shares=shares)


def test_an_unknown_rival_is_refused():
    with pytest.raises(UnknownNameError, match="known: best, rest"):
        LogOdds(against="worst")


@pytest.mark.parametrize("family", tiny.mostly_slow(tiny.BRANCHING))
def test_values_under_plans_are_those_of_the_models_own_probabilities(family):
    opened = tiny.opened(family)
    items = present(Example("choice", f"Question {i}?", ("apple", "stone", "river"), i % 3) for i in range(7))
    exam = Exam.of(opened, items, make_writer(opened.tokenizer))
    plans = [(), (Intervention(tiny.vector(1), 20.0, scope=Scope("last")),), (Intervention(tiny.vector(0, 2), 6.0),)]
    keys = answer_keys(items, [(0.6, 0.4, 0.0)] * len(items))
    for plan, scores in zip(plans, exam.scores_under(plans, Store(None, "")), strict=True):
        for written, key, row in zip(exam.written, keys, scores, strict=True):
            with steer(opened.model, plan) if plan else nullcontext(), torch.inference_mode():
                last = opened.model(torch.tensor([written.prompt])).logits[0, -1].double().softmax(0)
            p = torch.stack([last[answer[0]] for answer in written.answers])
            people, q = torch.tensor(key.shares).double(), p / p.sum()
            some = people > 0
            assert one("log-odds", row, key.right) == pytest.approx(
                float((p[key.right] / (p.sum() - p[key.right])).log()), abs=2e-4
            )
            assert one("target-tv", row, shares=key.shares) == pytest.approx(
                float((people - q).abs().sum() / 2), abs=1e-4
            )
            assert one("target-kl", row, shares=key.shares) == pytest.approx(
                float((people[some] * (people[some] / q[some]).log()).sum()), abs=2e-4
            )


def test_a_figure_of_log_odds_is_balanced_over_letters():
    items = present([Example("yes_no", f"Is {i}?", ("Yes", "No"), int(i > 1)) for i in range(6)])
    keys = answer_keys(items)
    always_yes = [[2.0 * (answer == "Yes") for answer in item.answers] for item in items]
    values = ANSWER_SCORERS["log-odds"].score(always_yes, keys)
    found = figure(values, [key.group for key in keys], "items")
    assert found.balanced == pytest.approx(0) and found.value == pytest.approx(-2 / 3) and found.of == "items"


def test_open_questions_have_no_options_to_score(opened):
    items = present([Example("open", "How many?", ("3",), 0)])
    with pytest.raises(UsageError, match="open questions have no options"):
        Exam.of(opened, items, make_writer(opened.tokenizer)).scores_under([()], Store(None, ""))
