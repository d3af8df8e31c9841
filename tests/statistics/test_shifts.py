"""Paired differences from how far items moved: the tests of single rows, and of items with several."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tillerman.core.errors import MetricError, UsageError
from tillerman.statistics.equivalence import equivalence_of_answers
from tillerman.statistics.estimates import effect, mcnemar, mean_effect
from tillerman.statistics.shifts import ItemShift, all_flips, count, paired_change, paired_equivalence, rows_of, shifts

COUNTS = st.integers(0, 40)


def counts(gained: int, lost: int, same: int) -> tuple[ItemShift, ...]:
    return tuple(ItemShift(change, 1, n) for change, n in ((-1.0, lost), (0.0, same), (1.0, gained)) if n)


@given(gained=COUNTS, lost=COUNTS, same=COUNTS)
@settings(max_examples=40)
def test_outcomes_of_single_rows_have_tangos_interval_and_mcnemars_p(gained: int, lost: int, same: int) -> None:
    n = gained + lost + same
    if n < 2:
        return
    after = np.arange(n) < gained
    before = (np.arange(n) >= gained) & (np.arange(n) < gained + lost)
    found, known = paired_change(counts(gained, lost, same), graded=False), effect(after, before, [""] * n)
    assert (found.value, found.interval, found.p_value, found.n) == (
        known.value,
        known.interval,
        known.p_value,
        n,
    )
    assert paired_equivalence(counts(gained, lost, same), 0.1, graded=False) == equivalence_of_answers(
        after, before, 0.1
    )


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
@settings(max_examples=60)
def test_the_p_of_whole_numbers_is_that_of_all_flips(sums: list[int]) -> None:
    flipped = [
        abs(sum(s * v for s, v in zip(signs, sums, strict=True))) for signs in product((1, -1), repeat=len(sums))
    ]
    share = sum(total >= abs(sum(sums)) for total in flipped) / len(flipped)
    assert all_flips(np.array(sums, dtype=np.int64)) == pytest.approx(share, abs=1e-12)


def test_all_flips_of_ones_are_mcnemars_exact_test() -> None:
    for gained, lost in ((281, 236), (4, 0), (0, 0), (30, 12)):
        sums = np.array([1] * gained + [-1] * lost, dtype=np.int64)
        assert all_flips(sums) == pytest.approx(mcnemar(gained, lost), rel=1e-9)


def test_asking_every_item_again_does_not_narrow_the_interval() -> None:
    """Three models that answer alike are one answer, said three times."""
    once = shifts(np.array([1.0] * 30 + [-1.0] * 15 + [0.0] * 55))
    keys = [k for _ in range(3) for k in range(100)]
    thrice = shifts(np.array(([1.0] * 30 + [-1.0] * 15 + [0.0] * 55) * 3), keys)
    assert rows_of(thrice) == 300 and sum(one.items for one in thrice) == 100
    single, several = paired_change(once, graded=False), paired_change(thrice, graded=False)
    assert several.value == pytest.approx(single.value) and several.p_value == pytest.approx(single.p_value)
    widths = [one.interval.high - one.interval.low for one in (single, several)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)


def test_rows_of_one_item_are_summed_and_counted() -> None:
    found = shifts(np.array([1.0, 0.0, -1.0, 1.0]), ["a", "b", "a", "c"])
    assert set(found) == {ItemShift(0.0, 2, 1), ItemShift(0.0, 1, 1), ItemShift(1.0, 1, 1)}
    assert (count(found, 1), count(found, -1), rows_of(found)) == (1, 0, 4)


def test_every_answer_counts_alike_where_items_have_different_numbers_of_them() -> None:
    keys = [*"aabbccddeeffgghh", *"ijklmnop"]
    changes = np.array([1.0] * 16 + [0.0] * 8)
    assert paired_change(shifts(changes, keys), graded=False).value == pytest.approx(16 / 24)


def test_scores_have_the_houses_bootstrap_and_sign_flips() -> None:
    draw = np.random.default_rng(3)
    after, before = draw.normal(0.4, 1, 60), draw.normal(0, 1, 60)
    found, known = paired_change(shifts(after - before), graded=True), mean_effect(after, before)
    assert found.value == pytest.approx(known.value)
    assert found.interval.low == pytest.approx(known.interval.low, abs=0.03)  # the items stand in another order
    assert found.p_value == pytest.approx(known.p_value, abs=0.01)


def test_many_scores_have_the_t_interval_and_few_have_none() -> None:
    many = paired_change(shifts(np.random.default_rng(0).normal(0.1, 1, 6000)), graded=True)
    assert many.interval.high - many.interval.low == pytest.approx(2 * 1.96 / 6000**0.5, rel=0.03)
    assert many.p_value < 1e-6
    few = paired_change(shifts(np.array([0.5, 0.25, 0.5])), graded=True)
    assert not few.interval.known and few.p_value == pytest.approx(0.25)


def test_scores_that_did_not_move_have_p_one() -> None:
    assert paired_change(shifts(np.zeros(20)), graded=True).p_value == 1.0
    assert paired_change(shifts(np.array([0.5] + [0.0] * 20)), graded=True).p_value == 1.0


def test_what_cannot_be_tested_is_refused() -> None:
    with pytest.raises(UsageError, match="1 items: a paired test wants at least 2"):
        paired_change(counts(1, 0, 0), graded=False)
    with pytest.raises(MetricError, match="not finite"):
        shifts(np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="0 items of 1 rows"):
        ItemShift(1.0, 1, 0)


@pytest.mark.slow
def test_the_interval_over_shared_items_holds_the_true_difference() -> None:
    """200 runs of 120 items asked of three models that tend to change together; rows drawn alone would cover less."""
    draw, held = np.random.default_rng(5), 0
    for _ in range(200):
        pull = draw.choice([-1, 0, 1], 120, p=[0.15, 0.6, 0.25])
        changes = np.where(draw.random((3, 120)) < 0.7, pull, 0).astype(float)
        found = paired_change(shifts(changes.ravel(), [k for _ in range(3) for k in range(120)]), graded=False)
        held += found.interval.low <= 0.07 <= found.interval.high
    assert held / 200 > 0.91
