"""Prompts that are asked again: their scores are those of prompts that run anew, and they do not run anew."""

from __future__ import annotations

import pytest
import torch

from tillerman.core.plan import Intervention, Scope
from tillerman.core.store import Store
from tillerman.data.marked_scopes import after_instruction
from tillerman.data.presenting import present
from tillerman.data.writing import make_writer
from tillerman.evaluation.grid import scores_under
from tillerman.models import memory
from tillerman.models.prompt_cache import PromptCache

from .. import tiny
from ..evaluation.test_grid import MIXED
from ..small_device import small_device


def plans(scope: str | Scope, strengths: list[float]) -> list[tuple[Intervention, ...]]:
    where = scope if isinstance(scope, Scope) else Scope(scope)
    return [(Intervention(tiny.vector(layer), s, scope=where),) for layer in (0, 1) for s in strengths]


def asked(opened, rounds, kept):
    writer = make_writer(opened.tokenizer)
    written = [writer.write(item) for item in present(MIXED)]
    return [scores_under(opened, written, one, store=Store(None, ""), kept=kept) for one in rounds]


def close(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        for mine, yours in zip(one, other, strict=True):
            assert [len(row) for row in mine] == [len(row) for row in yours]
            for row, expected in zip(mine, yours, strict=True):
                torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "scope",
    [
        "last",
        pytest.param("all", marks=pytest.mark.slow),
        pytest.param(after_instruction(tiny.tokenizer(tiny.CHAT)), marks=pytest.mark.slow),
    ],
)
def test_scores_of_prompts_that_are_kept_are_those_of_prompts_that_run_anew(scope):
    opened = tiny.opened(chat=tiny.CHAT)
    rounds = [[*plans(scope, [0.5, 1.0])[1:], ()], plans(scope, [0.5, 2.0]), plans(scope, [1.0, 0.5])]
    close(asked(opened, rounds, PromptCache()), asked(opened, rounds, None))


def test_a_cell_that_was_asked_before_runs_nothing_and_another_one_its_branches_alone(opened):
    rounds = [plans("last", [0.5, 1.0]), plans("last", [1.0]), plans("last", [2.0])]
    kept, ran = PromptCache(), []
    for one in rounds:
        with small_device(opened, 10**6) as sizes:
            first = asked(opened, [one], kept)
        ran.append(sum(sizes))
        assert first == asked(opened, [one], kept)  # to the last bit
    assert ran[1] == 0 < ran[2] < ran[0] / 2


@pytest.mark.slow
def test_without_room_nothing_is_kept_but_the_scores(opened, monkeypatch):
    monkeypatch.setattr(memory, "CPU_KEPT", 1)
    rounds = [plans("last", [0.5]), plans("last", [2.0])]
    kept = PromptCache()
    close(asked(opened, rounds, kept), asked(opened, rounds, None))
    with small_device(opened, 10**6) as sizes:
        asked(opened, [plans("last", [1.0])], kept)
    anew = sum(sizes)
    with small_device(opened, 10**6) as sizes:
        asked(opened, [plans("last", [1.0])], None)
    assert anew == sum(sizes) > 0


def test_passes_can_be_forgotten_and_scores_stay(opened):
    kept = PromptCache()
    before = asked(opened, [plans("last", [0.5])], kept)
    kept.forget_passes()
    with small_device(opened, 10**6) as sizes:
        assert asked(opened, [plans("last", [0.5])], kept) == before
    assert not sizes


def test_what_is_kept_is_as_large_as_was_reckoned(opened):
    parts = opened.parts
    width, blocks = parts.width, len(parts.blocks)
    assert memory.kept_size(parts, 0, 3) == 3 * (blocks + 1) * width * 4
    config = opened.model.config
    a_head = width // config.num_attention_heads
    assert memory.kept_size(parts, 5, 0) == 5 * 2 * blocks * config.num_key_value_heads * a_head * 4
