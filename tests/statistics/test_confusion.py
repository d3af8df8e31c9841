"""Yes or no, said twice: counts, kappa, calibration, the threshold that tells apart best."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tillerman.core.errors import UsageError
from tillerman.statistics.agreement import weighted_kappa
from tillerman.statistics.confusion import Confusion, best_threshold, cohen_kappa, reliability

COUNT = st.integers(0, 30)


def flags(text: str) -> np.ndarray:
    return np.array([one == "1" for one in text])


def test_the_four_counts_are_of_what_was_called_and_what_is() -> None:
    table = Confusion.of(flags("110010"), flags("101010"))
    assert table == Confusion(2, 1, 1, 2) and table.n == 6
    assert table.accuracy.value == pytest.approx(4 / 6) and table.commoner == 0.5
    assert table.sensitivity is not None and table.sensitivity.value == pytest.approx(2 / 3)
    assert Confusion(0, 1, 0, 3).sensitivity is None and Confusion(2, 0, 1, 0).specificity is None


def test_accuracy_balances_both_labels() -> None:
    assert Confusion(0, 0, 10, 90).accuracy.balanced == pytest.approx(0.5)


@given(tp=COUNT, fp=COUNT, fn=COUNT, tn=COUNT)
@settings(max_examples=25)
def test_kappa_is_the_weighted_kappa_of_two_ratings_and_within_its_interval(tp: int, fp: int, fn: int, tn: int) -> None:
    table = Confusion(tp, fp, fn, tn)
    found = cohen_kappa(table)
    if found is None:
        assert table.n in (0, tp, tn)
        return
    called, label = np.repeat([1.0, 1.0, 0.0, 0.0], table.counts), np.repeat([1.0, 0.0, 1.0, 0.0], table.counts)
    assert found.value == pytest.approx(weighted_kappa(called, label))
    assert not found.interval.known or found.interval.low <= found.value <= found.interval.high


def test_where_all_agree_kappa_still_has_a_width() -> None:
    found = cohen_kappa(Confusion(220, 0, 0, 230))
    assert found is not None and found.value == found.interval.high == 1.0
    assert 0.97 < found.interval.low < 0.995
    few = cohen_kappa(Confusion(2, 0, 0, 2))
    assert few is not None and not few.interval.known


@pytest.mark.slow
@pytest.mark.parametrize(("n", "shares"), [(60, (0.4, 0.1, 0.1, 0.4)), (200, (0.08, 0.02, 0.02, 0.88))])
def test_the_interval_of_kappa_holds_the_true_one(n: int, shares: tuple[float, ...]) -> None:
    tp, fp, fn, tn = shares
    chance = (tp + fp) * (tp + fn) + (fn + tn) * (fp + tn)
    true = (tp + tn - chance) / (1 - chance)
    draw, held = np.random.default_rng(2), 0
    for k in range(300):
        found = cohen_kappa(Confusion(*map(int, draw.multinomial(n, shares))), seed=k)
        held += found is not None and found.interval.low <= true <= found.interval.high
    assert held / 300 > 0.91


def test_a_probability_that_is_one_is_calibrated_and_a_sure_one_that_errs_is_not() -> None:
    draw = np.random.default_rng(0)
    scores = draw.random(4000)
    labels = draw.random(4000) < scores
    honest, sure = reliability(scores, labels), reliability(np.round(scores), labels)
    assert honest.error < 0.03 < 0.2 < sure.error
    assert honest.brier.value == pytest.approx(1 / 6, abs=0.01) and honest.commoner == pytest.approx(0.25, abs=0.01)
    assert honest.brier.interval.low < honest.brier.value < honest.brier.interval.high
    assert [one.share.n for one in honest.bins] == [sum((scores * 10).astype(int) == k) for k in range(10)]
    assert len(sure.bins) == 2 and sure.bins[1].high == 1.0


def test_calibration_is_of_scores_from_0_to_1() -> None:
    with pytest.raises(UsageError, match="expected some, from 0 to 1"):
        reliability(np.array([1.5]), np.array([True]))


def test_the_best_threshold_lies_between_the_two_labels() -> None:
    scores, labels = np.array([1.0, 2, 3, 6, 7, 8]), flags("000111")
    assert best_threshold(scores, labels) == 4.5
    assert best_threshold(np.array([1.0, 2, 3, 4]), flags("0101")) in (1.5, 3.5)
    with pytest.raises(UsageError, match="give one with `threshold`"):
        best_threshold(np.ones(4), flags("0101"))
    with pytest.raises(UsageError, match="of both labels"):
        best_threshold(np.arange(4.0), flags("1111"))
