"""No number without n and interval, and none that is not finite."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tillerman.core.errors import MetricError, UnknownNameError
from tillerman.evaluation.scorers.base import ScoreRange, checked
from tillerman.statistics.scores import change, figure, over_draws, per_prompt


def test_a_figure_is_mean_interval_and_n_and_leaves_out_what_is_missing():
    found = figure([1.0, None, 3.0, 2.0] * 3)
    assert (found.value, found.n, found.missing) == (2.0, 9, 3)
    assert 1.0 <= found.interval.low < 2.0 < found.interval.high <= 3.0
    assert figure([None, None]) is None


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    draws = np.random.default_rng(0)
    hits = [
        f.interval.low <= 0 <= f.interval.high for f in (figure(draws.normal(size=40).tolist()) for _ in range(200))
    ]
    assert 0.89 <= np.mean(hits) <= 0.98


def test_a_change_is_paired_and_wants_both_sides():
    found = change([2.0, None, 5.0, 7.0], [1.0, 1.0, None, 4.0])
    assert (found.value, found.n, found.missing) == (2.0, 2, 2)
    noisy = np.random.default_rng(0).normal(0, 100, 50)
    assert change((noisy + 1).tolist(), noisy.tolist()).interval.low == pytest.approx(
        1
    )  # the prompts' own noise is gone


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused(bad):
    with pytest.raises(MetricError, match="expected 0 to inf"):
        checked("x", ScoreRange("bits", 0.0, math.inf), [1.0, bad])
    with pytest.raises(MetricError, match="refused, not averaged"):
        figure([1.0, bad])


def test_a_number_out_of_range_is_refused_and_none_is_not():
    assert checked("x", ScoreRange("share", 0.0, 1.0), [0.0, None, 1.0]) == [0.0, None, 1.0]
    with pytest.raises(MetricError, match=r"scorer 'x' gave 1.5 for text 1; expected 0 to 1"):
        checked("x", ScoreRange("share", 0.0, 1.0), [1.0, 1.5])


def test_the_balanced_mean_is_that_of_the_letters():
    assert figure([1.0, 1.0, 1.0, 0.0], ["A", "A", "A", "B"]).balanced == 0.5
    assert figure([1.0, None, 1.0, 0.0], ["A", "B", "A", "A"]).balanced == pytest.approx(2 / 3)


def test_a_null_is_the_mean_over_its_draws():
    found = over_draws([figure([0.0, 0.0]), figure([2.0, 2.0]), None])
    assert (found.value, found.n, found.of) == (1.0, 2, "draws")
    assert found.interval.low < 0 < 2 < found.interval.high  # t with one degree of freedom is wide
    assert over_draws([figure([1.0])]) is None


def test_samples_of_one_prompt_count_once():
    assert per_prompt([1.0, 3.0, None, 4.0, None, None], 2) == [2.0, 4.0, None]


def test_a_direction_that_is_none_is_an_error():
    with pytest.raises(UnknownNameError, match="known: less, more, neither"):
        ScoreRange("share", 0.0, 1.0, "up")
