"""Tango's interval, against its own definition written another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import optimize, stats

from tillerman.statistics.tango import score, score_interval


@st.composite
def _counts(draw):
    n = draw(st.integers(1, 120))
    gained = draw(st.integers(0, n))
    return gained, draw(st.integers(0, n - gained)), n


def _by_likelihood(gained, lost, n, d):
    """The z of ``d`` with the share of lost items that makes the counts most likely, found by search."""

    def unlikely(q):
        shares = (q + d, q, 1 - 2 * q - d)
        return -sum(
            k * math.log(max(p, 1e-300)) for k, p in zip((gained, lost, n - gained - lost), shares, strict=True)
        )

    low, high = max(0.0, -d), (1 - d) / 2
    q = optimize.minimize_scalar(unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-11}).x
    return (gained - lost - n * d) / math.sqrt(n * (2 * q + d - d * d))


@settings(max_examples=60)
@given(_counts(), st.floats(-0.9, 0.9))
def test_the_score_takes_the_most_likely_share_of_lost_items(counts, d):
    gained, lost, n = counts
    assert score(gained, lost, n, d) == pytest.approx(_by_likelihood(gained, lost, n, d), rel=2e-3, abs=2e-3)


@given(_counts())
def test_the_score_of_no_difference_is_mcnemars(counts):
    gained, lost, n = counts
    expected = (gained - lost) / math.sqrt(gained + lost) if gained != lost else 0.0
    assert score(gained, lost, n, 0.0) == pytest.approx(expected)


@given(_counts(), st.sampled_from([0.8, 0.9, 0.95]))
def test_the_interval_ends_where_the_score_is_refused(counts, level):
    gained, lost, n = counts
    found, z = score_interval(gained, lost, n, level), stats.norm.ppf((1 + level) / 2)
    assert -1 <= found.low <= (gained - lost) / n <= found.high <= 1
    if found.low > -1:
        assert score(gained, lost, n, found.low) == pytest.approx(z, abs=1e-6)
    if found.high < 1:
        assert score(gained, lost, n, found.high) == pytest.approx(-z, abs=1e-6)


@given(_counts())
def test_swapping_gains_and_losses_mirrors_the_interval(counts):
    gained, lost, n = counts
    one, other = score_interval(gained, lost, n), score_interval(lost, gained, n)
    assert one.low == pytest.approx(-other.high, abs=1e-9)
    assert one.high == pytest.approx(-other.low, abs=1e-9)


def test_every_item_gained_ends_at_one_and_still_has_a_width():
    found = score_interval(12, 0, 12)
    assert found.high == 1
    assert 0.5 < found.low < 0.8


@pytest.mark.slow
# (share of items that change, effect); where it is a few items, next to nothing lies between 93 and 100 %
@pytest.mark.parametrize("n", [50, 100])
@pytest.mark.parametrize(
    ("changed", "effect"),
    [(0.05, 0.04), (0.05, 0.05), (0.1, 0.0), (0.1, 0.04), (0.1, 0.1), (0.2, 0.1), (0.4, 0.0), (0.4, 0.35), (0.7, 0.2)],
)
def test_the_interval_covers_exactly_as_often_as_it_says(n, changed, effect):
    """No simulation: the probabilities of all counts whose interval holds the truth, summed."""
    gain, loss = (changed + effect) / 2, (changed - effect) / 2
    gained, lost = (grid.ravel() for grid in np.meshgrid(np.arange(n + 1), np.arange(n + 1)))
    gained, lost = gained[gained + lost <= n], lost[gained + lost <= n]
    likely = stats.multinomial.pmf(np.stack([gained, lost, n - gained - lost], -1), n, [gain, loss, 1 - changed])
    covered = missed = 0.0
    for g, l, p in zip(gained.tolist(), lost.tolist(), likely.tolist(), strict=True):
        if p > 1e-7:
            found = score_interval(g, l, n)
            covered += p * (found.low <= effect <= found.high)
            missed += p * (found.low > effect)
    assert 0.93 <= covered <= (0.97 if n * changed > 5 else 1.0)
    assert effect or missed <= 0.027
