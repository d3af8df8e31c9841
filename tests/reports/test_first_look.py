"""What ``check --model`` finds before a fit: a lopsided model, and one that tells nothing apart."""

from __future__ import annotations

import pytest

from tillerman.logs.evidence import Discrimination, FirstLook
from tillerman.reports.first_look import item_lines, look_findings
from tillerman.statistics.values import Interval

from .example_log import ITEMS


def look(
    yes: float,
    right: float = 0.5,
    auc: float | None = 0.8,
    interval: tuple[float, float] | None = (0.7, 0.9),
    answers: str = "answer",
) -> FirstLook:
    return FirstLook(
        n=100,
        answers=answers,
        unsteered=Discrimination("unsteered", auc, 1.0, {"Yes": yes, "No": 1 - yes}),
        right={"Yes": right, "No": 1 - right},
        interval=None if interval is None else Interval(*interval),
        items=ITEMS[:2],
    )


@pytest.mark.parametrize(
    ("yes", "right", "level"),
    [(0.95, 0.5, "warning"), (0.02, 0.5, "warning"), (0.8, 0.5, "ok"), (0.9, 0.88, "ok"), (0.9, 0.7, "warning")],
)
def test_a_model_that_says_one_thing_to_nearly_everything_is_warned_of(yes: float, right: float, level: str) -> None:
    first = look_findings(look(yes, right))[0]
    assert (first.check, first.level) == ("answer-bias", level)
    assert ("--calibrate" in first.message) == (level == "warning")


def test_free_texts_are_offered_no_calibrated_choices() -> None:
    message = look_findings(look(0.99, answers="length"))[0].message
    assert "the Yes option" in message and "--calibrate" not in message


@pytest.mark.parametrize(
    ("auc", "interval", "level", "says"),
    [
        (0.55, (0.45, 0.65), "warning", "do not tell right answers apart"),
        (0.8, (0.7, 0.9), "ok", "tell right answers apart: AUC 0.80"),
        (0.3, (0.2, 0.4), "note", "point to the wrong answers"),
        (0.5, None, "note", "too few items"),
        (None, None, "warning", "one answer is right for all items"),
    ],
)
def test_what_the_log_odds_tell_apart_is_said(auc, interval, level, says) -> None:
    second = look_findings(look(0.5, 0.5, auc, interval))[1]
    assert (second.check, second.level) == ("discrimination", level)
    assert says in second.message


def test_items_without_answers_in_common_give_no_finding() -> None:
    assert look_findings(FirstLook(3, "", None, {}, None, ITEMS[:1])) == ()


def test_items_are_shown_line_by_line_with_what_is_right_and_what_is_said() -> None:
    lines = item_lines(ITEMS[:2], "as m sees it")
    assert lines[0] == "Item 1 of 2, as m sees it:"
    assert lines[1] == "  <|user|>Question 0: is it so?<|assistant|>"
    assert lines[2].startswith("  options: A: it is so | B: it is not; right: A; unsteered: B")
