"""Prompts that begin alike run their beginning once, and go on as they would alone."""

from __future__ import annotations

import pytest

from tillerman.core.plan import Intervention
from tillerman.models import prefill
from tillerman.models.grid import branch_fault
from tillerman.steering import generation
from tillerman.steering.generation import Sampling, continuation_tokens
from tillerman.steering.steer import steer

from .. import tiny

BEGINNING = tiny.random_rows([20], seed=5)[0]
PROMPTS = [(*BEGINNING, *rest) for rest in tiny.random_rows([3, 7, 1, 5])]


def said(opened, prompts, sampling, **how):
    """The texts, and how many tokens entered the first block while they were written."""
    ran = []
    block = opened.parts.blocks[0]
    handle = block.register_forward_pre_hook(
        lambda _, args, kwargs: ran.append((args[0] if args else kwargs["hidden_states"]).shape[:2].numel()),
        with_kwargs=True,
    )
    found = continuation_tokens(opened, prompts, [()] * len(prompts), sampling, **how)
    handle.remove()
    return found, sum(ran)


def test_texts_are_those_of_prompts_that_run_whole(family, monkeypatch):
    sampling = Sampling(6, 0.9, 3)
    monkeypatch.setattr(prefill, "LEAST", 1)
    opened = tiny.opened(family)
    branch_fault(opened)  # asked once per model, by passes of its own
    whole, plain = said(opened, PROMPTS, sampling)
    shared, ran = said(opened, PROMPTS, sampling, unsteered=True)
    assert shared == whole
    assert ran == plain - 3 * 20 or prefill.prefilled(opened, PROMPTS) is None


def test_the_usual_kind_of_model_shares_what_is_worth_it(monkeypatch):
    opened = tiny.opened("llama")
    assert prefill.prefilled(opened, PROMPTS) is None  # 60 tokens are not
    monkeypatch.setattr(prefill, "LEAST", 60)
    begun = prefill.prefilled(opened, PROMPTS)
    assert begun is not None and begun.batch.mask.sum(1).tolist() == [23, 27, 21, 25]
    assert prefill.prefilled(opened, [BEGINNING, *PROMPTS]) is not None  # which leaves a token of the shortest
    assert prefill.prefilled(opened, [*PROMPTS, (1, 2)]) is None


def test_steered_prompts_run_whole(monkeypatch):
    monkeypatch.setattr(generation, "prefilled", lambda *_: pytest.fail("shared"))
    opened, plan = tiny.opened("llama"), (Intervention(tiny.vector(1, size=9.0), 1.0),)
    continuation_tokens(opened, PROMPTS, [(), plan, (), plan], Sampling(2), unsteered=True)
    with steer(opened.model, plan):
        assert len(continuation_tokens(opened, PROMPTS, [()] * 4, Sampling(2))) == 4
