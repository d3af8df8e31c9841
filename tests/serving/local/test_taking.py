"""A row's tokens are drawn by its own settings and numbers."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tillerman.serving.engine import Drawing
from tillerman.serving.engines.local.taking import Taker, draw, narrowed

LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])


def _drawn(times=1500, logits=LOGITS, **drawing):
    taker = Taker(Drawing(1, **drawing))
    return Counter(taker.take(logits) for _ in range(times))


def test_tokens_are_drawn_as_often_as_their_probability_says():
    expected = (LOGITS / 0.8).softmax(0)
    counts = _drawn(temperature=0.8, seed=3)
    for token, p in enumerate(expected.tolist()):
        assert counts[token] / 1500 == pytest.approx(p, abs=4 * (p * (1 - p) / 1500) ** 0.5 + 1e-3)


def test_a_tiny_temperature_is_no_overflow_but_the_largest_logit():
    assert set(_drawn(50, temperature=1e-30)) == {0}


def test_top_k_leaves_the_likeliest_and_ties_with_the_last_of_them():
    assert set(_drawn(temperature=3.0, top_k=2)) == {0, 1}
    assert set(_drawn(logits=torch.tensor([1.0, 0.0, 0.0, -9.0]), temperature=3.0, top_k=2)) == {0, 1, 2}


@given(st.integers(0, 10**6), st.floats(0.05, 0.999))
@settings(max_examples=15)
def test_top_p_leaves_the_fewest_tokens_that_together_have_it(seed, top_p):
    logits = torch.randn(2000, generator=torch.Generator().manual_seed(seed)) * 3
    order = logits.softmax(0).sort(descending=True)
    fewest = int((order.values.cumsum(0) < top_p).sum()) + 1
    allowed = set(order.indices[:fewest].tolist())
    left = torch.isfinite(narrowed(logits, 0, top_p)).nonzero().flatten()
    assert set(left.tolist()) == allowed
    assert set(_drawn(20, logits, top_p=top_p)) <= allowed


def test_a_flat_distribution_is_narrowed_beyond_the_tokens_looked_at_first():
    logits = torch.zeros(2000)
    logits[:1500] = 3.0
    drawn = _drawn(900, logits, temperature=1.0, top_p=0.9)
    assert len(drawn) > 520 and max(drawn) < 1500


def test_penalties_and_bias_are_those_of_the_interface():
    taker = Taker(Drawing(9, temperature=0.0, presence_penalty=0.5, frequency_penalty=0.3, logit_bias={5: 5.4}))
    said = []
    for _ in range(4):
        (drawn,) = draw(LOGITS[None], [taker])
        said.append(drawn.token)
    # 5 has 2.4, then 1.6; 0 has 2.0, then 1.2; 5 again: 1.3; 1 has 1.0
    assert said == [5, 0, 5, 5]


def test_a_bias_of_minus_100_bans_a_token_and_100_forces_one():
    assert 0 not in _drawn(temperature=2.0, logit_bias={0: -100.0})
    assert set(_drawn(50, temperature=1.0, logit_bias={5: 100.0})) == {5}


def test_logprobs_are_of_the_models_own_distribution():
    taker = Taker(Drawing(1, temperature=0.5, logit_bias={3: 100.0}, logprobs=2))
    (drawn,) = draw(LOGITS[None], [taker])
    logprobs = LOGITS.log_softmax(0).tolist()
    assert drawn.token == 3 and drawn.logprob == pytest.approx(logprobs[3])
    assert [token for token, _ in drawn.others] == [0, 1]
    assert [said for _, said in drawn.others] == pytest.approx(logprobs[:2])


def test_a_row_whose_logits_are_no_numbers_gives_none_and_its_neighbours_go_on():
    rows = torch.stack([LOGITS, torch.full((6,), torch.nan), LOGITS, torch.full((6,), torch.inf)])
    rows[2, 0] = -torch.inf
    found = draw(rows, [Taker(Drawing(1, temperature=0.0)) for _ in rows])
    assert [one and one.token for one in found] == [0, None, 1, None]


@pytest.mark.parametrize("seed", [0, -1, 2**64 - 1])
def test_a_seed_says_the_draws_whatever_its_size(seed):
    many = [tuple(Taker(Drawing(9, seed=seed)).take(LOGITS) for _ in range(1)) for _ in range(2)]
    assert many[0] == many[1]
    one, other = Taker(Drawing(9, seed=seed)), Taker(Drawing(9, seed=seed + 1))
    assert [one.take(LOGITS) for _ in range(40)] != [other.take(LOGITS) for _ in range(40)]
