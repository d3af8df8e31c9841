"""Replies under many plans: each is what its prompt alone gives under its plan alone."""

from __future__ import annotations

import numpy as np
import pytest

import tillerman
from tillerman.core.plan import Intervention
from tillerman.core.store import Store
from tillerman.data.presenting import present
from tillerman.data.writing import make_writer
from tillerman.evaluation import replies as module
from tillerman.evaluation.exam import Exam
from tillerman.evaluation.replies import replies_under
from tillerman.steering.generation import Sampling, continuation_tokens

from .. import tiny


@pytest.fixture(scope="module")
def reasoner() -> tillerman.OpenModel:
    return tillerman.open_model("pilot-moe")


@pytest.fixture(scope="module")
def exam(reasoner):
    items = present(tillerman.load_examples("sample:sums").examples[:6])
    return Exam.of(reasoner, items, make_writer(reasoner.tokenizer), limit=120)


@pytest.fixture(scope="module")
def plans():
    return [(), (Intervention(tiny.vector(2, width=128, size=60.0), 1.0),), (Intervention(tiny.vector(1, width=128)),)]


@pytest.mark.slow
def test_replies_do_not_depend_on_their_batch(reasoner, exam, plans, monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 4)
    said = replies_under(reasoner, exam.written, plans, 24, store=Store(None, ""))
    for plan, of_plan in zip(plans, said, strict=True):
        for written, reply in zip(exam.written, of_plan, strict=True):
            (alone,) = continuation_tokens(reasoner, [written.prompt], [plan], Sampling(24))
            assert reply.tokens == tuple(alone)
    assert said[0] != said[1]


@pytest.mark.slow
def test_the_reasoner_thinks_and_is_judged_by_its_answer(exam):
    (replies,) = exam.replies_under([()], Store(None, ""))
    assert any(reply.thought for reply in replies) and all(reply.finished for reply in replies)
    right = exam.correct()
    assert exam.is_open and right.mean() >= 0.5
    answers = [reply.answer == item.answers[0] for reply, item in zip(replies, exam.items, strict=True)]
    assert right.tolist() == answers
    assert exam.given().tolist() == np.where(right, 0, -1).tolist()


def test_a_reply_that_was_cut_off_is_wrong(reasoner, exam):
    cut = Exam(reasoner, exam.items, exam.written, limit=3)
    assert not cut.correct().any()


@pytest.mark.slow
def test_finished_replies_are_kept(exam, plans, monkeypatch):
    store = Store(None, "")
    first = exam.correct_under(plans, store)
    monkeypatch.setattr(module, "continuation_tokens", lambda *_: pytest.fail("asked again"))
    assert np.array_equal(exam.correct_under(plans, store), first)
