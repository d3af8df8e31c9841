"""Claims are weighed by intervals: what lies on the claimed side holds, what spans the margin is undecided."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats

from tillerman.logs.reproduction import Measured, Piece, Skipped, piece_from_json, piece_to_json
from tillerman.recipes.layouts import Where
from tillerman.recipes.parse import parse_recipe, read_recipe
from tillerman.recipes.recipe import Claim, Given
from tillerman.recipes.verdicts import FAILS, HOLDS, UNDECIDED, UNTESTABLE, Figures, outcome, pool
from tillerman.statistics.values import NO_INTERVAL, Interval

RECIPE, _ = read_recipe(Path(__file__).parent / "small.toml")
EFFECT = Where(step="fits", tasks="both", arm="CAA", metric="effect")


def figure(value, half=0.05, n=100):
    return Measured(value, value - half, value + half, n)


def piece(task, seed, effect, arm="CAA", **more):
    return Piece("fits", task, arm, seed, {"effect": figure(effect), **more})


def pieces(values, arm="CAA"):
    """Effects ``[seeds][tasks]``."""
    return [
        piece(t, seed, v, arm) for seed, row in enumerate(values) for t, v in zip(("science", "art"), row, strict=True)
    ]


@pytest.mark.parametrize(
    ("expect", "margin", "low", "high", "verdict"),
    [
        ("above", 0.0, 0.01, 0.2, HOLDS),
        ("above", 0.0, -0.01, 0.2, UNDECIDED),
        ("above", 0.0, -0.2, -0.01, FAILS),
        ("above", 0.0, 0.0, 0.0, FAILS),  # exactly nothing is not above nothing
        ("above", 0.0, -0.4, 0.0, UNDECIDED),  # as an interval that was widened to 0
        ("above", 0.1, 0.05, 0.2, UNDECIDED),
        ("below", 0.0, -0.2, -0.01, HOLDS),
        ("below", 0.0, 0.01, 0.2, FAILS),
        ("below", 0.0, -0.2, 0.01, UNDECIDED),
        ("below", 0.0, 0.0, 0.4, UNDECIDED),
        ("below", 0.1, -0.2, -0.05, UNDECIDED),
        ("within", 0.1, -0.05, 0.09, HOLDS),
        ("within", 0.1, -0.05, 0.11, UNDECIDED),
        ("within", 0.1, 0.11, 0.3, FAILS),
        ("within", 0.1, -0.3, -0.11, FAILS),
    ],
)
def test_a_verdict_follows_from_where_the_interval_lies(expect, margin, low, high, verdict):
    assert outcome(expect, margin, Interval(low, high)) == verdict


@given(
    low=st.floats(-1, 1), width=st.floats(0, 1), margin=st.floats(0.01, 1), expect=st.sampled_from(["above", "within"])
)
def test_a_narrower_interval_never_turns_a_verdict_round(low, width, margin, expect):
    wide, narrow = Interval(low, low + width), Interval(low + width / 4, low + 3 * width / 4)
    before = outcome(expect, margin, wide)
    assert outcome(expect, margin, narrow) in ((before,) if before != UNDECIDED else (HOLDS, FAILS, UNDECIDED))


def test_over_seeds_the_interval_is_of_their_means_over_tasks():
    values = [[0.1, 0.3], [0.2, 0.4], [0.3, 0.2]]
    found = Figures(RECIPE, pieces(values)).pooled(EFFECT)
    means = np.mean(values, axis=1)
    half = stats.t.ppf(0.975, 2) * np.std(means, ddof=1) / 3**0.5
    assert (found.unit, found.n, found.tasks) == ("seed", 3, ("science", "art"))
    assert found.value == pytest.approx(means.mean())
    assert found.interval.high == pytest.approx(means.mean() + half)


def test_over_tasks_the_interval_is_of_their_means_over_seeds():
    cells = {(task, seed): figure(value + seed) for task, value in (("a", 0.1), ("b", 0.3)) for seed in (0, 1)}
    found = pool(cells, "task")
    half = stats.t.ppf(0.975, 1) * np.std([0.6, 0.8], ddof=1) / 2**0.5
    assert (found.unit, found.n, found.value) == ("task", 2, pytest.approx(0.7))
    assert found.interval.low == pytest.approx(0.7 - half)


def test_a_single_seed_falls_back_on_the_items():
    found = pool({("a", 0): figure(0.2, 0.06, 50), ("b", 0): figure(0.4, 0.08, 70)}, "seed")
    assert (found.unit, found.n) == ("item", 120)
    assert found.value == pytest.approx(0.3)
    assert found.interval.high - found.value == pytest.approx(0.05)  # half of the root of 0.06^2 + 0.08^2


def test_more_seeds_of_the_same_items_are_not_more_items():
    one = pool({("a", 0): figure(0.2, 0.06, 50)}, "item")
    three = pool({("a", seed): figure(0.2, 0.06, 50) for seed in range(3)}, "item")
    assert (three.interval.low, three.n) == (pytest.approx(one.interval.low), one.n)


def test_a_single_run_keeps_its_own_interval():
    found = pool({("a", 0): Measured(1.0, 0.86, 1.0, 24)}, "item")
    assert (found.value, found.interval.low, found.interval.high) == (1.0, pytest.approx(0.86), 1.0)


def test_a_difference_is_taken_task_by_task_and_seed_by_seed():
    ones, others = [[0.5, 0.1], [0.4, 0.2]], [[0.4, 0.0], [0.3, 0.1]]
    measured = Figures(RECIPE, [*pieces(ones), *pieces(others, "wrong")])
    found = measured.pooled(EFFECT, replace(EFFECT, arm="wrong"))
    assert found.value == pytest.approx(0.1)
    assert found.interval.high - found.interval.low == pytest.approx(0, abs=1e-9)  # the same in every seed


def test_a_task_that_one_side_lacks_is_no_part_of_a_difference():
    measured = Figures(RECIPE, [piece("science", 0, 0.5), piece("art", 0, -0.9), piece("science", 0, 0.2, "wrong")])
    found = measured.pooled(EFFECT, replace(EFFECT, arm="wrong"))
    assert found.tasks == ("science",)
    assert found.value == pytest.approx(0.3)


def test_groups_of_different_tasks_are_compared_by_their_means():
    measured = Figures(RECIPE, pieces([[0.5, 0.1], [0.5, 0.3]]))
    found = measured.pooled(replace(EFFECT, tasks="science"), replace(EFFECT, tasks="both"))
    assert found.value == pytest.approx(np.mean([0.5 - 0.3, 0.5 - 0.4]))


def verdict_of(claim, given_pieces, left_out=()):
    (verdict,) = Figures(RECIPE, given_pieces, left_out).verdicts(claim)
    return verdict


def test_a_claim_carries_the_interval_that_decides_it():
    claim = Claim("c", "words", "source", EFFECT)
    found = verdict_of(claim, pieces([[0.3, 0.31], [0.3, 0.32]]))
    assert (found.outcome, found.n, found.unit) == (HOLDS, 2, "seed")
    assert found.interval.low > 0
    assert verdict_of(replace(claim, expect="below"), pieces([[0.3, 0.31], [0.3, 0.32]])).outcome == FAILS


def test_what_cannot_be_tested_says_why():
    claim = Claim("c", "words", "source", replace(EFFECT, tasks="lost"))
    gone = verdict_of(claim, [], [Skipped("lost", "no file nowhere/lost.jsonl in the data folder")])
    assert (gone.outcome, gone.why) == (UNTESTABLE, "lost: no file nowhere/lost.jsonl in the data folder")
    unfit = verdict_of(claim, [Piece("fits", "lost", "CAA", 0, {}, reason="all answers are right")])
    assert (unfit.outcome, unfit.why) == (UNTESTABLE, "lost: all answers are right")
    partly = verdict_of(replace(claim, select=EFFECT), [], [Skipped("art", "no file of art")])
    assert partly.why == "not run: step fits, CAA, both"  # the other task could have been
    step = verdict_of(claim, [], [Skipped("fits", "the model has no experts")])
    assert step.why == "the model has no experts"
    assert verdict_of(replace(claim, untestable="no such thing"), []).why == "no such thing"


def test_a_model_that_knows_nothing_of_the_task_is_no_test_of_the_claim():
    base = Given(Where(metric="unsteered"), 0.5)
    claim = Claim("c", "words", "source", EFFECT, given=base)
    for level, expected in ((0.52, UNTESTABLE), (0.7, HOLDS)):
        known = [piece(task, 0, 0.3, unsteered=figure(level)) for task in ("science", "art")]
        found = verdict_of(claim, known)
        assert found.outcome == expected
        assert found.value == pytest.approx(0.3)  # shown all the same
    assert verdict_of(claim, [piece("art", 0, 0.3, unsteered=figure(0.52))]).why == (
        "right, unsteered (CAA): 52.0 %, not clearly above 50.0"
    )


def test_a_claim_is_tested_in_every_step_it_names():
    also = Claim("c", "words", "source", EFFECT, also=("curve",))
    found = Figures(RECIPE, pieces([[0.3, 0.3]])).verdicts(also)
    assert [(v.step, v.outcome) for v in found] == [("fits", HOLDS), ("curve", UNTESTABLE)]


@pytest.mark.parametrize(("n", "verdict"), [(9, UNDECIDED), (200, HOLDS)])
def test_where_no_answer_differs_the_number_of_items_decides_what_can_be_told(n, verdict):
    same = [
        Piece("fits", task, "CAA", seed, {"effect": Measured(0.0, 0.0, 0.0, n)})
        for task in ("science", "art")
        for seed in (0, 1)
    ]
    near = verdict_of(Claim("c", "words", "source", EFFECT, expect="within", margin=0.03), same)
    assert near.outcome == verdict
    assert near.interval.high == pytest.approx(3 / (2 * n))
    assert verdict_of(Claim("c", "words", "source", EFFECT), same).outcome == UNDECIDED


def test_ratios_are_averaged_and_compared_by_their_logarithms():
    where = Where(step="fits", tasks="both", arm="CAA", metric="perplexity_ratio")
    of_ratio = {"CAA": (1.0, 4.0), "wrong": (0.5, 2.0)}
    given_pieces = [
        Piece("fits", task, arm, seed, {"perplexity_ratio": Measured(value, value, value, 1)})
        for arm, values in of_ratio.items()
        for task, value in zip(("science", "art"), values, strict=True)
        for seed in (0, 1)
    ]
    measured = Figures(RECIPE, given_pieces)
    assert measured.pooled(where).value == pytest.approx(2)
    assert measured.pooled(where, replace(where, arm="wrong")).value == pytest.approx(2)
    claim = Claim("c", "words", "source", where, against=Where(arm="wrong"))
    assert verdict_of(claim, given_pieces).outcome == HOLDS
    assert verdict_of(replace(claim, expect="below"), given_pieces).outcome == FAILS
    same = replace(claim, against=Where(arm="CAA"))
    assert verdict_of(same, given_pieces).outcome == FAILS  # a ratio of 1 is no rise


@pytest.mark.parametrize("metric", ["effect", "perplexity_ratio"])
def test_figures_of_too_few_items_for_an_interval_pool_to_one_without_ends_and_decide_nothing(metric):
    few = [Piece("fits", task, "CAA", 0, {metric: Measured(2.0, -np.inf, np.inf, 3)}) for task in ("science", "art")]
    again = [piece_from_json(json.loads(json.dumps(piece_to_json(one), allow_nan=False))) for one in few]
    assert again == few
    where = Where(step="fits", tasks="both", arm="CAA", metric=metric)
    found = Figures(RECIPE, few).pooled(where)
    assert found.value == pytest.approx(2) and found.interval == NO_INTERVAL
    assert verdict_of(Claim("c", "words", "source", where), few).outcome == UNDECIDED


def ranked(values, metric="effect", other="kl"):
    """A log of one seed with two figures for each task, and the recipe's cell that ranks them."""
    text = (Path(__file__).parent / "small.toml").read_text(encoding="utf-8")
    names = [f"t{k}" for k in range(len(values))]
    extra = "".join(f'[[task]]\nname = "{n}"\nfile = "sample:interest-in-art"\n' for n in names)
    named = ", ".join(f'"{n}"' for n in names)
    recipe = parse_recipe(
        text.replace("[groups]", f"[groups]\nmany = [{named}]").replace("[[step]]", extra + "[[step]]", 1)
    )
    made = [
        Piece("fits", n, "CAA", 0, {metric: figure(a), other: figure(b)})
        for n, (a, b) in zip(names, values, strict=True)
    ]
    return Figures(recipe, made), Where("fits", "many", "CAA", metric=metric, ranked=other)


def test_a_rank_correlation_is_taken_over_tasks_and_weighed_like_any_figure():
    pairs = [(k, k**3 + (k == 4)) for k in range(12)]
    figures, where = ranked(pairs)
    found = figures.pooled(where)
    assert found.value == pytest.approx(stats.spearmanr(*zip(*pairs, strict=True)).statistic)
    assert (found.n, found.unit) == (12, "task") and found.interval.low > 0.5
    (verdict,) = figures.verdicts(Claim("c", "words", "source", where))
    assert (verdict.outcome, verdict.metric, verdict.n) == (HOLDS, "rank_correlation", 12)
    (verdict,) = figures.verdicts(Claim("c", "words", "source", where, expect="below"))
    assert verdict.outcome == FAILS


def test_too_few_tasks_or_equal_ones_have_no_rank_correlation():
    figures, where = ranked([(k, k) for k in range(7)])
    (verdict,) = figures.verdicts(Claim("c", "words", "source", where))
    assert verdict.outcome == UNTESTABLE and "of 8 tasks at least" in verdict.why
    assert ranked([(1, k) for k in range(9)])[0].pooled(where) is None
