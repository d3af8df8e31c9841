"""Perplexity of what was written: all tokens after their prompts, under the unsteered model."""

from __future__ import annotations

import math

import pytest
import torch

from tillerman.core.store import Store
from tillerman.evaluation.perplexity import perplexity_of

from .. import tiny

TEXTS = [((5, 6, 7), (8, 9)), ((4,), (3, 5, 11, 2)), ((9, 9), ())]


def test_it_is_the_exponential_of_the_mean_nats_of_all_tokens_after_their_prompts() -> None:
    opened, nats = tiny.opened(), []
    for prompt, said in TEXTS:
        with torch.no_grad():
            logits = opened.model(input_ids=torch.tensor([[*prompt, *said]])).logits[0].double().log_softmax(-1)
        nats += [-float(logits[len(prompt) + i - 1, token]) for i, token in enumerate(said)]
    assert len(nats) == 6
    assert perplexity_of(opened, TEXTS) == pytest.approx(math.exp(sum(nats) / 6), rel=1e-5)


def test_of_no_tokens_there_is_none() -> None:
    assert perplexity_of(tiny.opened(), [((5, 6), ())]) is None
    assert perplexity_of(tiny.opened(), []) is None


def test_a_store_keeps_it(tmp_path) -> None:
    store = Store(tmp_path / "kept", "key")
    first = perplexity_of(tiny.opened(), TEXTS, store)
    assert list((tmp_path / "kept").rglob("*"))
    assert perplexity_of(tiny.opened(), TEXTS, store) == first
