"""Intervals and tests are those of their books, and a constant answer gains nothing."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from tillerman.core.errors import MetricError, UsageError
from tillerman.statistics.equivalence import equivalence
from tillerman.statistics.estimates import (
    balanced,
    bootstrap_mean,
    effect,
    holm,
    mcnemar,
    mean_effect,
    rate,
    sign_flip,
    t_interval,
    unpaired,
)
from tillerman.statistics.tango import score_interval
from tillerman.statistics.values import NO_INTERVAL, Interval


def _bools(hits, n):
    return np.arange(n) < hits


@given(st.integers(5, 400), st.data())
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
@given(st.integers(5, 80), st.integers(0, 1000))
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


@pytest.mark.parametrize(("gained", "lost"), [(4, 0), (5, 0), (7, 1), (0, 5), (10, 3)])
def test_the_interval_holds_zero_where_the_exact_test_does_not_refuse_it(gained, lost):
    steered, unsteered = _bools(gained, 50), np.roll(_bools(lost, 50), 20)
    found = effect(steered, unsteered, ["A"] * 50)
    assert (found.interval.low <= 0 <= found.interval.high) == (found.p_value >= 0.05)
    assert score_interval(gained, lost, 50).low > 0 or lost > gained or found.p_value >= 0.05


@given(st.integers(0, 40), st.integers(0, 40), st.integers(5, 100))
def test_interval_and_p_never_disagree(gained, lost, rest):
    n = gained + lost + rest
    found = effect(_bools(gained, n), np.roll(_bools(lost, n), gained), ["A"] * n)
    assert (found.interval.low <= 0 <= found.interval.high) == (found.p_value >= 0.05)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_fewer_than_five_items_or_eight_values_have_no_interval(n):
    right = np.ones(n, dtype=bool)
    assert rate(right, ["A"] * n).interval == effect(right, ~right, ["A"] * n).interval == NO_INTERVAL
    assert bootstrap_mean(np.arange(n + 3, dtype=float)) == NO_INTERVAL
    assert NO_INTERVAL.ends == [None, None] and not effect(right, ~right, ["A"] * n).found


def test_a_few_equal_values_have_no_interval_and_a_p_of_their_signs():
    assert t_interval([0.25, 0.25]) == (0.25, NO_INTERVAL, 0.25)
    assert t_interval([0.0, 0.0])[2] == 1.0
    assert bootstrap_mean(np.full(7, 0.25)) == NO_INTERVAL
    assert bootstrap_mean(np.full(8, 0.25)) == Interval(0.25, 0.25)


def test_an_unpaired_difference_by_hand():
    """Newcombe 1998, table II, method 10: 56/70 against 48/80."""
    left, right = rate(_bools(56, 70), ["A"] * 70), rate(_bools(48, 80), ["A"] * 80)
    found = unpaired(left, right)
    assert (found.low, found.high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))


def test_no_change_on_few_items_does_not_say_that_there_is_none():
    same = np.array([True, False] * 10)
    found = effect(same, same, ["A"] * 20)
    assert (found.value, found.p_value, found.found) == (0.0, 1.0, False)
    assert found.interval.high == pytest.approx(-found.interval.low)
    assert found.interval.high == pytest.approx(1.96**2 / (20 + 1.96**2), abs=1e-3)


@pytest.mark.parametrize("wrong", [effect, mean_effect])
def test_comparing_no_items_is_refused(wrong):
    none = np.array([], dtype=bool if wrong is effect else float)
    with pytest.raises(UsageError, match=r"no items|0 items"):
        wrong(none, none, *([[]] if wrong is effect else []))


def test_a_bootstrapped_interval_is_as_wide_as_the_t_interval_of_normal_values():
    values = np.random.default_rng(3).normal(1.0, 2.0, 12)
    ours, theirs = bootstrap_mean(values), t_interval(list(values))[1]
    assert ours.high - ours.low == pytest.approx(theirs.high - theirs.low, rel=0.08)
    percentiles = [values[np.random.default_rng(k).integers(0, 12, 12)].mean() for k in range(4000)]
    assert ours.high - ours.low > 1.08 * float(np.ptp(np.quantile(percentiles, [0.025, 0.975])))


def test_no_values_have_no_mean():
    with pytest.raises(UsageError, match="no values"):
        bootstrap_mean(np.array([]))


BROKEN = [float("nan"), float("inf"), -float("inf")]


@pytest.mark.parametrize("bad", BROKEN)
def test_values_that_are_not_finite_are_refused_and_counted(bad):
    fine, broken = np.ones(5), np.array([1.0, bad, 2.0, bad, 3.0])
    for made in (
        lambda: bootstrap_mean(broken),
        lambda: t_interval(list(broken)),
        lambda: mean_effect(broken, fine),
        lambda: mean_effect(fine, broken),
        lambda: holm(list(broken)),
        lambda: equivalence(broken, 0.1),
    ):
        with pytest.raises(MetricError, match=r"2 of 5 .* not finite numbers"):
            made()


def test_a_mean_effect_is_of_the_pairs():
    rng = np.random.default_rng(5)
    before = rng.normal(0, 50, 40)  # items differ by far more than steering changes them
    after = before + rng.normal(1.0, 1.0, 40)
    found = mean_effect(after, before)
    assert found.value == pytest.approx((after - before).mean())
    assert found.n == 40
    assert found.found
    assert found.p_value < 0.001
    assert mean_effect(before, after).p_value == found.p_value


def test_a_sign_flip_of_few_items_tries_every_flip():
    differences = [1.0, 2.0, -0.5, 3.0, 1.5]
    flips = [np.mean(np.multiply(differences, signs)) for signs in itertools.product((1, -1), repeat=5)]
    expected = np.mean([abs(m) >= np.mean(differences) - 1e-12 for m in flips])
    assert sign_flip(np.array(differences)) == pytest.approx(expected)


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


def test_many_equal_values_have_an_interval_without_width():
    assert t_interval([0.25] * 8) == (0.25, Interval(0.25, 0.25), 0.5**8)
    assert t_interval([-0.5, -0.5])[2] == 0.75


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
