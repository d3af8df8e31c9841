"""What a report says of written replies, on logs made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.evidence import WrittenCondition, WrittenReplies, WrittenScorer
from tillerman.reports.charts.overview import overview_chart
from tillerman.reports.evaluation import account, cells_table
from tillerman.reports.pages import render_demo_page, render_report
from tillerman.reports.summary import summary
from tillerman.reports.written import writes, written_summary, written_table, written_words
from tillerman.statistics.values import Interval, MeanEffect, ScoreMean

from .example_log import NASTY, example_log

SCORER = WrittenScorer("labels", 0.97, Interval(0.88, 0.99), 40)


def one(name: str, score: float, change: float | None = None, half: float = 0.05, missing: int = 0) -> WrittenCondition:
    mean = ScoreMean(score, Interval(score - 0.1, score + 0.1), 32 - missing, missing)
    moved = None if change is None else MeanEffect(change, Interval(change - half, change + half), 0.01, 32 - missing)
    return WrittenCondition(name, mean, moved, 3.25, 0.125, (f"{name} says hello", NASTY))


def written(change: float, missing: int = 0) -> WrittenReplies:
    conditions = (
        one("unsteered", 0.2),
        one("steered", 0.2 + change, change, missing=missing),
        one("prompt", 0.6, 0.4),
        one("null:random", 0.21, 0.01),
    )
    return WrittenReplies(SCORER, conditions, ("How are you?", "What now?"), 40)


def log_of(scored: bool, change: float, missing: int = 0) -> EvaluationLog:
    return replace(example_log("effect" if scored else "no-effect"), written=written(change, missing))


@pytest.mark.parametrize(
    ("scored", "change", "says", "so"),
    [
        (True, 0.3, "It scores better and writes so.", True),
        (True, 0.02, "It scores better, but does not write so.", False),
        (True, -0.3, "It scores better, but does not write so.", False),
        (False, 0.3, "It writes so, although no effect on scored answers was found.", True),
        (False, 0.0, "It neither scores better nor writes so.", False),
    ],
)
def test_scored_and_written_are_said_together(scored: bool, change: float, says: str, so: bool) -> None:
    log = log_of(scored, change)
    assert says in written_words(log)
    assert says in " ".join(account(log).sentences)
    assert writes(log) is so


def test_the_sentence_says_who_read_and_every_condition_compared() -> None:
    words = written_words(log_of(True, 0.3))
    assert "AUC 0.97, 0.88 to 0.99, on the answers of 40 test items" in words
    assert "mean score 0.20 unsteered, 0.50 steered (+0.30 (+0.25 to +0.35)), 0.60 prompted" in words
    assert "random directions +0.01 (−0.04 to +0.06)" in words


def test_what_random_directions_write_too_is_said() -> None:
    log = log_of(True, 0.3)
    assert log.written is not None
    known = log.written.conditions[:-1]
    near = replace(log, written=replace(log.written, conditions=(*known, one("null:random", 0.4, 0.2))))
    assert "writes so; but random directions already gain half of what is written." in written_words(near)
    assert "gain half" not in written_words(log)


def test_replies_without_a_word_are_counted() -> None:
    assert "3 steered replies have no word and are left out" in written_words(log_of(True, 0.3, missing=3))


def test_silence_is_no_effect_that_was_found() -> None:
    silent = WrittenCondition("steered", None, None, None, 0.0, ("", ""))
    log = replace(example_log(), written=replace(written(0.1), conditions=(one("unsteered", 0.2), silent)))
    assert writes(log) is None
    assert "writes" not in written_words(log)
    assert written_table(log).rows[1][:3] == ("Steered", "", "0")
    said = written_summary(log)
    assert said is not None and said["writes_so"] is None


def test_a_refused_scorer_is_said_with_its_reason_and_gives_no_table() -> None:
    refused = WrittenReplies(replace(SCORER, refused="it reads the length alone (AUC 0.97)"), ())
    log = replace(example_log(), written=refused)
    assert written_words(log) == "Written replies are not measured: it reads the length alone (AUC 0.97)."
    assert written_table(log).rows == () and len(account(log).tables) == len(account(example_log()).tables)
    assert "it reads the length alone" in render_report(log)


def test_an_older_log_says_nothing_of_it() -> None:
    log = example_log()
    assert (written_words(log), writes(log), written_summary(log)) == ("", None, None)
    assert "Written replies" not in render_report(log)


def test_the_table_has_a_row_for_every_condition_with_cost_and_repetition() -> None:
    table = written_table(log_of(True, 0.3))
    assert table.title == "Written replies to 2 test prompts, at most 40 tokens each"
    assert [row[0] for row in table.rows] == ["Unsteered", "Steered", "Prompt baseline", "Random direction"]
    assert table.rows[1] == ("Steered", "0.50 (0.40 to 0.60)", "32", "+0.30 (+0.25 to +0.35)", "0.010", "3.2", "12.5")
    assert table.strong == (1,)


def test_the_page_shows_replies_side_by_side_as_text() -> None:
    page = render_report(log_of(True, 0.3))
    assert "<h2>Written replies</h2>" in page and "steered says hello" in page and "prompt says hello" in page
    assert "<script>alert(1)" not in page


def test_json_has_every_condition() -> None:
    said = summary(log_of(True, 0.3))["written"]
    assert said["writes_so"] is True and said["scorer_auc"] == 0.97
    assert said["conditions"]["steered"]["interval"] == pytest.approx([0.25, 0.35])
    assert set(said["conditions"]) == {"unsteered", "steered", "prompt", "null:random"}


def test_cells_of_a_search_for_written_replies_say_what_they_wrote() -> None:
    log = example_log()
    cells = tuple(replace(c, written=0.25, read="mean" if k else "") for k, c in enumerate(log.cells))
    table = cells_table(replace(log, cells=cells))
    assert table.head[-1] == "written, 0 to 1" and {row[-1] for row in table.rows} == {"0.25"}
    assert (table.rows[0][0], table.rows[1][0]) == ("caa", "caa, read as mean")
    assert cells_table(log).head[-1] == "constraints"


def test_the_share_that_shows_it_stands_in_the_last_column_where_it_was_measured() -> None:
    log = log_of(True, 0.3)
    assert log.written is not None and written_table(log).head[-1] == "repeated, %"  # an older log
    share = ScoreMean(0.25, Interval(0.1, 0.4), 32, 0)
    plain, steered, *rest = log.written.conditions
    newer = replace(log, written=replace(log.written, conditions=(plain, replace(steered, shown=share), *rest)))
    table = written_table(newer)
    assert table.head[-1] == "show it, %" and [row[-1] for row in table.rows] == ["", "25", "", ""]


def test_the_overview_of_behaviours_searched_for_by_writing_is_of_what_is_written() -> None:
    sought = replace(log_of(True, 0.3), objective="written")
    chart = overview_chart((sought, sought))
    assert "+0.30 (+0.25 to +0.35)" in chart
    assert "Steered: 0.50, 95 % interval 0.40 to 0.60, n = 32" in chart
    assert "Mean score of replies" in render_demo_page([sought])
    mixed = overview_chart((sought, log_of(True, 0.3)))  # accuracy is what both have
    assert "+0.30" not in mixed
    assert " pp (" in mixed
    assert sought.written is not None
    without = replace(sought.written, conditions=(one("unsteered", 0.2),))
    assert "the search abstains" in overview_chart((replace(sought, written=without),))
