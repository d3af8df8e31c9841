"""Branches give the scores of plain passes, whatever shares the pass with them."""

from __future__ import annotations

import logging

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tillerman.core.hookpoint import BLOCK_SITES, ROUTER_SITES, HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.core.rows import Row
from tillerman.models import cells as passes, grid as module, memory
from tillerman.models.batches import batches
from tillerman.models.cells import GridCell
from tillerman.models.grid import branch_fault, grid_answer_scores, grid_scores, tail_of
from tillerman.models.logits import answer_logprobs, option_logprobs
from tillerman.steering.scopes import meant_after, meant_in
from tillerman.steering.steer import steer

from .. import tiny

PROMPTS = tiny.random_rows([15, 20, 2, 9])  # longer and shorter than the fixtures' sliding windows
OPTIONS = [(20, 30), (21, 31, 41), (22, 33), (23, 34)]
POINTS = [HookPoint(layer, site) for layer in (0, tiny.LAYERS - 1) for site in BLOCK_SITES]


def _centred(scores):
    return scores - scores[0]


def _apart(opened, cells, scope, prompts=PROMPTS, options=OPTIONS, vectors=None):
    """The largest difference between branches and one steered pass per cell."""
    worst = 0.0
    for batch in batches(prompts, pad=0):
        mine = [options[i] for i in batch.rows.tolist()]
        ours = grid_scores(opened, batch, mine, cells, meant_in(scope, batch))
        for c, cell in enumerate(cells):
            vector = vectors[cell.point] if vectors else tiny.vector(cell.point)
            item = Intervention(vector, cell.strength, cell.operator, scope)
            with steer(opened.model, item, must_apply=False):
                theirs = option_logprobs(opened, prompts, options)
            for row, i in enumerate(batch.rows.tolist()):
                known = len(options[i])
                difference = _centred(ours[c, row, :known]) - _centred(theirs[i])
                worst = max(worst, float(difference.abs().max()))
                assert torch.isneginf(ours[c, row, known:]).all()
    return worst


def _cells(points, strengths=(0.0, 1.0, -2.0)):
    return [GridCell(p, tiny.vector(p).directions[p], s) for p in points for s in strengths]


branching = pytest.mark.parametrize("family", tiny.mostly_slow(tiny.BRANCHING))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "scope"),
    tiny.in_turn(tiny.BRANCHING, (Scope("last"), Scope("positions", (-1, -3)), Scope("all"))),
    ids=str,
)
def test_branches_give_the_scores_of_plain_passes_at_every_site(family, scope):
    assert _apart(tiny.opened(family), _cells(POINTS), scope) < 1e-4


@pytest.mark.parametrize("family", [family for family in tiny.MIXTURES if family in tiny.BRANCHING])
@pytest.mark.parametrize("operator", ["add", "scale"])
def test_branches_and_plain_passes_agree_at_routers(family, operator):
    points = [HookPoint(layer, site) for layer in (1, 2) for site in ROUTER_SITES]
    vectors = {p: tiny.vector(p, width=tiny.width_at(family, p.site)) for p in points}
    cells = [GridCell(p, v.directions[p], s, operator) for p, v in vectors.items() for s in (0.0, 0.5)]
    assert _apart(tiny.opened(family), cells, Scope("last"), vectors=vectors) < 1e-4


ANSWERS = [[(20, 30, 40), (21,)], [(31, 41, 32), (50, 51), (52, 53, 54, 55)], [(22, 33), (60, 61)], [(23,), (34, 35)]]


@pytest.mark.parametrize(
    ("family", "scope"),
    tiny.in_turn(tiny.BRANCHING, (Scope("last"), Scope("generated"), Scope("positions", (-1, -3, 16)), Scope("all"))),
    ids=str,
)
def test_whole_answers_as_branches_have_the_scores_of_plain_passes(family, scope):
    opened, done = tiny.opened(family), []
    cells = _cells(POINTS, (0.0, 1.0))
    for batch in batches(PROMPTS, pad=0):
        order = batch.rows.tolist()
        mine = [ANSWERS[i] for i in order]
        meant, after = meant_in(scope, batch), meant_after(scope, batch, 3)
        ours = grid_answer_scores(opened, batch, mine, cells, meant, after, progress=done.append)
        rows = [Row((*PROMPTS[i], *answer), len(PROMPTS[i])) for i in order for answer in ANSWERS[i]]
        for c, cell in enumerate(cells):
            item = Intervention(tiny.vector(cell.point), cell.strength, cell.operator, scope)
            with steer(opened.model, item, must_apply=False):
                theirs = answer_logprobs(opened, rows).split([len(answers) for answers in mine])
            for row, plain in enumerate(theirs):
                torch.testing.assert_close(ours[c, row, : len(plain)], plain, atol=2e-4, rtol=1e-4)
                assert torch.isneginf(ours[c, row, len(plain) :]).all()
    assert sum(done) == len(PROMPTS) * len(cells)


