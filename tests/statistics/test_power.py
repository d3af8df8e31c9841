"""What is foreseen is what then happens."""

from __future__ import annotations

import numpy as np
import pytest

from tillerman.core.errors import UsageError
from tillerman.statistics.estimates import effect
from tillerman.statistics.power import foreseen, minimum_detectable_effect, power_of


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "changed", "true"), [(30, 0.4, 0.3), (60, 0.2, 0.1), (100, 0.1, 0.1), (200, 0.2, 0.09), (200, 0.5, 0.0)]
)
def test_power_is_the_share_of_simulated_runs_that_find_the_effect(n, changed, true):
    rng, runs = np.random.default_rng(0), 1000
    shares = [(changed + true) / 2, (changed - true) / 2, 1 - changed]
    drawn = [rng.choice([1, -1, 0], n, p=shares) for _ in range(runs)]
    found = np.mean([effect(change == 1, change == -1, ["A"] * n).found for change in drawn])
    assert power_of(true, n, changed) == pytest.approx(found, abs=0.045)  # three standard errors


@pytest.mark.slow
@pytest.mark.parametrize("n", [6, 20, 50, 200, 5000])
def test_the_minimum_detectable_effect_has_the_power_it_was_asked_for(n):
    for power in (0.5, 0.8, 0.95):
        least = minimum_detectable_effect(n, power=power)
        assert least is not None
        assert power_of(least, n) == pytest.approx(power, abs=1e-6)
        assert power_of(0.9 * least, n) < power


def test_more_items_and_fewer_that_change_show_smaller_effects():
    by_size = [minimum_detectable_effect(n) for n in (20, 50, 100, 400)]
    assert by_size == sorted(by_size, reverse=True)
    by_share = [minimum_detectable_effect(200, discordant=share) for share in (0.05, 0.1, 0.3, 0.6)]
    assert by_share == sorted(by_share)


def test_three_items_show_nothing():
    assert minimum_detectable_effect(3) is None
    assert power_of(1.0, 3) == 0
    assert foreseen(3).minimum is None


def test_several_methods_share_alpha():
    one, five = foreseen(200), foreseen(200, comparisons=5)
    assert five.alpha == pytest.approx(one.alpha / 5)
    assert one.minimum is not None
    assert five.minimum is not None
    assert five.minimum > one.minimum
    assert power_of(five.minimum, 200, alpha=0.01) == pytest.approx(0.8, abs=1e-6)


@pytest.mark.parametrize(
    "asked", [{"effect": 1.5}, {"effect": float("nan")}, {"n": 0}, {"discordant": 0.0}, {"alpha": 1.0}]
)
def test_what_is_no_share_is_refused(asked):
    with pytest.raises(UsageError, match="expected shares"):
        power_of(**{"effect": 0.1, "n": 100, **asked})


def test_a_power_that_is_no_probability_is_refused():
    with pytest.raises(UsageError, match="probability"):
        minimum_detectable_effect(100, power=80.0)
