"""The best prompt of several, and when none is better than none."""

from __future__ import annotations

import numpy as np
import pytest

from tillerman.selection.prompts import Tried, does_better, ranked


def tried(text: str, right: str, margin: list[float] | None = None) -> Tried:
    """``right`` as zeros and ones."""
    answers = np.array([mark == "1" for mark in right])
    return Tried(text, "made", answers, np.array(margin if margin is not None else [0.0] * len(right)))


NONE = tried("", "1000", [0.0, -1.0, -1.0, -1.0])


def test_the_prompt_with_the_most_right_answers_is_taken_and_no_prompt_comes_last() -> None:
    one, two, three = tried("one", "1100"), tried("two", "1110"), tried("three", "0000")
    assert [t.text for t in ranked([one, two, three], NONE)] == ["two", "one", "three", ""]


def test_among_as_many_right_answers_log_odds_decide_and_then_the_order() -> None:
    weak, strong, same = (tried(name, "1100", [m] * 4) for name, m in (("weak", 0.1), ("strong", 0.9), ("same", 0.9)))
    assert [t.text for t in ranked([weak, strong, same], NONE)] == ["strong", "same", "weak", ""]


def test_no_prompt_comes_first_where_none_does_better() -> None:
    assert [t.text for t in ranked([tried("worse", "0000", [9.0] * 4)], NONE)] == ["", "worse"]
    assert [t.text for t in ranked([], NONE)] == [""]


@pytest.mark.parametrize(
    ("margin", "better"),
    [
        ([0.5, -0.4, -0.6, -0.5], True),  # every item a little
        ([0.0, -1.0, -1.0, -1.0], False),  # nothing
        ([8.0, -3.0, -1.0, -2.0], False),  # one item much, others not
        ([0.5, -0.4, -0.6, float("-inf")], False),  # a score that is no number
    ],
)
def test_with_as_many_right_answers_log_odds_must_surely_rise(margin: list[float], better: bool) -> None:
    assert does_better(tried("x", "1000", margin), NONE) is better


def test_one_item_cannot_show_that_log_odds_rise() -> None:
    assert not does_better(tried("x", "1", [5.0]), tried("", "1", [0.0]))
    assert does_better(tried("x", "1", [5.0]), tried("", "0", [0.0]))
