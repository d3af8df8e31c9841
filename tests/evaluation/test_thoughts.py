"""Figures of thoughts against counting by hand, and the log's way through JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tillerman.core.errors import DataError
from tillerman.data.thoughts import Reply
from tillerman.evaluation.thoughts import ensure_thoughts, thinking
from tillerman.logs.thoughts import ThoughtLog


def _reply(length, answer="7", finished=True):
    return Reply((), tuple(range(length)), answer, finished)


PLAIN = [_reply(10), _reply(20), _reply(30, None, False), _reply(0)]
SHORT = [_reply(5), _reply(10, "8"), _reply(15), _reply(0)]
REFERENCES = ["7", "7", "7", "8"]


def test_the_figures_of_a_condition_are_those_counted_by_hand():
    row = thinking("steered", SHORT, REFERENCES, PLAIN, strength=2.0)
    assert row.length.value == 7.5 and row.length.n == 4
    assert row.change is not None and row.change.value == np.mean([-5, -10, -15, 0])
    assert row.change.interval.low <= row.change.value <= row.change.interval.high
    assert row.right is not None and row.right.value == 0.5
    assert row.effect is not None and row.effect.value == 0.0  # one lost, one gained
    assert row.unfinished.value == 0 and row.thoughtless == 0.25
    plain = thinking("unsteered", PLAIN, REFERENCES)
    assert (plain.change, plain.effect) == (None, None)
    assert plain.unfinished.value == 0.25 and plain.right is not None and plain.right.value == 0.5


def test_without_references_nothing_is_said_of_right_answers():
    row = thinking("steered", SHORT, ["7", None, "7", "7"], PLAIN)
    assert (row.right, row.effect) == (None, None) and row.change is not None


def test_a_loop_is_stripped_from_the_length():
    loop = [Reply((), tuple(range(20)) * 10, None, False)]
    row = thinking("steered", loop, ["7"])
    assert row.length.value == 200 and row.stripped.value < 30 and row.repetition > 0.8


def test_replies_without_any_thought_are_an_error():
    ensure_thoughts(PLAIN)
    with pytest.raises(DataError, match="none of 2 unsteered replies has a thought"):
        ensure_thoughts([_reply(0), _reply(0)])


def test_a_log_is_read_back_from_its_json():
    rows = (thinking("unsteered", PLAIN, REFERENCES), thinking("steered", SHORT, REFERENCES, PLAIN))
    log = ThoughtLog(
        "sums", "m", "caa", "layers.1.resid_post", 1.0, 0.5, "all", None, 4, 256, rows, rows[1:], {"a": 1}, 2.0
    )
    assert ThoughtLog.from_json(json.loads(json.dumps(log.to_json()))) == log
    assert log.condition("steered") is rows[1]
