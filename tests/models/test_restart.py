"""A pass that starts at the edited block gives the same bits as the whole pass."""

from __future__ import annotations

import pytest
import torch

from tillerman.core.hookpoint import SITES, HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.models import restart as module
from tillerman.models.logits import option_logprobs, option_restarts
from tillerman.models.restart import border_of, starting
from tillerman.steering.steer import steer

from .. import tiny

PROMPTS = tiny.random_rows([5, 2, 9, 3, 12])
OPTIONS = [(5, 6)] * len(PROMPTS)
POINTS = [HookPoint(layer, site) for layer in range(tiny.LAYERS) for site in SITES]


@pytest.mark.parametrize("budget", [12, 4096])
def test_scores_from_a_restart_are_bit_equal_to_those_of_the_whole_pass(family, budget):
    opened = tiny.opened(family)
    found = option_restarts(opened, PROMPTS, sorted({border_of(p) for p in POINTS} - {0}), budget=budget)
    assert sorted(found) == [1, 2, 3]
    for point in POINTS:
        for strength, scope in ((2.0, Scope("all")), (-1.0, Scope("last")), (0.0, Scope("all"))):
            with steer(opened.model, Intervention(tiny.vector(point), strength, "add", scope)) as steered:
                whole = option_logprobs(opened, PROMPTS, OPTIONS, budget=budget)
                before = steered.receipt.applied[0].tokens[str(point)]
                short = option_logprobs(opened, PROMPTS, OPTIONS, budget=budget, restart=found.get(border_of(point)))
                assert steered.receipt.applied[0].tokens[str(point)] == 2 * before
            assert all(torch.equal(a, b) for a, b in zip(whole, short, strict=True))


@pytest.mark.parametrize("border", [1, 2, 3])
def test_the_blocks_below_the_border_do_not_run(border):
    opened, ran = tiny.opened(), []
    found = option_restarts(opened, PROMPTS, [border])
    handles = [
        b.mlp.register_forward_hook(lambda *_, i=i: ran.append(i))
        for i, b in enumerate(tiny.blocks(opened.model, "llama"))
    ]
    option_logprobs(opened, PROMPTS, OPTIONS, restart=found[border])
    for handle in handles:
        handle.remove()
    assert ran == list(range(border, tiny.LAYERS))


@pytest.mark.parametrize("own", [False, True])
def test_every_forward_is_put_back_after_an_exception(own):
    opened = tiny.opened()
    block = opened.parts.blocks[0]
    mine = block.forward
    if own:
        block.__dict__["forward"] = mine
    found = option_restarts(opened, PROMPTS, [2])
    with pytest.raises(ZeroDivisionError), starting(opened.parts, found[2], 0):
        assert block.__dict__["forward"] is not mine
        raise ZeroDivisionError
    assert block.__dict__.pop("forward", None) is (mine if own else None)
    assert "forward" not in opened.parts.blocks[1].__dict__
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in opened.model.modules())


def test_what_would_not_fit_into_memory_is_not_kept(monkeypatch):
    opened = tiny.opened()
    need = sum(map(len, PROMPTS)) * tiny.WIDTH * 4
    monkeypatch.setattr(module, "MEMORY", need)
    assert option_restarts(opened, PROMPTS, [1, 2], budget=1) == {}
    assert set(option_restarts(opened, PROMPTS, [2], budget=1)) == {2}


def test_the_border_is_the_first_block_that_an_edit_can_change():
    assert border_of(HookPoint(1, "resid_post")) == 2
    for site in ("resid_pre", "attn_out", "mlp_out"):
        assert border_of(HookPoint(1, site)) == 1
