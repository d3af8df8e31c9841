"""What a model can tell apart is one thing, what it likes to say another: an added constant moves only the second."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import optimize, stats

from tillerman.statistics.detection import (
    LEAST,
    answers,
    at_rates,
    auc,
    auc_change,
    auc_interval,
    d_prime,
    moved_wrong,
    odds,
    rates,
    slopes,
)


def made(seed: int, per_answer: tuple[int, ...], gain: float) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities of items of which so many have each right answer, raised by ``gain`` for the right one."""
    draw = np.random.default_rng(seed)
    right = np.repeat(np.arange(len(per_answer)), per_answer)
    logs = draw.standard_normal((len(right), len(per_answer)))
    logs[np.arange(len(right)), right] += gain
    return logs, right


def by_hand(logs: np.ndarray, right: np.ndarray) -> float:
    """Every two items with different right answers, pair of answers by pair of answers."""
    areas = []
    for a in range(logs.shape[1]):
        for b in range(a):
            won = [
                float(x > y) + float(x == y) / 2
                for x in logs[right == a][:, a] - logs[right == a][:, b]
                for y in logs[right == b][:, a] - logs[right == b][:, b]
            ]
            if won:
                areas.append(sum(won) / len(won))
    return float(np.mean(areas))


def test_for_two_answers_the_auc_is_mann_whitneys() -> None:
    logs, right = made(1, (12, 17), 0.8)
    difference = logs[:, 1] - logs[:, 0]
    u = stats.mannwhitneyu(difference[right == 1], difference[right == 0]).statistic
    assert auc(logs, right) == pytest.approx(u / (12 * 17))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.lists(st.integers(0, 9), min_size=2, max_size=5),
    places=st.integers(0, 2),
    shift=st.lists(st.floats(-8, 8), min_size=5, max_size=5),
)
def test_the_auc_is_the_count_by_hand_and_no_constant_changes_it(
    seed: int, sizes: list[int], places: int, shift: list[float]
) -> None:
    logs, right = made(seed, tuple(sizes), 0.5)
    logs = logs.round(places)  # ties
    if sum(size > 0 for size in sizes) < 2:
        assert auc(logs, right) is None
        return
    assert auc(logs, right) == pytest.approx(by_hand(logs, right))
    moved = logs + np.round(shift[: len(sizes)])  # sums that are exact keep their ties
    assert auc(moved, right) == pytest.approx(auc(logs, right), abs=1e-9 if places == 0 else 0.05)


def test_a_constant_moves_the_rates_and_leaves_auc_and_d_prime() -> None:
    logs, right = made(2, (60, 60), 1.0)
    pushed = logs + np.array([0.0, 3.0])
    assert rates(pushed)[1] > 0.9 > rates(logs)[1]
    assert auc(pushed, right) == pytest.approx(auc(logs, right))
    assert d_prime(pushed, right) == pytest.approx(d_prime(logs, right))
    assert moved_wrong(pushed, logs, right) == 0.5


def test_d_prime_is_the_distance_of_two_normals_in_their_spread() -> None:
    draw = np.random.default_rng(3)
    right = np.repeat([0, 1], 4000)
    logs = np.stack([np.zeros(8000), draw.standard_normal(8000) * 2 + 3 * right], 1)
    assert d_prime(logs, right) == pytest.approx(1.5, abs=0.05)
    assert auc(logs, right) == pytest.approx(stats.norm.cdf(1.5 / 2**0.5), abs=0.01)


def test_answers_that_an_item_does_not_have_are_never_given_nor_compared() -> None:
    logs, right = made(4, (10, 10, 10), 0.7)
    short = logs.copy()
    short[:5, 2] = -np.inf  # five items of answer 0 have no answer 2
    assert rates(short)[2] == pytest.approx((answers(logs[5:]) == 2).sum() / 30)
    kept = by_hand(logs[:, :2][right < 2], right[right < 2])
    first = logs[5:10, 0] - logs[5:10, 2]
    second = logs[20:, 0] - logs[20:, 2]
    expected = (kept, np.mean(first[:, None] > second), by_hand(logs[:, 1:][right > 0], right[right > 0] - 1))
    assert auc(short, right) == pytest.approx(np.mean(expected))


def test_where_one_answer_is_right_for_all_nothing_can_be_told_apart() -> None:
    logs, right = made(5, (20, 0), 1.0)
    assert auc(logs, right) is None
    assert d_prime(logs, right) is None
    assert auc_interval(logs, right) is None
    assert auc_change(logs, logs, right) is None


