"""Captured activations are what a plain hook sees, however they were batched."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tillerman.core.errors import HookPointError, UsageError
from tillerman.core.hookpoint import BLOCK_SITES, HookPoint
from tillerman.core.rows import Row
from tillerman.models.batches import batches
from tillerman.models.capture import capture
from tillerman.models.opened import OpenModel

from .. import tiny
from ..small_device import small_device

TOKENS = tiny.random_rows([5, 1, 9, 3, 5, 12])
ROWS = [Row(t, read_from=len(t) // 2) for t in TOKENS]
POINTS = [HookPoint(layer, site) for layer in range(tiny.LAYERS) for site in BLOCK_SITES]


def _by_hand(family, point, row, read):
    model, got = tiny.model(family), []
    handle = tiny.hook(model, family, point, lambda h: got.append(h.detach().clone()))
    with torch.no_grad():
        model(input_ids=torch.tensor([row.tokens]), use_cache=False)
    handle.remove()
    h = got[0][0]
    return h[-1] if read == "last" else h[row.read_from :].mean(0)


@pytest.mark.parametrize("read", ["last", "mean"])
def test_capture_equals_a_plain_hook_at_every_site(family, read):
    ours = capture(tiny.opened(family), ROWS, POINTS, read=read)
    assert set(ours) == set(POINTS)
    for point in POINTS:
        assert ours[point].shape == (len(ROWS), tiny.WIDTH)
        for i, row in enumerate(ROWS):
            assert torch.allclose(ours[point][i], _by_hand(family, point, row, read), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("branches", [True, False])
def test_rows_of_the_same_tokens_run_once_however_many_places_are_read(monkeypatch, branches):
    """As one answer is read at the end of its turn, at its last token and as a mean."""
    opened = tiny.fresh_opened()
    if not branches:
        monkeypatch.setattr("tillerman.models.capture.branch_fault", lambda _: "none here")
    asked, other = tiny.random_rows([9, 7])
    answers = [tiny.random_rows([size], seed=size)[0] for size in (4, 6)]
    rows = []
    for answer in answers:
        whole, closed = (*asked, *answer), (*asked, *answer, 2)
        rows += [Row(whole, 9), Row(closed, len(closed) - 1), Row(whole, len(whole) - 1), Row(whole, 0)]
    rows.append(Row(other, 3))
    alone = [capture(opened, [row], POINTS, read="mean") for row in rows]
    with small_device(opened, 10**6) as sizes:
        ours = capture(opened, rows, POINTS, read="mean")
    assert sum(sizes) == 3 * 16  # of the three different texts, padded
    for point in POINTS:
        theirs = torch.cat([one[point] for one in alone])
        torch.testing.assert_close(ours[point], theirs, atol=1e-5, rtol=1e-4)


def test_what_attention_and_mlp_add_makes_up_the_residual_stream(family):
    """The theorem of the sites: block output = block input + attention's part + MLP's part."""
    got = capture(tiny.opened(family), ROWS, POINTS, read="mean")
    for layer in range(tiny.LAYERS):
        pre, post, attention, mlp = (
            got[HookPoint(layer, site)] for site in ("resid_pre", "resid_post", "attn_out", "mlp_out")
        )
        assert torch.allclose(pre + attention + mlp, post, atol=2e-4, rtol=1e-4)
        if layer:
            assert torch.equal(pre, got[HookPoint(layer - 1, "resid_post")])


@pytest.mark.slow
@settings(max_examples=15)
@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=8),
    st.integers(1, 200),
    st.sampled_from(["llama", "gpt2", "gemma2"]),
    st.sampled_from(["last", "mean"]),
)
def test_the_budget_and_the_neighbours_change_nothing(lengths, budget, family, read):
    rows = [Row(t) for t in tiny.random_rows(lengths)]
    points = [HookPoint(1), HookPoint(2, "attn_out")]
    one = capture(tiny.opened(family), rows, points, read=read, budget=1)
    many = capture(tiny.opened(family), rows, points, read=read, budget=budget)
    for point in points:
        assert torch.allclose(one[point], many[point], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("deepest", range(tiny.LAYERS))
def test_no_block_above_the_deepest_point_runs(family, deepest):
    model, ran = tiny.model(family), []
    handles = [
        block.register_forward_pre_hook(lambda *_, i=i: ran.append(i))
        for i, block in enumerate(tiny.blocks(model, family))
    ]
    handles.append(model.get_output_embeddings().register_forward_pre_hook(lambda *_: ran.append("head")))
    points = [HookPoint(deepest), HookPoint(0, "resid_pre")]
    capture(tiny.opened(family), ROWS[:1], [*points, points[0]])  # named twice, as a caller may
    for handle in handles:
        handle.remove()
    assert ran == list(range(deepest + 1))


def test_nothing_hangs_on_the_model_afterwards_and_what_ran_is_ordinary(opened):
    got = capture(opened, ROWS, [HookPoint(0)])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in opened.model.modules())
    values = got[HookPoint(0)]
    assert values.dtype == torch.float32
    assert not values.requires_grad
    assert not values.is_inference()  # a user may train on them
    values.add_(1)


def test_progress_counts_every_row_once(opened):
    done = []
    capture(opened, ROWS, [HookPoint(0)], budget=12, progress=done.append)
    assert sum(done) == len(ROWS)
    assert len(done) > 1


def test_no_rows_give_an_empty_matrix(opened):
    assert capture(opened, [], [HookPoint(0)])[HookPoint(0)].shape == (0, tiny.WIDTH)


def test_a_point_the_model_does_not_have_is_refused(opened):
    with pytest.raises(HookPointError, match=r"layers 0\.\.2"):
        capture(opened, ROWS, [HookPoint(3)])


def test_another_read_is_refused_with_the_known_ones(opened):
    with pytest.raises(UsageError, match="'first': choose among last, mean"):
        capture(opened, ROWS, [HookPoint(0)], read="first")


def test_half_precision_activations_come_back_as_float32():
    model = tiny.new_model().to(torch.bfloat16)
    from tillerman.models.families import anatomy

    opened = OpenModel(model, tiny.tokenizer(), "half", anatomy(model))
    assert capture(opened, ROWS, [HookPoint(0)])[HookPoint(0)].dtype == torch.float32


@given(st.lists(st.integers(1, 30), max_size=20), st.integers(1, 100), st.sampled_from(["left", "right"]))
def test_batches_hold_every_row_once_within_the_budget_and_positions_skip_padding(lengths, budget, side):
    rows = tiny.random_rows(lengths)
    seen = []
    for batch in batches(rows, pad=0, side=side, budget=budget):
        assert batch.tokens.numel() <= budget or len(batch.rows) == 1
        for at, i in enumerate(batch.rows.tolist()):
            seen.append(i)
            real = batch.mask[at].bool()
            assert tuple(batch.tokens[at][real].tolist()) == rows[i]
            assert batch.positions[at][real].tolist() == list(range(len(rows[i])))
            edge = -1 if side == "left" else 0
            assert real[edge]
    assert sorted(seen) == list(range(len(rows)))
