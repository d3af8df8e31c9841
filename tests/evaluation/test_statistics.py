"""Intervals cover, tests are exact, and a constant answer gains nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from tillerman.core.errors import UsageError
from tillerman.evaluation.statistics import balanced, bootstrap_mean, effect, mcnemar, rate, t_interval


def _bools(hits, n):
    return np.arange(n) < hits


@given(st.integers(1, 400), st.data())
def test_a_rates_interval_is_wilsons(n, data):
    hits = data.draw(st.integers(0, n))
    found = rate(_bools(hits, n), ["A"] * n)
    z, p = stats.norm.ppf(0.975), hits / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert found.value == pytest.approx(p)
    assert found.n == n
    assert found.interval.low == pytest.approx(max(0.0, middle - half), abs=1e-9)
    assert found.interval.high == pytest.approx(min(1.0, middle + half), abs=1e-9)


def test_no_items_are_refused():
    with pytest.raises(UsageError, match="no items"):
        rate(np.array([], dtype=bool), [])


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_two_sided_sign_test(gained, lost):
    n = gained + lost
    tail = sum(math.comb(n, k) for k in range(min(gained, lost) + 1)) / 2**n
    assert mcnemar(gained, lost) == pytest.approx(min(1.0, 2 * tail) if n else 1.0, rel=1e-9)
    assert mcnemar(gained, lost) == mcnemar(lost, gained)


def test_mcnemar_by_hand():
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert mcnemar(3, 3) == 1.0
    assert mcnemar(0, 0) == 1.0


@settings(max_examples=30)
@given(st.integers(1, 80), st.integers(0, 1000))
def test_an_effect_is_the_paired_difference_with_its_own_numbers(n, seed):
    rng = np.random.default_rng(seed)
    before, after = rng.random(n) < 0.5, rng.random(n) < 0.7
    groups = [str(g) for g in rng.integers(0, 3, n)]
    found = effect(after, before, groups)
    assert found.value == pytest.approx(after.mean() - before.mean())
    assert found.n == n
    assert found.p_value == mcnemar(int((after & ~before).sum()), int((before & ~after).sum()))
    assert found.balanced == pytest.approx(balanced(after, groups) - balanced(before, groups))
    assert -1 <= found.interval.low <= found.value + 1e-9
    assert found.value - 1e-9 <= found.interval.high <= 1
    swapped = effect(before, after, groups)
    assert swapped.value == pytest.approx(-found.value)
    assert swapped.p_value == found.p_value


def test_an_effects_interval_is_the_bootstrap_over_items():
    rng = np.random.default_rng(0)
    before, after = rng.random(150) < 0.4, rng.random(150) < 0.6
    difference = after.astype(float) - before.astype(float)
    drawn = [difference[rng.integers(0, 150, 150)].mean() for _ in range(4000)]
    found = effect(after, before, ["A"] * 150)
    assert found.interval.low == pytest.approx(np.quantile(drawn, 0.025), abs=0.015)
    assert found.interval.high == pytest.approx(np.quantile(drawn, 0.975), abs=0.015)


def test_no_change_is_no_effect():
    same = np.array([True, False, True])
    found = effect(same, same, ["A", "B", "A"])
    assert (found.value, found.interval.low, found.interval.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)
    assert not found.found


def test_an_effects_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    runs, n, covered = 400, 120, 0
    probabilities = np.array([0.1, 0.6, 0.3])  # lost, same, gained: the true effect is 0.2
    for _ in range(runs):
        change = rng.choice([-1, 0, 1], n, p=probabilities)
        before, after = change == -1, change == 1
        interval = effect(after, before, ["A"] * n).interval
        covered += interval.low <= 0.2 <= interval.high
    assert 0.92 <= covered / runs <= 0.98


def test_a_bootstrapped_means_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(300):
        interval = bootstrap_mean(rng.normal(1.0, 2.0, 60))
        hits += interval.low <= 1.0 <= interval.high
    assert 0.91 <= hits / 300 <= 0.98


def test_intervals_are_the_same_every_time():
    values = np.random.default_rng(0).normal(size=30)
    assert bootstrap_mean(values) == bootstrap_mean(values)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=20).filter(lambda v: float(np.std(v)) > 1e-6))
def test_a_t_interval_is_scipys(values):
    mean, interval, p = t_interval(values)
    theirs = stats.ttest_1samp(values, 0.0, alternative="greater")
    both = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert mean == pytest.approx(np.mean(values))
    assert p == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-12)
    assert interval.low == pytest.approx(both.low, rel=1e-6, abs=1e-9)
    assert interval.high == pytest.approx(both.high, rel=1e-6, abs=1e-9)


def test_a_t_interval_of_equal_values_has_no_width():
    assert t_interval([0.25, 0.25]) == (0.25, type(t_interval([0.0, 1.0])[1])(0.25, 0.25), 0.0)
    assert t_interval([0.0, 0.0])[2] == 1.0
    assert t_interval([-0.5, -0.5])[2] == 1.0


def test_an_interval_over_one_seed_is_refused():
    with pytest.raises(UsageError, match="at least two"):
        t_interval([0.3])


@given(st.lists(st.sampled_from("ABCD"), min_size=1, max_size=200))
def test_a_constant_answer_cannot_raise_the_balanced_accuracy(right):
    """Whatever letter is said, and however uneven the right letters are, it is one letter's share."""
    letters = sorted(set(right))
    for said in "ABCD":
        correct = np.array([said == r for r in right])
        expected = 1 / len(letters) if said in letters else 0.0
        assert balanced(correct, right) == pytest.approx(expected)


def test_balanced_accuracy_is_the_mean_over_letters():
    assert balanced(np.array([True, True, True, False]), ["A", "A", "A", "B"]) == 0.5
    assert balanced(np.array([True, False, True, True]), ["A", "A", "B", "C"]) == pytest.approx(2.5 / 3)
