"""Answers under alarms in the running batch: each as it is alone, whoever joins, leaves or crosses beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from tillerman.core.alarms import Alarm
from tillerman.core.hookpoint import HookPoint
from tillerman.core.monitors import Monitor
from tillerman.core.plan import Scope
from tillerman.models.running import MANNERS
from tillerman.serving.engine import Followed, Touched
from tillerman.steering.generation import Sampling
from tillerman.steering.watching import watched_continuations

from ... import tiny
from .asking import answers
from .driving import NO_END, drive, job, vector

POINT = HookPoint(1)
DIRECTION = tiny.vector(POINT, seed=9).directions[POINT]
ROWS = tiny.random_rows([5, 14, 3, 9], seed=8)
SWITCHED = (vector(2, 20.0),)
BASE = (vector(0, 0.5),)


def alarm(action: str, threshold: float = 0.5, read: str = "mean", least: int = 1) -> Alarm:
    monitor = Monitor(DIRECTION, POINT, threshold, read=read, least=least)
    return Alarm("mine", monitor, action, SWITCHED if action == "steer" else ())


def asked(row, plan=(), *alarms, tokens: int = 8):
    return replace(job(row, plan, max_tokens=tokens, logprobs=0, logit_bias=NO_END), alarms=alarms)


def alone(opened, row, plan, alarms, tokens: int = 8):
    """As ``generate`` makes it."""
    (one,) = watched_continuations(opened, [row], [plan], Sampling(tokens, min_new_tokens=tokens), alarms)
    return one


def same(answer, wanted, row, alarms) -> None:
    assert answer.ids == list(wanted.tokens)
    crossed = {one.alarm: one for one in wanted.crossings}
    for one, found in zip(alarms, answer.ended.followed, strict=True):
        told = crossed.get(one.name)
        assert found.token == (None if told is None else told.token)
        if told is not None:
            assert found.value == pytest.approx(told.value, rel=1e-3, abs=1e-3)
        if one.action == "steer":
            after = 0 if told is None else max(0, len(answer.ids) - 1 - told.token)  # the last token is not run
            assert found.touched == (Touched({"layers.2.resid_post": after}, told is not None),)
    assert answer.ended.ending == ("aborted" if wanted.aborted else "length")


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(
    actions=st.lists(st.sampled_from(["", "warn", "abort", "steer"]), min_size=4, max_size=4),
    reads=st.lists(st.sampled_from(["prompt", "mean", "token"]), min_size=4, max_size=4),
    threshold=st.floats(-2, 2),
    begins=st.lists(st.integers(0, 5), min_size=4, max_size=4),
    at_once=st.sampled_from([3, 256]),
)
def test_each_answer_is_what_it_is_alone(actions, reads, threshold, begins, at_once):
    opened = tiny.opened()
    plans = [(), BASE, (), BASE]
    alarms = [(alarm(a, threshold, r),) if a else () for a, r in zip(actions, reads, strict=True)]
    jobs = [asked(row, plan, *mine) for row, plan, mine in zip(ROWS, plans, alarms, strict=True)]
    for answer, row, plan, mine in zip(drive(opened, jobs, begins, at_once=at_once), ROWS, plans, alarms, strict=True):
        wanted = alone(opened, row, plan, mine or (alarm("warn", 1e3),))
        same(answer, wanted, row, mine)


@pytest.mark.parametrize("manner", MANNERS[1:3], ids=["closed", "no cache"])
def test_batches_that_nobody_joins_follow_their_answers_too(manner):
    opened = tiny.opened()
    for action in ("abort", "steer"):
        mine = alarm(action, -1e3, least=3)
        jobs = [asked(row, BASE, mine) for row in ROWS]
        for answer, row in zip(drive(opened, jobs, manner=manner), ROWS, strict=True):
            same(answer, alone(opened, row, BASE, [mine]), row, [mine])


def test_an_engine_ends_an_answer_with_the_token_that_crossed_and_says_so():
    opened = tiny.opened()
    (cut, by_prompt, plain) = answers(
        opened,
        [
            asked(ROWS[0], (), alarm("abort", -1e3, least=3)),
            asked(ROWS[1], (), alarm("abort", -1e3, "prompt")),
            asked(ROWS[2]),
        ],
    )
    assert (cut.ended.ending, cut.ended.answer_tokens, len(cut.ids)) == ("aborted", 3, 3)
    assert cut.ended.followed[0].token == 3
    assert (by_prompt.ended.ending, by_prompt.ids, by_prompt.text) == ("aborted", [], "")
    assert by_prompt.ended.followed[0].token == 0
    assert (plain.ended.ending, len(plain.ids), plain.ended.followed) == ("length", 8, ())


def test_an_answer_that_ends_before_its_plan_could_act_is_no_error():
    late = (vector(0, 1.0, scope=Scope("positions", (len(ROWS[0]) + 6,))),)
    (one,) = answers(tiny.opened(), [asked(ROWS[0], late, alarm("abort", -1e3, least=2))])
    assert (one.ended.ending, one.ended.why) == ("aborted", "")
    assert one.ended.touched == (Touched({"layers.0.resid_post": 0}),)


def test_what_was_not_crossed_is_told_with_its_last_value():
    (one,) = answers(tiny.opened(), [asked(ROWS[0], (), alarm("steer", 1e3))])
    (found,) = one.ended.followed
    assert isinstance(found, Followed) and found.token is None and found.value is not None
    assert found.touched == (Touched({"layers.2.resid_post": 0}, False),)
