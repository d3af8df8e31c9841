"""What every family with a row owes: its sites are exact against a plain hook, with the cache and without."""

from __future__ import annotations

import pytest
import torch

from tillerman.core.errors import HookPointError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.core.rows import Row
from tillerman.models.capture import capture
from tillerman.models.grid import branch_fault
from tillerman.models.head import all_logits
from tillerman.models.logits import option_logprobs
from tillerman.models.opened import open_model
from tillerman.steering.steer import steer

from .. import families, tiny

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
SITES = ("resid_pre", "resid_post", "attn_out", "mlp_out", "heads")
kinds = pytest.mark.parametrize("kind", families.KINDS)


def _opened(kind):
    return open_model(families.model(kind), tiny.tokenizer())


def _place(kind: str, point: HookPoint) -> str | None:
    """Path in the block of what a plain hook hangs on; None where this site is not there."""
    of = families.KINDS[kind]
    paths = {"attn_out": of.attention, "mlp_out": of.mlp, "heads": of.heads}.get(point.site, ("",) * tiny.LAYERS)
    path = paths[point.layer]
    return path if path or point.site.startswith("resid") else None


def _hook(kind: str, point: HookPoint, change):
    """The oracle: a plain hook. Where the stream has four copies it changes the first, on which blocks compute."""

    def changed(h):
        if h.ndim != 4:
            return change(h)
        h = h.clone()
        h[0] = change(h[0])
        return h

    def before(_, args, kwargs):
        if args:
            return (changed(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": changed(kwargs["hidden_states"])}

    def after(_, __, out):
        return (changed(out[0]), *out[1:]) if isinstance(out, tuple) else changed(out)

    module = families.blocks(kind)[point.layer].get_submodule(_place(kind, point))
    if point.site in ("resid_pre", "heads"):
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after)


@kinds
def test_its_row_finds_the_blocks_and_says_which_sites_there_are_not(kind):
    opened = _opened(kind)
    assert opened.parts.blocks == tuple(families.blocks(kind))
    for layer in range(tiny.LAYERS):
        for site in SITES:
            point = HookPoint(layer, site)
            if _place(kind, point) is not None:
                opened.parts.part(point)
                continue
            with pytest.raises(HookPointError, match=r"names no .*; steer "):
                opened.parts.part(point)


@pytest.mark.slow
@kinds
@torch.no_grad()
def test_every_site_is_steered_as_a_plain_hook_does(kind):
    opened = _opened(kind)
    plain = opened.model(input_ids=IDS).logits
    for point in (HookPoint(layer, site) for layer in (1, 2) for site in SITES):
        if _place(kind, point) is None:
            continue
        vector = tiny.vector(point, width=opened.parts.width_at(point))
        with steer(opened.model, Intervention(vector, 1.0)) as steered:
            ours = opened.model(input_ids=IDS).logits
        assert steered.receipt.applied[0].tokens == {str(point): IDS.shape[1]}
        handle = _hook(kind, point, lambda h, v=vector.directions[point]: h + v)
        theirs = opened.model(input_ids=IDS).logits
        handle.remove()
        assert torch.equal(ours, theirs), point
        assert not torch.allclose(ours, plain, atol=1e-3), point


@pytest.mark.slow
@kinds
@torch.no_grad()
def test_generated_tokens_are_the_same_with_the_cache_and_without(kind):
    opened, point, steps = _opened(kind), HookPoint(1), 4
    vector = tiny.vector(point)
    made = {}
    for cached in (True, False):
        with steer(opened.model, Intervention(vector, 1.0, scope=Scope("generated"))) as steered:
            made[cached] = opened.model.generate(
                input_ids=IDS,
                max_new_tokens=steps,
                min_new_tokens=steps,
                do_sample=False,
                use_cache=cached,
                pad_token_id=0,
                eos_token_id=2,
                output_logits=True,
                return_dict_in_generate=True,
            )
        assert steered.receipt.applied[0].tokens[str(point)] >= steps - 1

    def push(h):
        return torch.cat([h[:, : IDS.shape[1] - 1], h[:, IDS.shape[1] - 1 :] + vector.directions[point]], 1)

    text = made[True].sequences
    assert torch.equal(text, made[False].sequences)
    handle = _hook(kind, point, push)
    for i in range(steps):
        expected = opened.model(input_ids=text[:, : IDS.shape[1] + i], use_cache=False).logits[:, -1].float()
        for cached in (True, False):
            apart = (made[cached].logits[i].float() - expected).norm() / expected.norm()
            assert apart < 1e-3, (i, cached, float(apart))
    handle.remove()


@pytest.mark.slow
@kinds
def test_rows_of_a_batch_are_read_and_scored_as_if_alone(kind):
    opened, point = _opened(kind), HookPoint(1)
    rows = tiny.random_rows([9, 4, 6])
    together = capture(opened, [Row(row) for row in rows], [point])[point]
    alone = torch.cat([capture(opened, [Row(row)], [point])[point] for row in rows])
    assert torch.allclose(together, alone, atol=1e-4, rtol=1e-3)
    scores = option_logprobs(opened, rows, [[20, 30, 40]] * 3)
    for row, ours in zip(rows, scores, strict=True):
        with torch.no_grad():
            theirs = opened.model(input_ids=torch.tensor([row])).logits[0, -1].float().log_softmax(0)[[20, 30, 40]]
        assert torch.allclose(ours.cpu(), theirs, atol=1e-3, rtol=1e-3)


@kinds
@torch.no_grad()
def test_the_head_asked_alone_gives_the_models_own_logits(kind):
    opened = _opened(kind)
    kept = []
    handle = opened.parts.decoder.register_forward_hook(lambda _, __, out: kept.append(out[0]))
    logits = opened.model(input_ids=IDS).logits
    handle.remove()
    assert torch.allclose(all_logits(opened.parts, kept[0]).float(), logits.float(), atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_most_families_share_a_prompt_among_branches_and_the_others_say_why_not():
    sharing = {kind for kind in families.KINDS if branch_fault(_opened(kind)) is None}
    own_state = {"mamba", "mamba2", "falcon_mamba", "jamba", "bamba", "nemotron_h", "granitemoehybrid"}
    own_state |= {kind for kind in families.KINDS if kind.startswith("qwen3_5")}
    own_masks = {"bloom", "mpt", "gemma3n", "gemma3n_text"}
    assert sharing == set(families.KINDS) - own_state - own_masks
