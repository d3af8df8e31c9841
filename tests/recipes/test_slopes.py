"""A step of slopes: what each item answers to a vector, in its own surroundings and under other prompts."""

from __future__ import annotations

import numpy as np
import pytest

import tillerman
from tillerman.core.cell import Cell
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Scope
from tillerman.core.store import Store
from tillerman.pipeline.run import Unwatched
from tillerman.pipeline.set_up import set_up
from tillerman.recipes.parse import parse_recipe
from tillerman.recipes.run import Request, reproduce
from tillerman.recipes.steps.cells import fitted_vector

TEXT = """
name = "small"
title = "Slopes"
paper = "Nobody, *No paper*"
about = "One persona."
seeds = [0]
limit = 40
tables = []
claims = []
[[task]]
name = "art"
file = "sample:interest-in-art"
prompt = "You love art."
opposite = "You hate art."
[[step]]
name = "slopes"
kind = "slopes"
words = "slopes"
unit = "task"
tasks = ["art"]
layers = { of = 8, at = [3] }
strengths = [-1, 0, 2]
[step.settings]
shares = [0.5, 0.0, 0.5]
read = "last"
scope = "last"
[[step.arm]]
name = "CAA"
method = "caa"
[[step.arm]]
name = "random"
method = "caa"
draws = 2
strengths = [-1, 1]
"""


@pytest.fixture(scope="module")
def pilot():
    return tillerman.open_model("pilot")


def figures(pilot, text=TEXT):
    log = reproduce((parse_recipe(text), ""), [pilot], Request())
    return {piece.arm: piece.figures for piece in log.pieces}


@pytest.fixture(scope="module")
def found(pilot):
    return figures(pilot)


def test_a_slope_is_that_of_a_line_through_the_log_odds_of_each_item(found, pilot):
    asked = tillerman.Experiment(
        shares=(0.5, 0.0, 0.5),
        read="last",
        scope="last",
        generations=(),
        written_prompts=0,
        layers=(3,),
        skip_long=True,
    )
    data = tillerman.load_examples("sample:interest-in-art", limit=40)
    run = set_up(asked, pilot, data, Store(None, ""), Unwatched(), needed=("train", "test"))
    rows = []
    vector, point = fitted_vector(run), HookPoint(3)
    for strength in (-1.0, 0.0, 2.0):
        cell = Cell((point,), strength, scope=Scope("last"))
        scores = run.test.scores_under([cell.plan(vector) if strength else ()], Store(None, ""))[0]
        rows.append([row[item.right] - row[1 - item.right] for row, item in zip(scores, run.test.items, strict=True)])
    slopes = np.polyfit([-1.0, 0.0, 2.0], np.array(rows), 1)[0]
    assert found["CAA"]["slope"].value == pytest.approx(slopes.mean(), abs=1e-4)
    assert found["CAA"]["anti"].value == pytest.approx((slopes < 0).mean(), abs=1e-6)
    assert found["CAA"]["slope"].n == len(slopes)


def test_random_directions_have_slopes_and_nothing_that_is_about_the_pairs(found):
    assert set(found["random"]) == {"slope", "anti"}
    assert found["random"]["slope"].value != found["CAA"]["slope"].value


def test_questions_under_both_prompts_and_pairs_are_measured_beside(found):
    mine = found["CAA"]
    assert mine["slope_shifted"].value == pytest.approx(
        (mine["slope_prompted"].value + mine["slope_opposed"].value) / 2, abs=2e-6
    )
    assert mine["slope_prompted"].value != mine["slope"].value
    assert 0 < mine["cosine"].value < 1 and mine["d_prime"].value > 0 and mine["dose"].value > 0
    assert "spurious_letter" not in mine  # no letters to choose between
    assert 0 <= mine["spurious_word"].value <= 1


@pytest.mark.slow
def test_lettered_questions_have_two_spurious_factors_and_no_prompt_no_shift(pilot):
    text = TEXT.replace("shares", "as_choice = true\nshares", 1)
    mine = figures(pilot, text.replace('opposite = "You hate art."\n', ""))["CAA"]
    assert mine["spurious_letter"].value + mine["spurious_word"].value > mine["spurious_beyond"].value
    assert "slope_prompted" in mine and "slope_shifted" not in mine and "slope_opposed" not in mine
