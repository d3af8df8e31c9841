"""Published outcomes tested again: what stands, what is corrected, what several files say together."""

from __future__ import annotations

import numpy as np
import pytest

from tillerman.core.errors import UnknownNameError
from tillerman.data.outcomes import OutcomeTable
from tillerman.evaluation.second_look import look_again, second_look
from tillerman.logs.second_look import SecondLookLog
from tillerman.statistics.estimates import holm, mcnemar


def table(name: str = "arc", *, ids: bool = True, **changes: tuple[int, int]) -> OutcomeTable:
    """400 items, 200 of them right; a condition gains and loses so many."""
    before = np.arange(400) < 200
    made = {}
    for condition, (gained, lost) in changes.items():
        after = before.copy()
        after[:lost], after[200 : 200 + gained] = False, True
        made[condition] = after.astype(float)
    keys = tuple(f"{name if ids else 'row'} {k}" for k in range(400))
    return OutcomeTable(name, keys, before.astype(float), made, False, ids)


def test_an_effect_that_is_there_stands_and_one_that_is_not_is_undecided() -> None:
    log = second_look([table(up=(60, 20), down=(10, 50), noise=(30, 26))], "unsteered")
    assert [one.outcome for one in log.tests] == ["better", "worse", "undecided"]
    up = log.tests[0]
    assert (up.before, up.after, up.gained, up.lost, up.items, up.rows) == (0.5, 0.6, 60, 20, 400, 400)
    assert up.effect.value == pytest.approx(0.1) and up.power is not None and up.power.discordant == 0.2


def test_every_test_of_the_run_counts_in_the_correction() -> None:
    made = table(a=(40, 22), b=(40, 22), c=(40, 22))
    log = second_look([made], "unsteered")
    ps = [mcnemar(40, 22)] * 3
    assert ps[0] < 0.05 and [one.p_holm for one in log.tests] == pytest.approx(holm(ps))
    assert {one.outcome for one in log.tests} == {"undecided"}
    assert look_again(log, conditions=["a"]).tests[0].outcome == "better"


def test_a_margin_makes_a_small_difference_the_same_and_a_standing_one_stays_better() -> None:
    log = second_look([table(still=(10, 10), up=(60, 20))], "unsteered", 0.05)
    assert [one.outcome for one in log.tests] == ["same", "better"]
    assert log.tests[0].equivalence is not None and log.tests[0].equivalence_p_holm == pytest.approx(
        2 * log.tests[0].equivalence.p_value
    )
    assert second_look([table(still=(10, 10))], "unsteered", 0.01).tests[0].outcome == "undecided"


def test_files_with_the_same_items_are_not_taken_for_more_items() -> None:
    same = [table("one", ids=False, up=(40, 22)), table("two", ids=False, up=(40, 22))]
    other = [table("one", up=(40, 22)), table("two", up=(40, 22))]
    over, apart = (second_look(tables, "unsteered").tests[-1] for tables in (same, other))
    assert (over.table, over.items, over.rows) == ("", 400, 800) and over.power is None
    assert (apart.items, apart.rows) == (800, 800)
    assert over.effect.p_value == pytest.approx(mcnemar(40, 22)) and apart.effect.p_value == mcnemar(80, 44)
    assert over.effect.value == pytest.approx(apart.effect.value)


def test_one_file_or_a_condition_of_one_file_has_no_row_over_all() -> None:
    log = second_look([table("one", a=(5, 3), b=(4, 4)), table("two", a=(6, 2))], "unsteered")
    assert [(one.table, one.condition) for one in log.tests if not one.table] == [("", "a")]
    assert log.tables == ("one", "two")


def test_scores_and_outcomes_are_not_added_up() -> None:
    scores = OutcomeTable("s", ("x", "y"), np.array([0.5, 2.0]), {"a": np.array([1.0, 2.0])}, True)
    log = second_look([table(a=(5, 3)), scores], "unsteered")
    assert len(log.tests) == 2 and [one.graded for one in log.tests] == [False, True]


def test_a_log_judged_again_is_what_the_files_would_give() -> None:
    tables = [table("one", a=(40, 22), b=(9, 9)), table("two", a=(30, 28), b=(12, 10))]
    log = SecondLookLog.from_json(second_look(tables, "unsteered").to_json())
    assert look_again(log, 0.05) == second_look(tables, "unsteered", 0.05)
    assert look_again(log) == log and look_again(look_again(log, 0.05)).margin == 0.05
    with pytest.raises(UnknownNameError, match="no condition of this log named 'c'; known: a, b"):
        look_again(log, conditions=["c"])


def test_what_was_left_out_and_paired_by_order_is_noted() -> None:
    empty = OutcomeTable("none", ("x",), np.zeros(1), {}, False)
    log = second_look([table("one", ids=False, a=(5, 3)), empty], "unsteered")
    assert log.notes == ("none: without the conditions asked for", "one: no ids, rows are paired by their order")


def test_no_items_ids_are_in_the_log() -> None:
    text = str(second_look([table("secret", a=(5, 3))], "unsteered").to_json())
    assert "secret 7" not in text and "'items': 392" in text
