"""Agreement: known values, an oracle of its own, intervals that hold what they should."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tillerman.core.errors import DataError
from tillerman.statistics.agreement import (
    _rank_correlations,
    agreement,
    rank_correlation,
    repeated,
    weighted_kappa,
)

TEN = range(11)


@pytest.mark.slow
def test_equal_ratings_agree_wholly_and_opposite_ones_not_at_all():
    ratings = [0.0, 2.0, 5.0, 9.0, 10.0]
    same = agreement(ratings, ratings, TEN)
    assert same.kappa.value == same.same == 1 and same.spearman.value == pytest.approx(1)
    assert same.difference.value == 0 and same.n == 5
    turned = agreement(ratings, ratings[::-1], TEN)
    assert turned.kappa.value < 0 and turned.spearman.value == pytest.approx(-1)


def test_kappa_is_that_of_the_table_of_ratings():
    draws = np.random.default_rng(1)
    a, b = draws.integers(0, 5, 60), draws.integers(0, 5, 60)
    b[:30] = a[:30]
    table = np.zeros((5, 5))
    np.add.at(table, (a, b), 1 / 60)
    weights = (np.arange(5)[:, None] - np.arange(5)) ** 2
    expected = 1 - (weights * table).sum() / (weights * np.outer(table.sum(1), table.sum(0))).sum()
    assert weighted_kappa(a.astype(float), b.astype(float)) == pytest.approx(expected)
    found = agreement(a.tolist(), b.tolist(), range(5))
    assert found.kappa.interval.low < expected < found.kappa.interval.high


def test_independent_ratings_have_an_interval_around_zero():
    draws = np.random.default_rng(2)
    found = agreement(draws.integers(0, 11, 200).tolist(), draws.integers(0, 11, 200).tolist(), TEN)
    assert found.kappa.interval.low < 0 < found.kappa.interval.high
    assert found.spearman.interval.low < 0 < found.spearman.interval.high


def test_missing_ratings_are_left_out_and_counted():
    found = repeated([[1.0, 1.0], [None, 2.0], [4.0, 5.0], [3.0, None]], TEN)
    assert (found.n, found.missing, found.difference.value, found.same) == (2, 2, 0.5, 0.5)
    with pytest.raises(DataError, match="wants at least 2"):
        repeated([[1.0, None], [2.0, 2.0]], TEN)


def test_one_rating_for_everything_leaves_no_kappa():
    found = agreement([5.0, 5.0, 5.0], [4.0, 5.0, 6.0], TEN)
    assert found.kappa is None and found.spearman is None and found.difference.value == pytest.approx(2 / 3)


def test_ratings_out_of_range_are_refused():
    with pytest.raises(DataError, match="ratings from 1 to 12; expected 0 to 10"):
        agreement([1.0, 12.0], [1.0, 2.0], TEN)


def test_a_rank_correlation_sees_order_alone_and_needs_some():
    values = [0.1, 0.4, 0.2, 0.9, 0.7, 0.3, 0.5, 0.8]
    found = rank_correlation(values, [v**3 for v in values])
    assert found.value == pytest.approx(1) and found.interval.low == pytest.approx(1)
    draws = np.random.default_rng(3).normal(size=(2, 60))
    assert rank_correlation(*draws).interval.low < 0 < rank_correlation(*draws).interval.high
    for few in ([1.0, 2.0], [1.0, 1.0, 1.0]):
        with pytest.raises(DataError, match="a rank correlation of"):
            rank_correlation(few, [1.0, 2.0, 3.0][: len(few)])


def test_the_draws_of_a_rank_correlation_are_those_of_scipy():
    random = np.random.default_rng(1)
    a, b = random.integers(0, 4, 12).astype(float), random.normal(size=12)  # with ties
    draws = np.random.default_rng(0).integers(0, 12, (2000, 12))
    found = [stats.spearmanr(a[d], b[d]).statistic for d in draws[:200] if np.ptp(a[d])]
    assert _rank_correlations(a[draws[:200]], b[draws[:200]]) == pytest.approx(found)
    assert np.isnan(_rank_correlations(np.ones((1, 5)), np.arange(5.0)[None])).all()
