"""How much a pass may hold, and what happens on a device that has not the memory for it."""

from __future__ import annotations

import logging

import pytest
import torch

from tillerman.core.errors import ModelError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import Row
from tillerman.evaluation.side_effects import DriftMeter, NeutralText
from tillerman.models import memory
from tillerman.models.batches import CPU_TOKENS, batches, token_budget
from tillerman.models.checking import check
from tillerman.models.gradients import Taught, activation_gradients, parameter_gradient
from tillerman.models.grid import branch_fault
from tillerman.models.logits import answer_sums, option_logprobs
from tillerman.models.objectives import BothWays
from tillerman.models.training import TrainingOptions, train_vectors
from tillerman.models.unsteered import unsteered_answers, unsteered_options

from .. import tiny
from ..pretend.machine import pretend_machine
from ..small_device import small_device

PROMPTS = tiny.random_rows([7, 9, 9, 5, 8, 3])
ALIKE = [(*tiny.random_rows([30], seed=1)[0], *prompt) for prompt in PROMPTS]
TAUGHT = [Taught(prompt, ((11, 12), (13,))) for prompt in PROMPTS]


def said(caplog):
    return [record.message for record in caplog.records if "ran out of memory" in record.message]


def of_options(opened):
    return option_logprobs(opened, PROMPTS, [[11, 12]] * 6)


def of_answers(opened):
    return list(answer_sums(opened, [Row((*p, 11, 12), len(p)) for p in PROMPTS])[0])


def of_texts(opened):
    text = NeutralText("made up", torch.tensor(tiny.random_rows([12] * 6)))
    plans = [(tiny.Intervention(tiny.vector(1), strength),) for strength in (0.5, 1.0)]
    drifts = DriftMeter(opened, text).measure_all(plans)
    return [torch.tensor([one.perplexity, one.perplexity_ratio, one.kl]) for one in drifts]


def of_unsteered_options(opened):
    return unsteered_options(opened, ALIKE, [[11, 12]] * 6)


def of_unsteered_answers(opened):
    return unsteered_answers(opened, ALIKE, [[(11, 12), (13,)]] * 6)


def of_activation_gradients(opened):
    found = activation_gradients(opened, TAUGHT, [HookPoint(0), HookPoint(1)])
    return [*found.activations.values(), *found.gradients.values(), found.losses]


def of_parameter_gradients(opened):
    return list(parameter_gradient(opened, TAUGHT, HookPoint(1)).values())


def of_training(opened):
    norms = {HookPoint(0): 3.0, HookPoint(1): 3.0}
    return list(train_vectors(opened, BothWays(TAUGHT), norms, TrainingOptions(steps=3, pairs=4)).values())


@pytest.mark.parametrize(
    "scores, most",
    [
        (of_options, 30),
        (of_answers, 30),
        (of_texts, 30),
        (of_unsteered_options, 40),
        (of_unsteered_answers, 40),
        (of_activation_gradients, 70),
        (of_parameter_gradients, 70),
        (of_training, 25),
    ],
)
def test_a_device_without_the_memory_gets_half_and_the_numbers_are_the_same(caplog, scores, most):
    plain, opened = tiny.fresh_opened(), tiny.fresh_opened()
    branch_fault(opened)  # asked once, by passes of its own
    with caplog.at_level(logging.WARNING), small_device(opened, most):
        ours = scores(opened)
    assert len(said(caplog)) == 1
    torch.testing.assert_close(ours, scores(plain), atol=1e-5, rtol=1e-4)
    assert token_budget(opened.parts) == CPU_TOKENS // 2
    assert memory.logit_room(opened.parts) == memory.CPU_LOGITS // 2
    assert token_budget(plain.parts) == CPU_TOKENS


def test_a_device_that_has_no_memory_for_half_either_is_an_error_with_a_remedy():
    opened = tiny.fresh_opened()
    with small_device(opened, 8), pytest.raises(ModelError, match="no memory for half a pass either; close what else"):
        of_options(opened)


def test_a_device_holds_fewer_tokens_and_logits_where_less_is_free():
    found = []
    for free in (8 * 2**30, 2**27):
        with pretend_machine(free=free):
            model = tiny.new_model().to("cuda")
            parts = tiny.anatomy(model)
            found.append((token_budget(parts), memory.logit_room(parts)))
    assert found[0][0] > found[1][0]
    assert found[0][1] == 64 * found[1][1] == 8 * 2**30 // 256


def test_the_vocabulary_decides_how_many_prompts_run_together(opened, monkeypatch):
    check(opened.model, opened.parts, opened.id)
    rows = []
    handle = opened.parts.decoder.register_forward_pre_hook(
        lambda _, __, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    try:
        for room in (2 * tiny.VOCAB, memory.CPU_LOGITS):
            monkeypatch.setattr(memory, "CPU_LOGITS", room)
            of_options(opened)
    finally:
        handle.remove()
    assert rows == [2, 2, 2, 6]


@pytest.mark.parametrize("budget", [1024, 65536])
def test_padding_stays_small_also_where_memory_is_plentiful(budget):
    lengths = [10 + 3 * (i % 200) for i in range(600)]
    made = list(batches([[1] * n for n in lengths], pad=0, budget=budget))
    assert sum(len(one.rows) for one in made) == 600
    real, whole = sum(int(one.mask.sum()) for one in made), sum(one.tokens.numel() for one in made)
    assert whole <= 1.25 * real
    assert all(one.tokens.numel() <= budget for one in made)
    if budget > 4096:
        assert len(made) <= 20  # and batches stay large