def test_a_broken_model_has_no_auc_gives_no_answer_and_moved_wrong() -> None:
    logs, right = made(6, (10, 10), 1.0)
    broken = logs.copy()
    broken[3] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert auc(broken, right) is None
        assert answers(broken)[3] == -1
        assert rates(broken).sum() == pytest.approx(19 / 20)
        assert moved_wrong(broken, logs, right) == 1 / 20
        assert auc_change(broken, logs, right) is None
        assert at_rates(logs, answers(broken)).shape == (20,)


def test_below_a_number_of_items_of_each_answer_there_is_no_interval() -> None:
    for sizes, there in (((LEAST, LEAST), True), ((LEAST - 1, 50), False), ((LEAST, LEAST, LEAST - 1), False)):
        logs, right = made(7, sizes, 0.5)
        assert (auc_change(logs, logs, right) is not None) == there
        assert (auc_interval(logs, right) is not None) == there


def test_no_change_at_all_still_has_a_width_that_shrinks_with_the_items() -> None:
    widths = []
    for n in (10, 100):
        logs, right = made(8, (n, n), 0.5)
        found = auc_change(logs + np.array([0.0, 2.0]), logs, right)
        assert found is not None and found.value == pytest.approx(0) and found.p_value == pytest.approx(1)
        widths.append(found.interval.high - found.interval.low)
    assert widths[0] > 0.2 and 0.02 < widths[1] < 0.06


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(8, 8), (10, 25), (50, 50), (8, 8, 8), (20, 30, 10, 15)])
@pytest.mark.parametrize(("gain", "more", "kept"), [(0.0, 0.0, 0.5), (0.5, 1.5, 0.8), (1.0, 1.0, 0.97)])
def test_the_interval_of_the_change_covers_it(sizes: tuple[int, ...], gain: float, more: float, kept: float) -> None:
    def both(seed: int, per: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        before, right = made(seed, per, 0.0)
        noise, _ = made(seed + 10**6, per, 0.0)
        after = kept * before + (1 - kept**2) ** 0.5 * noise
        at = np.arange(len(right))
        before[at, right] += gain
        after[at, right] += more
        return after, before, right

    after, before, right = both(1, tuple(size * 400 // min(sizes) for size in sizes))
    truth = (auc(after, right) or 0) - (auc(before, right) or 0)
    hits, rounds = 0, 300
    for seed in range(rounds):
        found = auc_change(*both(10 + seed, sizes))
        assert found is not None
        hits += found.interval.low - 0.01 <= truth <= found.interval.high + 0.01
    assert hits / rounds >= 0.94


@pytest.mark.parametrize("seed", range(6))
def test_answers_at_other_rates_are_the_best_assignment_in_these_numbers(seed: int) -> None:
    logs, _ = made(seed, (15, 20, 25, 0), 0.6)
    wanted = answers(made(seed + 50, (30, 10, 15, 5), 2.0)[0])
    found = at_rates(logs, wanted)
    counts = np.bincount(wanted, minlength=4)
    assert np.bincount(found, minlength=4).tolist() == counts.tolist()
    seats = np.repeat(np.arange(4), counts)
    rows, places = optimize.linear_sum_assignment(logs[:, seats], maximize=True)
    assert (found[rows] == seats[places]).all()


def test_answers_at_a_rate_of_one_are_that_answer_and_at_their_own_rates_stay() -> None:
    logs, _ = made(9, (20, 20), 0.4)
    assert (at_rates(logs, np.ones(40, dtype=np.int64)) == 1).all()
    assert (at_rates(logs, answers(logs)) == answers(logs)).all()


def test_log_odds_are_of_the_right_answer_against_all_others() -> None:
    chances = np.array([[0.5, 0.3, 0.2], [0.1, 0.9, 0.0]])
    with np.errstate(divide="ignore"):
        found = odds(np.log(chances), np.array([0, 1]))
    assert found == pytest.approx(np.log([0.5 / 0.5, 0.9 / 0.1]))


def test_a_slope_is_that_of_the_line_and_leaves_out_doses_that_break_the_model() -> None:
    doses = np.array([-1.0, 0.0, 1.0, 2.0])
    curve = np.stack([2 * doses + 1, -0.5 * doses, doses * 0, np.full(4, np.nan)], 1)
    curve[3, 0] = np.nan
    found = slopes(doses, curve)
    assert found[:3] == pytest.approx([2.0, -0.5, 0.0])
    assert np.isnan(found[3])
