"""What many prompts begin with runs once, and nothing they give changes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Scope
from tillerman.core.rows import Row
from tillerman.models.batches import batches
from tillerman.models.beginnings import begin, clusters
from tillerman.models.capture import capture
from tillerman.models.cells import GridCell, unedited
from tillerman.models.grid import grid_answer_scores, grid_scores
from tillerman.models.logits import answer_logprobs, option_logprobs
from tillerman.models.unsteered import unsteered_answers, unsteered_options
from tillerman.steering.scopes import meant_after, meant_in

from .. import tiny

# A system prompt longer than the fixtures' sliding windows, questions of unequal length, answers of one to six tokens.
(SYSTEM,) = tiny.random_rows([40])
QUESTIONS = [SYSTEM + rest for rest in tiny.random_rows([9, 4, 6, 9, 1], seed=1)]
ANSWERS = [(20,), (30, 31), (40, 41, 42, 43, 44, 45)]
ROWS = [Row(question + answer, len(question)) for question in QUESTIONS for answer in ANSWERS]
POINTS = [HookPoint(0), HookPoint(tiny.LAYERS - 1), HookPoint(1, "attn_out")]


def _tokens_run(opened, work):
    """Token positions that enter the first block."""
    ran = []

    def count(_, args, kwargs):
        h = args[0] if args else kwargs["hidden_states"]
        ran.append(h.shape[0] * h.shape[1])

    handle = opened.parts.blocks[0].register_forward_pre_hook(count, with_kwargs=True)
    try:
        result = work()
    finally:
        handle.remove()
    return result, sum(ran)


@pytest.mark.parametrize("family", tiny.mostly_slow(tiny.BRANCHING))
@pytest.mark.parametrize("read", ["last", "mean"])
def test_activations_of_a_tree_are_those_of_rows_run_alone(family, read):
    opened = tiny.opened(family)
    ours = capture(opened, ROWS, POINTS, read=read)
    for i, row in enumerate(ROWS):
        alone = capture(opened, [row], POINTS, read=read)
        for point in POINTS:
            torch.testing.assert_close(ours[point][i], alone[point][0], atol=2e-4, rtol=1e-4)


def test_beginning_questions_and_answers_each_run_once(opened):
    capture(opened, ROWS[:1], POINTS)  # the model is asked whether it can branch
    _, ran = _tokens_run(opened, lambda: capture(opened, ROWS, POINTS))
    own = sum(len(question) - len(SYSTEM) for question in QUESTIONS)
    needed = len(SYSTEM) + own + len(QUESTIONS) * sum(map(len, ANSWERS))
    assert needed <= ran < 1.5 * needed  # some padding
    assert 3 * ran < sum(len(row.tokens) for row in ROWS)


def test_rows_of_one_question_with_long_answers_share_it_and_rows_with_little_in_common_do_not(opened):
    question, *answers = tiny.random_rows([30, 25, 25])
    pair = [Row(question + answer, 30) for answer in answers]
    _, ran = _tokens_run(opened, lambda: capture(opened, pair, POINTS))
    assert ran == 30 + 2 * 25
    short = [Row((*question[:4], *answer), 4) for answer in answers]
    _, ran = _tokens_run(opened, lambda: capture(opened, short, POINTS))
    assert ran == 2 * 29


def test_prompts_of_two_beginnings_make_two_clusters_and_strangers_one_without():
    one, other, *strangers = tiny.random_rows([50, 60, 12, 13], seed=3)
    prompts = [(*side, i, i) for i in range(6) for side in (one, other)] + strangers
    found = {cluster.rows: cluster.shared for cluster in clusters(prompts)}
    assert found == {tuple(range(0, 12, 2)): 50, tuple(range(1, 12, 2)): 60, (12, 13): 0}


@settings(max_examples=60)
@given(
    st.lists(
        st.builds(
            lambda depths, last: tuple(t for d, k in enumerate(depths) for t in [100 * d + k] * 40) + tuple(last),
            st.lists(st.integers(1, 2), max_size=3),
            st.lists(st.integers(1, 3), max_size=4),
        ),
        max_size=12,
    )
)
def test_every_prompt_is_in_one_cluster_whose_beginning_it_has(prompts):
    found = clusters(prompts)
    assert sorted(i for cluster in found for i in cluster.rows) == list(range(len(prompts)))
    for cluster in found:
        assert len({prompts[i][: cluster.shared] for i in cluster.rows}) == 1
        assert all(len(prompts[i]) >= cluster.shared for i in cluster.rows)
    run = sum(c.shared + sum(len(p) - c.shared for p in {prompts[i] for i in c.rows}) for c in found)
    assert run <= sum(map(len, set(prompts)))  # never more tokens than without


SCOPES = [Scope("last"), Scope("all"), Scope("positions", (2, -1)), Scope("positions", (-42,))]


@pytest.mark.parametrize("family", tiny.mostly_slow(tiny.BRANCHING))
@pytest.mark.parametrize("scope", SCOPES, ids=str)
def test_cells_after_a_shared_beginning_have_the_scores_of_whole_prompts(family, scope):
    """Where cells edit the beginning too, alike or not, it runs under each of them."""
    opened = tiny.opened(family)
    (batch,) = batches(QUESTIONS, pad=0)
    cells = [GridCell(point, tiny.vector(point).directions[point], 1.5) for point in (POINTS[0], POINTS[2])]
    options = [[(20, 21, 22), (30,)], [(31, 41), (50, 51)], [(22, 33)], [(23,), (34, 35)], [(1, 2), (3, 4)]]
    meant, after = meant_in(scope, batch), meant_after(scope, batch, 2)
    beginning = begin(opened.parts, SYSTEM)
    for scores, asked in (
        (grid_scores, ([[20, 30, 40]] * 5, cells, meant)),
        (grid_answer_scores, ([options[i] for i in batch.rows.tolist()], cells, meant, after)),
    ):
        whole = scores(opened, batch, *asked)
        ours = scores(opened, batch, *asked, beginning=beginning)
        torch.testing.assert_close(ours, whole, atol=2e-4, rtol=1e-4)


def test_the_cell_that_changes_nothing_runs_no_block(opened):
    (batch,) = batches(QUESTIONS, pad=0)
    meant = meant_in(Scope("all"), batch)
    point = POINTS[0]
    given = (opened, batch, [[20, 30]] * 5)
    plain = grid_scores(*given, [GridCell(point, tiny.vector(point).directions[point], 0.0)], meant)
    ours, ran = _tokens_run(opened, lambda: grid_scores(*given, [unedited(opened.parts)], meant))
    torch.testing.assert_close(ours, plain, atol=1e-4, rtol=0)
    assert ran == 2 * batch.tokens.numel()  # hooks of blocks that are left out still run


@pytest.mark.parametrize("family", tiny.mostly_slow(tiny.BRANCHING))
def test_the_unsteered_model_gives_the_same_scores_whatever_prompts_share(family):
    opened, strangers = tiny.opened(family), tiny.random_rows([7, 2], seed=5)
    prompts = [*QUESTIONS, *strangers]
    options = [(20, 30)] * 6 + [(4, 5, 6)]
    for ours, plain in zip(
        unsteered_options(opened, prompts, options), option_logprobs(opened, prompts, options), strict=True
    ):
        torch.testing.assert_close(ours - ours[0], plain - plain[0], atol=2e-4, rtol=1e-4)
    answers = [ANSWERS[: 1 + i % 3] for i in range(len(prompts))]
    rows = [Row((*p, *answer), len(p)) for p, mine in zip(prompts, answers, strict=True) for answer in mine]
    plain = answer_logprobs(opened, rows).split([len(mine) for mine in answers])
    for ours, theirs in zip(unsteered_answers(opened, prompts, answers), plain, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-4)
