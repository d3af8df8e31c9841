"""When an effect is called a shift of the answer's bias, and what is said where nothing can be told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.evidence import MovedWrong
from tillerman.reports.bias import bias_table, bias_words, moved_wrong_table, only_bias
from tillerman.reports.evaluation import account
from tillerman.reports.pages import render_report
from tillerman.reports.summary import summary
from tillerman.statistics.values import Interval, MeanEffect

from .example_log import BIAS, N_TEST, effect, example_log

NO_CHANGE = MeanEffect(0.004, example_log().effect.interval, 0.9, N_TEST)


def with_bias(**changes: Any) -> EvaluationLog:
    return replace(example_log(), bias=replace(BIAS, **changes))


def change(low: float, high: float) -> MeanEffect:
    middle = (low + high) / 2
    return MeanEffect(middle, replace(NO_CHANGE.interval, low=low, high=high), 0.5, N_TEST)


@pytest.mark.parametrize(
    ("low", "high", "beyond", "balanced", "called"),
    [
        (-0.02, 0.03, 0.01, 0.01, True),
        (-0.10, -0.03, 0.01, 0.01, True),  # it even tells them apart worse
        (-0.02, 0.03, 0.15, 0.01, True),  # of an effect of 44 pp
        (-0.02, 0.03, 0.30, 0.01, False),  # a shift explains less than half
        (-0.02, 0.03, 0.01, 0.30, False),  # of the items of one answer only
        (0.01, 0.03, 0.01, 0.01, False),  # discrimination grew
    ],
)
def test_a_shift_is_called_so_where_all_three_signs_agree(
    low: float, high: float, beyond: float, balanced: float, *, called: bool
) -> None:
    rest = replace(effect(beyond, 0.05, 0.4), balanced=balanced)
    log = with_bias(change=change(low, high), beyond=rest)
    assert bool(only_bias(log)) == called
    assert summary(log)["only_bias"] == (only_bias(log) or None)


def test_where_the_items_cannot_tell_nothing_is_called_a_shift() -> None:
    shift = {"change": change(-0.02, 0.03), "beyond": effect(0.0, 0.05, 0.9)}
    assert only_bias(with_bias(**shift))
    assert only_bias(with_bias(**{**shift, "change": None})) == ""
    assert only_bias(with_bias(**{**shift, "beyond": None})) == ""
    assert only_bias(replace(example_log("no-effect"), bias=with_bias(**shift).bias)) == ""
    assert only_bias(replace(example_log(), bias=None)) == ""


def test_the_reason_has_the_rates_the_auc_and_what_remains() -> None:
    reason = only_bias(with_bias(change=change(-0.02, 0.03), beyond=effect(0.02, 0.05, 0.9)))
    for part in ("B is given to 47 % of the items instead of 38 %", "AUC 0.412 to 0.861", "beyond it +2.0 pp"):
        assert part in reason


def test_the_table_has_a_row_for_each_condition_and_a_rate_for_each_answer() -> None:
    table = bias_table(example_log())
    assert table.head == ("condition", "AUC", "d′", "gives A, %", "gives B, %")
    assert table.rows[1] == ("Steered", "0.861", "1.52", "53.0", "47.0")
    assert table in account(example_log()).tables


def test_terminal_page_and_json_say_it() -> None:
    log = example_log()
    says = bias_words(log)
    assert "change +0.449 (+0.360 to +0.538)" in says and "12 % of the items moved the wrong way" in says
    assert says in account(log).sentences
    assert "Behaviour or bias" in render_report(log)
    assert summary(log)["bias"]["conditions"][0]["auc"] == 0.412


def test_one_right_answer_for_all_items_is_said_and_so_is_a_broken_model() -> None:
    none = tuple(replace(one, auc=None, d_prime=None) for one in BIAS.conditions)
    assert "the same answer is right for all items" in bias_words(with_bias(conditions=none, change=None, beyond=None))
    broken = (BIAS.conditions[0], none[1])
    assert "no numbers" in bias_words(with_bias(conditions=broken, change=None, beyond=None))
    assert "not measured" in bias_table(with_bias(conditions=broken)).rows[1]


def test_logs_without_it_say_nothing() -> None:
    log = replace(example_log(), bias=None)
    assert bias_words(log) == "" and bias_table(log).rows == ()
    assert "Behaviour or bias" not in render_report(log)
    assert all(table.rows for table in account(log).tables)


WRONG = (
    MovedWrong("right answer", "A", 0.02, Interval(0.0, 0.08), 100, 0.001),
    MovedWrong("right answer", "B", 0.24, Interval(0.16, 0.33), 95, 0.001),
    MovedWrong("topic", "law", 0.2, Interval(0.1, 0.4), 20, 0.6),
)


def test_who_moved_the_wrong_way_is_a_table_and_only_what_stands_is_named() -> None:
    log = with_bias(wrong_by=WRONG, wrong_interval=Interval(0.08, 0.17), slope_interval=Interval(1.9, 2.4))
    table, says = moved_wrong_table(log), bias_words(log)
    assert table.strong == (0, 1) and len(table.rows) == 3 and table in account(log).tables
    assert "12 % (8 to 17) of the items moved the wrong way" in says and "+2.13 (+1.90 to +2.40) nats" in says
    assert "more often than the others: right answer 'B' (24 % of 95)" in says
    assert "law" not in says and "'A'" not in says
    assert "Items moved the wrong way" in render_report(log)


def test_older_logs_have_no_table_of_who_moved() -> None:
    assert moved_wrong_table(example_log()).rows == () and "more often than the others" not in bias_words(example_log())
    assert "Items moved the wrong way" not in render_report(example_log())
