"""A pass that starts at the edited block leaves out the blocks below it, and puts everything back."""

from __future__ import annotations

import pytest
import torch

from tillerman.core.hookpoint import HookPoint
from tillerman.models.restart import Restart, border_of, entry, starting

from .. import tiny

IDS = torch.tensor(tiny.random_rows([7, 7]))


def _entering(opened, border):
    kept = []
    handle = tiny.hook(opened.model, "llama", entry(opened.parts, border), lambda h: kept.append(h.clone()))
    logits = opened.model(input_ids=IDS).logits
    handle.remove()
    return Restart(border, kept[0]), logits


@pytest.mark.parametrize("border", [1, 2, 3])
def test_only_the_blocks_above_the_border_run_and_the_numbers_are_the_same_bits(border):
    opened, ran = tiny.opened(), []
    restart, whole = _entering(opened, border)
    handles = [
        b.mlp.register_forward_hook(lambda *_, i=i: ran.append(i))
        for i, b in enumerate(tiny.blocks(opened.model, "llama"))
    ]
    with starting(opened.parts, restart):
        short = opened.model(input_ids=IDS).logits
    for handle in handles:
        handle.remove()
    assert ran == list(range(border, tiny.LAYERS))
    assert torch.equal(short, whole)


@pytest.mark.parametrize("own", [False, True])
def test_every_forward_is_put_back_after_an_exception(own):
    opened = tiny.opened()
    block = opened.parts.blocks[0]
    mine = block.forward
    if own:
        block.__dict__["forward"] = mine
    restart, _ = _entering(opened, 2)
    with pytest.raises(ZeroDivisionError), starting(opened.parts, restart):
        assert block.__dict__["forward"] is not mine
        raise ZeroDivisionError
    assert block.__dict__.pop("forward", None) is (mine if own else None)
    assert "forward" not in opened.parts.blocks[1].__dict__
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in opened.model.modules())


def test_the_border_is_the_first_block_that_an_edit_can_change():
    assert border_of(HookPoint(1, "resid_post")) == 2
    for site in ("resid_pre", "attn_out", "mlp_out"):
        assert border_of(HookPoint(1, site)) == 1
