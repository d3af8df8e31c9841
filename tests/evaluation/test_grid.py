"""Answers under many plans at once are those of one steered pass per plan."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

from tillerman.core.errors import NotAppliedError
from tillerman.core.plan import Intervention, Scope
from tillerman.core.store import Store
from tillerman.data.examples import Example
from tillerman.data.presenting import present
from tillerman.data.writing import Written, make_writer
from tillerman.evaluation import grid as module
from tillerman.evaluation.exam import Exam
from tillerman.evaluation.grid import answers_under, scores_under
from tillerman.evaluation.scoring import answers_given, option_scores
from tillerman.models.grid import branch_fault
from tillerman.steering.steer import steer

from .. import tiny
from ..small_device import small_device

MIXED = [
    *(Example("choice", f"Question {i}?", ("apple", "stone", "river"), i % 3) for i in range(6)),
    *(Example("preference", f"Say {i}.", ("hello dear friend", "hello you dog"), i % 2) for i in range(3)),
]


@pytest.fixture(params=tiny.mostly_slow(sorted(tiny.CONFIGS)))
def family(request):
    return request.param


def _written(opened, examples=MIXED, shots=()):
    writer = make_writer(opened.tokenizer).with_shots(shots)
    return [writer.write(item) for item in present(examples)]


def _plans(scope):
    single = [(Intervention(tiny.vector(k), s, scope=scope),) for k in range(tiny.LAYERS) for s in (-30.0, 4.0, 30.0)]
    several = (Intervention(tiny.vector(0, 1), 2.0, scope=scope),)
    return [(), *single, several, (*single[0], *single[3])]


@pytest.mark.parametrize("scope", [Scope("last"), Scope("all")], ids=str)
def test_answers_under_many_plans_are_those_of_one_pass_per_plan(family, scope):
    opened = tiny.opened(family)
    written, done = _written(opened), []
    exam = Exam(opened, present(MIXED), tuple(written))
    together = answers_under(opened, written, _plans(scope), store=Store(None, ""), progress=done.append)
    alone = np.stack([exam.given(plan) for plan in _plans(scope)])
    assert together.tolist() == alone.tolist()
    assert len({tuple(row) for row in together.tolist()}) > 1  # the plans do move the answers
    assert sum(done) == together.size


def test_no_steering_beside_steering_costs_no_pass_of_its_own_and_gives_the_unsteered_answers(opened, monkeypatch):
    written = _written(opened, MIXED[:6])
    plain = answers_given(opened, written)
    monkeypatch.setattr(module, "option_scores", _never)
    ablating = (Intervention(tiny.vector(1), 1.0, "ablate", Scope("last")),)
    beside = answers_under(opened, written, [ablating, (), _plans(Scope("last"))[1]], store=Store(None, ""))
    assert beside[1].tolist() == plain.tolist()


def test_texts_without_any_prompt_are_scored_under_plans(opened):
    written = [Written((), ((20, 21, 22), (30, 31, 32)), 0, whole=True) for _ in range(2)]
    plans = _plans(Scope("all"))[:4]
    together = answers_under(opened, written, plans, store=Store(None, ""))
    alone = [answers_given(opened, written)]
    for plan in plans[1:]:
        with steer(opened.model, plan):
            alone.append(answers_given(opened, written))
    assert together.tolist() == np.stack(alone).tolist()


def test_a_model_that_cannot_branch_gives_the_same_answers(opened, monkeypatch):
    written = _written(opened)
    before = answers_under(opened, written, _plans(Scope("last")), store=Store(None, ""))
    monkeypatch.setattr(module, "branch_fault", lambda _: "no")
    monkeypatch.setattr(module, "grid_scores", _never)
    assert answers_under(opened, written, _plans(Scope("last")), store=Store(None, "")).tolist() == before.tolist()


@pytest.mark.parametrize("scope", [Scope("last"), Scope("all")], ids=str)
def test_scores_under_many_plans_are_those_of_one_pass_per_plan_up_to_a_constant_of_the_item(family, scope):
    opened = tiny.opened(family)
    written = _written(opened, [*MIXED, Example("choice", "Is it?", ("apple", "stone"), 0)])
    together = scores_under(opened, written, _plans(scope), store=Store(None, ""))
    for plan, of_plan in zip(_plans(scope), together, strict=True):
        with steer(opened.model, plan) if plan else nullcontext():
            alone = option_scores(opened, written)
        for w, mine, other in zip(written, of_plan, alone, strict=True):
            assert len(mine) == len(w.answers)
            shift = 0.0 if w.whole else mine[0] - other[0]
            np.testing.assert_allclose(np.array(mine) - shift, other, atol=2e-4)


def test_scores_and_answers_do_not_take_each_others_finished_pieces(opened):
    written, kept = _written(opened), Store(None, "")
    answers = answers_under(opened, written, _plans(Scope("last")), store=kept)
    scores = scores_under(opened, written, _plans(Scope("last")), store=kept)
    assert [[int(np.argmax(row)) for row in of_plan] for of_plan in scores] == answers.tolist()
    assert scores_under(opened, written, _plans(Scope("last")), store=kept) == scores


def _never(*_, **__):
    raise AssertionError("this was not to be run")


def test_finished_pieces_are_not_run_again(opened, monkeypatch):
    written, kept = _written(opened), Store(None, "")
    before = answers_under(opened, written, _plans(Scope("last")), store=kept)
    monkeypatch.setattr(module, "grid_scores", _never)
    monkeypatch.setattr(module, "option_scores", _never)
    assert answers_under(opened, written, _plans(Scope("last")), store=kept).tolist() == before.tolist()


def test_a_scope_that_meets_no_prompt_is_an_error(opened):
    far = (Intervention(tiny.vector(1), 1.0, scope=Scope("positions", (5000,))),)
    with pytest.raises(NotAppliedError, match="positions:5000"):
        answers_under(opened, _written(opened)[:3], [far], store=Store(None, ""))


def test_a_wrecked_model_gives_no_answer(opened):
    wreck = tuple(replace(item, scope=Scope("last")) for item in tiny.wreck(1))
    assert (answers_under(opened, _written(opened), [wreck], store=Store(None, "")) == -1).all()


def test_prompts_that_begin_alike_share_their_beginning_and_keep_their_answers(family):
    opened = tiny.opened(family)
    written = _written(opened, MIXED[:6], present(MIXED[:2]))
    tokens = []
    first = tiny.blocks(opened.model, family)[0]
    handle = first.register_forward_pre_hook(
        lambda _, a, k: tokens.append((a[0] if a else k["hidden_states"]).shape), with_kwargs=True
    )
    try:
        whole = answers_given(opened, written)
        seen = sum(shape[0] * shape[1] for shape in tokens)
        tokens.clear()
        shared = answers_given(opened, written, unsteered=True)
    finally:
        handle.remove()
    assert shared.tolist() == whole.tolist()
    assert family not in tiny.BRANCHING or sum(shape[0] * shape[1] for shape in tokens) < seen / 2


@pytest.mark.slow
@pytest.mark.parametrize("shortage", ["of a pass over prompts", "of a pass over cells"])
@pytest.mark.parametrize("examples", [MIXED[:6], MIXED[6:]])
def test_a_device_without_the_memory_for_a_pass_gets_half_and_the_answers_are_the_same(caplog, shortage, examples):
    opened = tiny.fresh_opened()
    branch_fault(opened)  # asked once, by passes of its own
    written, plans = _written(opened, examples), _plans(Scope("last"))[:10]
    wide = plans[:3]
    if shortage == "of a pass over cells":
        written, wide = written[:1], [plans[0], *plans[1:2] * 200]
    with small_device(opened, 10**6) as sizes:
        plain = scores_under(opened, written, wide, store=Store(None, ""))
    most = max(sizes)
    with caplog.at_level("WARNING"), small_device(opened, most - 1) as sizes:
        halved = scores_under(opened, written, wide, store=Store(None, ""))
    assert max(sizes) == most and sum("ran out of memory" in record.message for record in caplog.records) == 1
    for ours, theirs in zip(halved, plain, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert one == pytest.approx(other, abs=1e-5)
