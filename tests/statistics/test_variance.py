"""What kinds of items account for, of the spread of a figure over items."""

from __future__ import annotations

import numpy as np
import pytest

from tillerman.statistics.variance import LEAST, by_chance, explained, explained_interval

RANDOM = np.random.default_rng(0)
LETTER = np.arange(40) % 2 == 0
WORD = np.arange(40) % 4 < 2


def test_what_one_factor_explains_is_the_spread_of_the_group_means() -> None:
    values = RANDOM.normal(size=40) + 2 * LETTER
    means = np.where(LETTER, values[LETTER].mean(), values[~LETTER].mean())
    assert explained(values, LETTER) == pytest.approx(means.var() / values.var())
    assert explained(values, LETTER, ~LETTER) == pytest.approx(explained(values, LETTER))  # says nothing new
    assert explained(values, LETTER, WORD) >= explained(values, LETTER)


def test_all_and_nothing() -> None:
    assert explained(3.0 * LETTER - WORD, LETTER, WORD) == pytest.approx(1.0)
    assert explained(np.ones(40), LETTER) == 0.0
    assert explained(RANDOM.normal(size=40), np.ones(40, dtype=bool)) == pytest.approx(0.0)


def test_factors_that_mean_nothing_explain_by_chance_what_is_said() -> None:
    found = np.mean([explained(RANDOM.permutation(40).astype(float), LETTER, WORD) for _ in range(400)])
    assert by_chance(LETTER, WORD) == 2 / 39
    assert found == pytest.approx(2 / 39, abs=0.01)
    assert by_chance(LETTER, ~LETTER, np.ones(40, dtype=bool)) == 1 / 39


def test_the_interval_covers_what_many_items_say() -> None:
    held = 0
    for _ in range(60):
        letter = RANDOM.random(60) < 0.5
        found = explained_interval(RANDOM.normal(size=60) + 2 * letter, letter)
        held += found.low < 0.5 < found.high  # variance 1 between, 1 within
    assert held >= 52
    assert not explained_interval(np.arange(LEAST - 1.0), np.arange(LEAST - 1) % 2 == 0).known
