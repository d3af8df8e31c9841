"""What counts as an effect, and as a share of one."""

from __future__ import annotations

import numpy as np
import pytest

from tillerman.core.errors import MetricError
from tillerman.statistics.values import Effect, Interval
from tillerman.studies.trials import share_of, stands

FOUND = Effect(value=0.3, interval=Interval(0.2, 0.4), p_value=0.001, n=100, balanced=0.3)


def test_an_effect_of_one_answer_word_or_of_any_direction_does_not_stand() -> None:
    assert stands(FOUND)
    assert not stands(Effect(0.3, Interval(0.2, 0.4), 0.001, 100, balanced=0.1))
    assert not stands(Effect(0.1, Interval(-0.1, 0.3), 0.3, 100, balanced=0.1))
    assert not stands(FOUND, (0.25, Interval(0.1, 0.4)))
    assert stands(FOUND, (0.05, Interval(-0.2, 0.3)))


def test_a_share_is_a_ratio_of_means_of_the_same_items() -> None:
    whole = np.array([1.0, 2.0, 3.0, 4.0])
    half = share_of(whole / 2, whole)
    assert (half.value, half.interval.low, half.interval.high) == pytest.approx((0.5, 0.5, 0.5))
    with pytest.raises(MetricError, match="the whole must be above 0"):
        share_of(whole, -whole)
