"""The area under the curve, and its interval where a bootstrap has none."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tillerman.core.errors import MetricError, UsageError
from tillerman.statistics.ranking import alarm_threshold, area, area_interval

_SCORES = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=9)


@given(_SCORES, _SCORES)
def test_the_area_is_the_share_of_pairs_in_order_with_ties_as_a_half(high: list[float], low: list[float]) -> None:
    shares = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in product(high, low)]
    assert area(high, low) == pytest.approx(np.mean(shares))


def test_an_interval_has_a_width_where_nothing_is_ranked_wrong() -> None:
    assert area_interval(1.0, 10, 10).high == 1.0
    assert 0.7 < area_interval(1.0, 10, 10).low < 0.95
    assert area_interval(0.0, 10, 10).low == 0.0
    assert area_interval(0.0, 10, 10).high == pytest.approx(1 - area_interval(1.0, 10, 10).low)
    assert area_interval(1.0, 100, 100).low > area_interval(1.0, 10, 10).low


@pytest.mark.parametrize("count", [5, 12, 40])
@pytest.mark.parametrize("apart", [0.0, 1.0, 2.5])
def test_the_interval_covers_the_true_area_at_its_level(count: int, apart: float) -> None:
    draw, normal = np.random.default_rng(1), 400
    truth = np.mean(draw.normal(size=200_000) + apart > draw.normal(size=200_000))
    covered = 0
    for _ in range(normal):
        found = area(draw.normal(size=count) + apart, draw.normal(size=count))
        interval = area_interval(found, count, count)
        covered += interval.low <= truth <= interval.high
    assert covered / normal >= 0.92  # 95 % less three standard errors of 400 draws


def test_no_scores_and_broken_ones_are_errors() -> None:
    with pytest.raises(UsageError, match="both sides"):
        area([], [1.0])
    with pytest.raises(MetricError, match="1 of 2 scores of wanted ones"):
        area([float("nan"), 1.0], [1.0])


@pytest.mark.parametrize(("n", "rate", "place"), [(19, 0.05, 18), (39, 0.05, 37), (8, 0.25, 6), (99, 0.1, 89)])
def test_an_alarms_threshold_is_the_order_statistic_that_further_scores_seldom_exceed(n, rate, place):
    scores = np.random.default_rng(n).permutation(n).astype(float)
    assert alarm_threshold(scores, rate) == (place, rate)


def test_too_few_scores_vouch_for_less_than_was_asked():
    assert alarm_threshold([3.0, 1.0, 2.0], 0.05) == (3.0, 0.25)


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (30, 0.1), (8, 0.25)])
def test_further_scores_exceed_an_alarms_threshold_no_more_often_than_was_asked(n, rate):
    drawn = np.random.default_rng(0).standard_normal((4000, n + 1))
    alarms = np.mean([row[-1] > alarm_threshold(row[:-1], rate)[0] for row in drawn])
    assert rate - 0.04 < alarms < rate + 0.015


@pytest.mark.parametrize(("scores", "rate"), [([], 0.1), ([1.0], 0.0), ([1.0], 1.0)])
def test_a_threshold_from_nothing_or_for_no_rate_is_refused(scores, rate):
    with pytest.raises(UsageError):
        alarm_threshold(scores, rate)
