"""What differences of pairs say before a fit: exact where a formula can be read by hand, and not fooled by chance."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tillerman.core.errors import UsageError
from tillerman.statistics.pair_differences import PairFigures, Shuffled, along_own_mean, pair_figures

DRAWS = 19


def sides(n: int, d: int, shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that differ by ``shift`` along the first axis, and by noise of length 1 along every one."""
    random = np.random.default_rng(seed)
    positive, negative = random.normal(size=(2, n, d))
    positive[:, 0] += shift
    return positive, negative


def foretold(positive: np.ndarray, negative: np.ndarray, answers: list[str] | None = None, seed: int = 0) -> Shuffled:
    rows = np.vstack([positive, negative])
    return pair_figures(rows @ rows.T, answers, DRAWS, seed)


def yes_no(n: int, behaviour: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The answer is along axis 0, ten times as far as anything else; what is wanted along axis 1."""
    positive, negative = 0.3 * np.random.default_rng(seed).normal(size=(2, n, 20))
    right = np.arange(n) % 2
    positive[:, 0] += 10 * right
    negative[:, 0] += 10 * (1 - right)
    positive[:, 1] += behaviour
    names = np.array(["no", "yes"])
    return positive, negative, [*names[right], *names[1 - right]]


def test_agreement_is_the_mean_cosine_of_two_pairs_and_explained_the_first_direction() -> None:
    positive, negative = sides(12, 5, 1.0)
    found = foretold(positive, negative).figures
    d = positive - negative
    unit = d / np.linalg.norm(d, axis=1, keepdims=True)
    cosines = [float(unit[i] @ unit[j]) for i in range(12) for j in range(12) if i != j]
    assert found.agreement == pytest.approx(np.mean(cosines))
    assert found.explained == pytest.approx(np.linalg.svd(d)[1][0] ** 2 / (d**2).sum())


def test_pairs_that_share_a_direction_are_told_apart_and_shuffled_ones_are_not() -> None:
    found = foretold(*sides(40, 30, 4.0))
    assert found.figures.agreement > 0.15 and found.agreement.low > 0.1
    assert found.figures.auc > 0.95 and found.figures.d_prime > 2 and found.figures.stability > 0.8
    assert max(one.agreement for one in found.null) < found.figures.agreement / 2
    assert 0.35 < np.mean([one.auc for one in found.null]) < 0.65


def test_held_out_examples_are_not_told_apart_by_chance_however_many_dimensions_there_are() -> None:
    """On the pairs that it was made of, a vector of ten times as many dimensions has an AUC of 1."""
    found = [foretold(*sides(20, 200, 0.0, seed), seed=seed).figures for seed in range(20)]
    assert 0.4 < np.mean([one.auc for one in found]) < 0.6
    assert abs(np.mean([one.agreement for one in found])) < 0.02
    assert 0.4 < np.mean([one.stability for one in found]) < 0.6


def test_what_tells_answers_apart_hides_a_behaviour_from_agreement_and_not_from_the_figures_within() -> None:
    positive, negative, answers = yes_no(40, 1.0)
    found = foretold(positive, negative, answers).figures
    assert abs(found.agreement) < 0.05 and found.explained > 0.9
    assert found.auc_within is not None and found.auc_within > 0.95
    assert found.agreement_within is not None and found.agreement_within > 0.25


def test_an_answer_alone_is_no_behaviour() -> None:
    found = [foretold(*yes_no(40, 0.0, seed), seed=seed) for seed in range(8)]
    within = [(one.figures.auc_within, one.figures.agreement_within) for one in found]
    assert 0.4 < np.mean([area for area, _ in within]) < 0.6
    assert abs(np.mean([agreement for _, agreement in within])) < 0.03


def test_shuffling_keeps_how_often_each_answer_is_right() -> None:
    """By a coin for each pair one answer would be wanted more often, and a vector of ± the answers tell that apart."""

    def spread(answers: list[str] | None) -> float:
        areas = [one.auc for seed in range(6) for one in foretold(positive, negative, answers, seed).null]
        return float(np.std(areas))

    positive, negative, answers = yes_no(40, 0.0)
    assert spread(answers) < 0.8 * spread(None)


def test_answers_of_their_own_have_no_figures_within() -> None:
    found = foretold(*sides(12, 5, 1.0))
    assert found.figures.auc_within is None and found.null[0].agreement_within is None


def test_where_one_answer_is_always_right_nothing_is_within() -> None:
    positive, negative = sides(12, 5, 1.0)
    found = foretold(positive, negative, ["yes"] * 12 + ["no"] * 12).figures
    assert found.auc_within is None and found.agreement_within is None


def test_more_than_two_answers_have_an_area_within() -> None:
    positive, negative = sides(40, 5, 3.0)
    letters = [*"ABCD" * 10, *"BCDA" * 10]
    found = foretold(positive, negative, letters).figures
    assert found.auc_within is not None and found.auc_within > 0.9 and found.agreement_within is None


def test_sides_that_are_the_same_say_nothing() -> None:
    rows = np.random.default_rng(0).normal(size=(10, 4)) * 1e4
    found = foretold(rows, rows)
    assert astuple(found.figures)[:4] == (0.0, 0.5, 0.0, 0.0)
    assert found.agreement.low <= 0 <= found.agreement.high


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100), st.floats(-5, 5))
def test_size_place_and_rotation_change_nothing(seed: int, scale: float, shift: float) -> None:
    positive, negative = sides(12, 4, 1.0, seed)
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(4, 4)))[0]
    first = foretold(positive, negative)
    second = foretold(scale * positive @ turn + shift, scale * negative @ turn + shift)
    for one, other in zip((first.figures, *first.null), (second.figures, *second.null), strict=True):
        assert astuple(one)[:5] == pytest.approx(astuple(other)[:5], abs=1e-6)


def test_the_interval_of_the_agreement_covers_what_many_pairs_say() -> None:
    truth = foretold(*sides(400, 5, 2.0, seed=1)).figures.agreement
    inside = [(found := foretold(*sides(30, 5, 2.0, seed)).agreement).low <= truth <= found.high for seed in range(60)]
    assert np.mean(inside) > 0.85


def test_places_are_compared_within_answers_where_that_can_be() -> None:
    assert PairFigures(0, 0.9, 1, 1, 1, auc_within=0.6).rank < PairFigures(0, 0.5, 1, 1, 1, auc_within=0.7).rank
    assert PairFigures(0, 1.0, 3, 1, 1).rank < PairFigures(0, 1.0, 4, 1, 1).rank


def test_few_pairs_and_answers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="9 pairs: expected at least 10"):
        foretold(*sides(9, 5, 1.0))
    with pytest.raises(UsageError, match="an answer for each"):
        foretold(*sides(10, 5, 1.0), ["yes"] * 10)


def test_agreement_with_the_own_mean_and_separation_along_it_are_those_of_the_vectors() -> None:
    positive, negative = sides(30, 12, 1.0)
    both = np.vstack([positive, negative])
    differences = positive - negative
    v = differences.mean(0)
    cosines = differences @ v / np.linalg.norm(differences, axis=1) / np.linalg.norm(v)
    up, down = (side @ v / np.linalg.norm(v) for side in (positive, negative))
    wanted = (cosines.mean(), (up.mean() - down.mean()) / np.sqrt((up.var() + down.var()) / 2))
    assert along_own_mean(both @ both.T) == pytest.approx(wanted)


def test_the_own_share_in_the_mean_makes_few_pairs_agree_that_have_nothing_in_common() -> None:
    positive, negative = sides(25, 400, 0.0)
    both = np.vstack([positive, negative])
    assert along_own_mean(both @ both.T)[0] == pytest.approx(1 / 5, abs=0.03)
    assert along_own_mean(np.ones((20, 20))) == (0.0, 0.0)
