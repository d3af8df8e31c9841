"""Sampling in which every row draws the same random numbers."""

from __future__ import annotations

import pytest
import torch

from tillerman.core.errors import MetricError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention
from tillerman.steering.draws import SharedDraws
from tillerman.steering.generation import Sampling, continuation_tokens

from .. import tiny

PROMPTS = [tuple(row) for row in tiny.random_rows([5, 9, 7])]
PLANS = [(), (Intervention(tiny.vector(HookPoint(1)), 0.5),), ()]


def draws(seed=0, temperature=1.0, top_k=0, top_p=None):
    return SharedDraws(temperature, seed, top_k, top_p)


def test_a_shared_draw_does_not_depend_on_the_batch():
    opened = tiny.opened("llama")
    sampling = Sampling(8, temperature=1.0, seed=3, shared=True)
    together = continuation_tokens(opened, PROMPTS, PLANS, sampling)
    alone = [continuation_tokens(opened, [p], [plan], sampling)[0] for p, plan in zip(PROMPTS, PLANS, strict=True)]
    assert together == alone
    assert together != continuation_tokens(opened, PROMPTS, PLANS, Sampling(8, temperature=1.0, seed=4, shared=True))
    assert together != continuation_tokens(opened, PROMPTS, PLANS, Sampling(8))
    first, second = continuation_tokens(opened, [PROMPTS[0]] * 2, [()] * 2, sampling)
    assert first == second


def test_draws_follow_the_probabilities():
    scores = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    one, count = draws(seed=5), 4000
    drawn = torch.stack([one(torch.zeros(1, 0).long(), scores)[0].argmax() for _ in range(count)])
    shares = torch.bincount(drawn, minlength=4) / count
    assert torch.allclose(shares, scores[0].softmax(0), atol=0.03)


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 0.3}, {"temperature": 1e-3}])
def test_draws_keep_to_the_models_settings(narrow):
    scores, one = torch.tensor([[0.0, 1.0, 2.0, 1.9]]), draws(**narrow)
    assert {int(one(torch.zeros(1, 0).long(), scores)[0].argmax()) for _ in range(50)} == {2}


def test_a_broken_model_draws_nothing():
    with pytest.raises(MetricError, match="no finite probabilities"):
        draws()(torch.zeros(1, 0).long(), torch.tensor([[float("nan"), 0.0]]))
