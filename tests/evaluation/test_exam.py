"""A null is judged by its mean over draws."""

from __future__ import annotations

import numpy as np
import pytest

from tillerman.evaluation.exam import null_condition

UNSTEERED = np.array([True, False, True, False])
GROUPS = ["A", "A", "B", "B"]


def _null(*draws):
    return null_condition("null:random", np.array(draws, dtype=bool), UNSTEERED, GROUPS, "")


def test_draws_that_tip_the_model_to_either_side_are_no_effect():
    made = _null([1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0])
    assert made.effect.value == 0
    assert made.effect.interval.low < -0.5
    assert made.effect.interval.high > 0.5
    assert made.effect.p_value == pytest.approx(1)
    assert not made.effect.found


def test_draws_that_all_help_are_an_effect_and_its_size_is_their_mean():
    made = _null([1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1])
    assert made.effect.value == pytest.approx((0.5 + 0.25 + 0.5) / 3)
    assert made.rate.value == pytest.approx(0.5 + made.effect.value)
    assert made.effect.found
    assert made.effect.p_value < 0.05


def test_draws_that_change_nothing_have_no_width_and_p_one():
    made = _null(*[UNSTEERED] * 8)
    assert (made.effect.interval.low, made.effect.interval.high, made.effect.p_value) == (0, 0, 1)
    few = _null(UNSTEERED, UNSTEERED)
    assert (few.effect.interval.known, few.effect.p_value) == (False, 1)


def test_the_balanced_gain_is_the_mean_of_the_draws():
    made = _null([1, 1, 0, 0], [1, 1, 0, 0])
    assert made.effect.balanced == pytest.approx(0.0)
    assert made.rate.n == 4
