"""A small effect is called small only where the data say so."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tillerman.core.errors import UsageError
from tillerman.statistics.equivalence import equivalence, equivalence_of_answers

RUNS = 1000


def _answers(rng, n, gain, loss):
    change = rng.choice([1, -1, 0], n, p=[gain, loss, 1 - gain - loss])
    return change == 1, change == -1


def test_equivalence_of_means_is_two_one_sided_t_tests():
    values = np.random.default_rng(0).normal(0.1, 1.0, 60)
    found = equivalence(values, 0.4)
    spread = values.std(ddof=1) / 60**0.5
    below = stats.t.cdf((values.mean() - 0.4) / spread, 59)
    above = stats.t.sf((values.mean() + 0.4) / spread, 59)
    assert found.p_value == pytest.approx(max(below, above))
    assert found.value == pytest.approx(values.mean())
    assert found.interval.high - found.interval.low == pytest.approx(2 * stats.t.ppf(0.95, 59) * spread)


@pytest.mark.parametrize("margin", [0.02, 0.1, 0.3, 0.8])
@pytest.mark.parametrize("shift", [-0.2, 0.0, 0.3])
def test_the_claim_is_made_where_the_interval_lies_within_the_margin(margin, shift):
    values = np.random.default_rng(1).normal(shift, 1.0, 80)
    means = equivalence(values, margin)
    assert means.equivalent == (-margin < means.interval.low and means.interval.high < margin)
    answers = equivalence_of_answers(values > 1, values < -1, margin)
    assert answers.equivalent == (-margin < answers.interval.low and answers.interval.high < margin)


@pytest.mark.slow
def test_an_effect_as_large_as_the_margin_is_called_small_in_at_most_a_twentieth_of_runs():
    rng, means, answers = np.random.default_rng(2), 0, 0
    for _ in range(RUNS):
        means += equivalence(rng.normal(0.3, 1.0, 100), 0.3).equivalent
        answers += equivalence_of_answers(*_answers(rng, 200, 0.15, 0.05), 0.1).equivalent
    assert 0.03 <= means / RUNS <= 0.065
    assert 0.03 <= answers / RUNS <= 0.065


def test_no_effect_on_many_items_is_called_small_and_on_few_it_is_not():
    rng = np.random.default_rng(3)
    assert equivalence_of_answers(*_answers(rng, 2000, 0.05, 0.05), 0.05).equivalent
    assert not equivalence_of_answers(*_answers(rng, 20, 0.05, 0.05), 0.05).equivalent


def test_differences_that_are_all_the_same_are_compared_with_the_margin_itself():
    assert equivalence(np.full(5, 0.1), 0.2).equivalent
    assert not equivalence(np.full(5, -0.2), 0.2).equivalent


@pytest.mark.parametrize("margin", [0.0, -0.1, float("nan"), float("inf")])
def test_a_margin_that_is_none_is_refused(margin):
    for made in (
        lambda: equivalence(np.ones(3), margin),
        lambda: equivalence_of_answers(np.ones(3, bool), np.ones(3, bool), margin),
    ):
        with pytest.raises(UsageError, match="margin"):
            made()


def test_percentage_points_given_for_a_share_are_refused():
    with pytest.raises(UsageError, match=r"5 pp is 0\.05"):
        equivalence_of_answers(np.ones(3, bool), np.ones(3, bool), 5.0)


def test_one_value_has_no_spread_to_be_equivalent_by():
    with pytest.raises(UsageError, match="at least two"):
        equivalence(np.ones(1), 0.1)
