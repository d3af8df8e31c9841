"""Replies of reasoning models: where a thought begins and ends, what is the answer, whether it is right."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from tillerman.core.errors import DataError, UsageError
from tillerman.data.examples import Example
from tillerman.data.thoughts import RUN, Reply, Tags, has_think_tags, is_right, read_reply, reference_answer, think_tags

from .. import tiny

OPEN, CLOSE, STOP = 5, 6, 2
TAGS = Tags(OPEN, CLOSE)


class _Words:
    def decode(self, tokens, skip_special_tokens):
        return " ".join(map(str, tokens))


def _read(prompt, tokens, tags=TAGS):
    return read_reply(_Words(), tags, prompt, tokens, {STOP})


@pytest.mark.parametrize(
    ("prompt", "tokens", "thought", "answer", "finished"),
    [
        ([1, 9], [OPEN, 11, 12, CLOSE, 42, STOP], (11, 12), "42", True),
        ([1, 9], [OPEN, CLOSE, 42, STOP], (), "42", True),
        ([1, 9], [42, STOP], (), "42", True),  # it did not think
        ([1, OPEN], [11, CLOSE, 42, STOP], (11,), "42", True),  # the template opened the thought
        ([1, OPEN, CLOSE], [42, STOP], (), "42", True),  # and closed it: thinking switched off
        ([1, OPEN, 3, CLOSE, 9], [OPEN, 11, CLOSE, 42, STOP], (11,), "42", True),  # a thought in an example before it
        ([1, 9], [OPEN, 11, 12], (11, 12), None, False),  # it never ended
        ([1, 9], [OPEN, 11, STOP], (11,), None, True),
        ([1, 9], [OPEN, 11, CLOSE, 42], (11,), "42", False),
        ([1, 9], [], (), "", False),
    ],
)
def test_a_reply_is_read_into_thought_and_answer(prompt, tokens, thought, answer, finished):
    reply = _read(prompt, tokens)
    assert (reply.thought, reply.answer, reply.finished) == (thought, answer, finished)
    assert reply.tokens == tuple(tokens)


def test_without_tags_all_of_a_reply_is_its_answer():
    reply = _read([1, 9], [OPEN, 11, CLOSE, 42, STOP], tags=None)
    assert (reply.thought, reply.answer) == ((), "5 11 6 42")


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("42", "42", True),
        ("The answer is 42.", "42", True),
        ("42 of 43", "42", False),
        ("so 41, no, 42", "42", True),
        ("$1,234.50", "1234.5", True),
        ("-7", "-7", True),
        ("7", "-7", False),
        ("no number", "42", False),
        ("Paris.", "paris", True),
        ("  New   York ", "new york", True),
        ("Paris or Rome", "Paris", False),
        ("42", "forty-two", False),
        ("", "42", False),
    ],
)
def test_an_answer_is_right_as_a_number_or_as_a_text(answer, reference, right):
    assert is_right(Reply((), (), answer, True), reference) is right


def test_an_unfinished_reply_is_wrong_whatever_it_says():
    assert not is_right(Reply((), (), "42", False), "42")
    assert not is_right(Reply((), (1, 2), None, True), "42")


@given(st.lists(st.integers(0, 3), max_size=60))
def test_repetition_and_stripped_length_agree_with_counting_runs(thought):
    reply = Reply((), tuple(thought), "", True)
    seen, new = set(), 0
    for i in range(len(thought) - RUN + 1):
        run = tuple(thought[i : i + RUN])
        new += run not in seen
        seen.add(run)
    runs = max(0, len(thought) - RUN + 1)
    assert reply.stripped == (new + RUN - 1 if runs else len(thought))
    assert reply.repetition == pytest.approx(1 - new / runs if runs else 0)
    assert reply.stripped <= max(len(thought), RUN - 1)


def test_a_loop_adds_nothing_to_the_stripped_length():
    once = list(range(20))
    assert Reply((), tuple(once * 5), "", True).stripped == Reply((), tuple(once * 2), "", True).stripped


def test_the_reference_of_a_worked_solution_is_what_stands_after_its_mark():
    assert reference_answer("3 * 4 = 12\n#### 12") == "12"
    assert reference_answer(" 12 ") == "12"


def test_tags_that_are_not_one_token_each_are_refused():
    assert not has_think_tags(tiny.tokenizer())
    with pytest.raises(UsageError, match=r"'<think>' is \d+ tokens of this tokenizer"):
        think_tags(tiny.tokenizer())


def test_an_open_question_has_one_reference():
    assert Example("open", "What is 1+1?", ("2",), 0).options == ("2",)
    with pytest.raises(DataError, match="one reference answer, got 2"):
        Example("open", "What is 1+1?", ("2", "3"), 0)