def test_whole_answers_are_scored_a_slice_of_the_vocabulary_at_a_time_with_the_same_scores(opened, monkeypatch):
    (batch,) = batches(PROMPTS, pad=0)
    mine, cells = [ANSWERS[i] for i in batch.rows.tolist()], _cells([HookPoint(1)])
    given = (opened, batch, mine, cells, meant_in(Scope("last"), batch), meant_after(Scope("last"), batch, 3))
    one = grid_answer_scores(*given)
    monkeypatch.setattr(memory, "CPU_LOGITS", 1)
    torch.testing.assert_close(grid_answer_scores(*given), one, atol=1e-5, rtol=0)


def test_branches_and_plain_passes_agree_with_every_operator(opened):
    for operator in tiny.DIRECTED:
        point = HookPoint(1)
        v = Intervention(tiny.vector(point), 1.0, operator).operand(point)
        cells = [GridCell(point, v, s, operator) for s in (0.3, 1.0)]
        assert _apart(opened, cells, Scope("last")) < 1e-4, operator


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(2, 14), min_size=1, max_size=5), st.integers(1, 12), st.integers(0, 3))
def test_scores_depend_on_neither_the_other_prompts_nor_the_other_cells(lengths, most, seed):
    opened, prompts = tiny.opened(), tiny.random_rows(lengths, seed)
    cells, options = _cells(POINTS[:4]), [(20, 30)] * len(prompts)
    alone = []
    for prompt in prompts:
        (one,) = batches([prompt], pad=0)
        scores = [grid_scores(opened, one, options[:1], [cell], meant_in(Scope("last"), one)) for cell in cells]
        alone.append(torch.cat(scores)[:, 0])
    before, passes.MOST_QUERIES = passes.MOST_QUERIES, most
    try:
        for batch in batches(prompts, pad=0):
            together = grid_scores(opened, batch, options, cells, meant_in(Scope("last"), batch))
            for row, i in enumerate(batch.rows.tolist()):
                torch.testing.assert_close(together[:, row], alone[i], atol=1e-4, rtol=0)
    finally:
        passes.MOST_QUERIES = before


def test_a_prompt_runs_once_whatever_the_number_of_cells_and_lower_blocks_do_not_run_again():
    opened, tokens = tiny.opened(), [0] * tiny.LAYERS
    (batch,) = batches(PROMPTS, pad=0)

    def count(i):
        def hook(_, args, __):
            tokens[i] += args[0].shape[1]

        return hook

    handles = [b.mlp.register_forward_hook(count(i)) for i, b in enumerate(tiny.blocks(opened.model, "llama"))]
    cells = _cells([HookPoint(1)], [0.5 * k for k in range(20)])
    grid_scores(opened, batch, [OPTIONS[i] for i in batch.rows.tolist()], cells, meant_in(Scope("last"), batch))
    for handle in handles:
        handle.remove()
    longest = max(map(len, PROMPTS))
    assert tokens == [longest, longest, longest + 20]


def test_progress_counts_prompts_times_cells():
    opened, done = tiny.opened(), []
    (batch,) = batches(PROMPTS, pad=0)
    meant = meant_in(Scope("last"), batch)
    grid_scores(opened, batch, OPTIONS, _cells(POINTS), meant, progress=done.append)
    assert sum(done) == len(PROMPTS) * len(POINTS) * 3


def test_the_tail_reaches_back_to_the_first_token_that_is_meant():
    meant = torch.zeros(2, 6, dtype=torch.bool)
    assert tail_of(meant) == 0
    meant[0, 4] = True
    assert tail_of(meant) == 2
    meant[1, 1] = True
    assert tail_of(meant) == 5


@pytest.mark.slow
@branching
def test_nothing_is_left_on_the_model(family):
    opened = tiny.opened(family)
    before = {name: p.clone() for name, p in opened.model.named_parameters()}
    _apart(opened, _cells(POINTS), Scope("last"))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in opened.model.modules())
    assert not any("forward" in m.__dict__ for m in opened.model.modules())
    assert all(torch.equal(p, before[name]) for name, p in opened.model.named_parameters())


def test_every_family_but_the_hybrid_can_branch(family):
    assert (branch_fault(tiny.opened(family)) is None) == (family in tiny.BRANCHING)


def test_a_model_that_cannot_branch_says_so_once(monkeypatch, caplog):
    fresh = tiny.fresh_opened()
    monkeypatch.setattr(module, "run_stem", _refuse)
    with caplog.at_level(logging.WARNING):
        assert "no such cache" in branch_fault(fresh)
        assert "no such cache" in branch_fault(fresh)
    assert caplog.text.count("cannot run branches") == 1


def _refuse(*_, **__):
    raise ValueError("no such cache")


def test_a_model_whose_branches_are_wrong_is_found_out(monkeypatch):
    fresh = tiny.fresh_opened()
    right = passes.run_branches

    def shifted(parts, stem, branches, edits, *, restart=None):
        return right(parts, stem, branches, edits, restart=restart).flip(-1)

    monkeypatch.setattr(passes, "run_branches", shifted)
    assert "differ" in branch_fault(fresh)
