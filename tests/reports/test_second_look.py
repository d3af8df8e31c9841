"""A second look in words: better, worse, the same, or undecided with what is ruled out."""

from __future__ import annotations

from dataclasses import replace

from tillerman.logs.second_look import Retested, SecondLookLog
from tillerman.reports.second_look import account, conclusion, to_markdown, verdict
from tillerman.statistics.shifts import ItemShift
from tillerman.statistics.values import NO_INTERVAL, Equivalence, Interval, MeanEffect

from .examples import second_look_log

COUNTS = (ItemShift(-1.0, 1, 20), ItemShift(0.0, 1, 160), ItemShift(1.0, 1, 20))


def one(value: float, low: float, high: float, p: float, p_holm: float, outcome: str = "undecided") -> Retested:
    found = MeanEffect(value, Interval(low, high), p, 200)
    return Retested("arc", "cache", False, 0.5, 0.5 + value, COUNTS, found, p_holm, outcome)


def said(*tests: Retested, margin: float | None = None) -> str:
    return verdict(tests[0], SecondLookLog("unsteered", tests, margin))


def test_what_stands_is_said_with_interval_n_and_p() -> None:
    assert said(one(0.1, 0.04, 0.16, 0.001, 0.003, "better"), one(0, -0.1, 0.1, 1, 1)) == (
        "better: +10.0 pp (95 % interval +4.0 to +16.0), n = 200, p = 0.003 after Holm"
    )
    assert said(one(-0.1, -0.16, -0.04, 0.001, 0.001, "worse")).endswith("n = 200, p = 0.001")


def test_what_is_undecided_says_what_is_ruled_out() -> None:
    assert said(one(0.01, -0.03, 0.05, 0.6, 1)) == "undecided; ruled out: gains above 5.0 pp, losses above 3.0 pp"
    assert said(one(0.02, 0.0, 0.05, 0.053, 0.5)) == "undecided; ruled out: gains above 5.0 pp, all losses"
    few = replace(one(0.5, 0, 1, 0.5, 1), effect=MeanEffect(0.5, NO_INTERVAL, 0.5, 4))
    assert said(few) == "undecided: 4 items are too few for an interval, and nothing is ruled out"


def test_what_only_the_correction_undoes_is_said_so() -> None:
    many = (one(-0.04, -0.065, -0.011, 0.007, 0.24), *(one(0, -0.1, 0.1, 1, 1) for _ in range(33)))
    assert said(*many) == (
        "undecided: as the only test it would show a loss (−4.0 pp, 95 % interval −6.5 to −1.1, p = 0.007); as one of "
        "34 it does not (p = 0.24)"
    )


def test_a_margin_is_named_where_it_decides_and_where_a_gain_is_smaller() -> None:
    within = Equivalence(0.005, Interval(-0.005, 0.01), 0.02, 0.001, 200)
    same = replace(one(0.005, -0.01, 0.015, 0.4, 1, "same"), equivalence=within, equivalence_p_holm=0.002)
    assert said(same, margin=0.02) == "the same within ±2.0 pp: +0.5 pp (95 % interval −1.0 to +1.5)"
    assert said(replace(same, outcome="better"), margin=0.02).endswith("though by less than the margin of 2.0 pp")


def test_the_conclusion_counts_what_stands() -> None:
    nothing = SecondLookLog("unsteered", (one(0, -0.1, 0.1, 1, 1), one(0, -0.1, 0.1, 1, 1)))
    assert conclusion(nothing) == "Of 2 differences from unsteered none stands after Holm's correction."
    stands = SecondLookLog("base", (one(0.1, 0.04, 0.16, 0.001, 0.001, "better"),))
    assert conclusion(stands) == "Of 1 difference from base 1 stands: arc, cache (better, +10.0 pp)."


def test_an_account_has_a_table_per_file_one_over_all_and_a_verdict_per_test() -> None:
    told = account(second_look_log())
    assert [table.title.split(":")[0] for table in told.tables][1:] == ["scores", "Over all files", "What follows"]
    assert told.tables[0].rows[0] == ("cache", "60.0", "+20.0 (+8.0 to +32.0)", "30", "10", "0.002", "0.006", "20.0")
    assert told.tables[1].head[1:3] == ("mean", "change (95 %)")
    assert told.tables[2].rows[0] == (
        "cache", "1", "1", "0", "+20.0 (+8.0 to +32.0)", "100 (200)", "0.002", "0.006",
    )  # fmt: skip
    assert len(told.tables[3].rows) == 3
    words = " ".join(told.sentences)
    for part in ("McNemar", "sign-flip", "drawn together", "all 3 tests", "one-sided tests against ±0.05", "question"):
        assert part in words
    assert "## Second look" in to_markdown(second_look_log())
