"""Every test item is in the report, what changed first, and in a file with the same columns for all."""

from __future__ import annotations

import csv
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tillerman.core.errors import UsageError
from tillerman.core.row_files import write_rows
from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.evidence import ItemAnswer, ItemResult
from tillerman.reports.items import flat_rows, items_view, moved, outcome
from tillerman.reports.pages import render_demo_page, render_report
from tillerman.reports.summary import summary

from .example_log import ITEMS, NASTY, example_log


def item(before: str, after: str, right: str = "A") -> ItemResult:
    answers = tuple(ItemAnswer(n, g, g == right) for n, g in (("unsteered", before), ("steered", after)))
    return ItemResult("id", "question", ("A: x", "B: y", "C: z"), right, answers)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("B", "A", "gained"),
        ("A", "B", "lost"),
        ("B", "C", "flipped"),
        ("B", "B", "same"),
        ("A", "A", "same"),
        ("A", "", "lost"),
        ("B", "", "flipped"),
    ],
)
def test_what_happened_to_an_item_has_a_name(before: str, after: str, said: str) -> None:
    assert outcome(item(before, after)) == said


def test_an_item_that_was_not_asked_both_ways_is_the_same() -> None:
    assert outcome(replace(item("B", "A"), answers=())) == "same"


def test_log_odds_move_by_the_difference_of_their_scores() -> None:
    scored = replace(
        item("B", "A"),
        options=("Yes", "No"),
        right="No",
        answers=(
            ItemAnswer("unsteered", "Yes", False, (0.5, -1.0)),
            ItemAnswer("steered", "No", True, (0.0, 2.0)),
        ),
    )
    assert moved(scored) == pytest.approx(2.0 - (-1.5))
    assert moved(item("B", "A")) is None  # nothing was scored


def test_the_page_shows_what_changed_first_and_says_how_many_it_leaves_out() -> None:
    log = example_log()
    view = items_view(log)
    assert [row.outcome for row in view.rows] == ["gained", "lost", "same", "same"]
    assert dict(view.counts) == {"gained": 1, "lost": 1, "flipped": 0, "same": 2}
    assert view.left_out == ""
    few = items_view(log, most=3)
    assert len(few.rows) == 3 and few.left_out.startswith("1 of 4 items are left out")
    many = replace(log, items=ITEMS * 100)
    page = render_report(many)
    assert "100 of 400 items are left out" in page
    assert page.count("<tr data-outcome=") == 300
    assert render_demo_page((many,)).count("<tr data-outcome=") == 60


def test_the_table_is_whole_without_its_script() -> None:
    page = re.sub(r"<script>.*?</script>", "", render_report(example_log()), flags=re.DOTALL)
    for one in ITEMS:
        assert one.question.replace("<", "&lt;").replace(">", "&gt;") in page
    assert "Prompt baseline" in page and page.count("<tr data-outcome=") == 4


def test_a_page_without_items_has_neither_table_nor_script() -> None:
    page = render_report(replace(example_log(), items=()))
    assert "Item by item" not in page and "<script" not in page


def test_a_long_question_keeps_its_ends() -> None:
    long = replace(ITEMS[0], question=f"begin {'x' * 9000} end?")
    (row,) = items_view(replace(example_log(), items=(long,))).rows
    assert row.question.startswith("begin x") and row.question.endswith("x end?") and len(row.question) < 1600


def rows(log: EvaluationLog) -> list[dict[str, object]]:
    return flat_rows(log.items)


def test_every_row_has_the_same_columns_whatever_was_asked() -> None:
    made = rows(example_log("nasty"))  # its last item has one condition only
    assert len({tuple(row) for row in made}) == 1
    assert made[-1]["steered"] is None and made[0]["steered_right"] is True
    assert made[0]["steered_logprobs"] == [-0.2, -1.0] and made[0]["outcome"] == "gained"


def test_json_has_the_items_only_where_they_are_asked_for() -> None:
    log = example_log()
    assert "items" not in summary(log)
    assert summary(log, items=True)["items"] == rows(log)


def test_jsonl_csv_and_parquet_hold_the_same(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    made = rows(example_log("nasty"))
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        write_rows(tmp_path / name, made)
    lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line) for line in lines if line] == made
    assert parquet.read_table(tmp_path / "a.parquet").to_pylist() == made
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["question"] for row in read] == [row["question"] for row in made]
    assert json.loads(read[0]["options"]) == made[0]["options"] and read[0]["steered_right"] == "true"
    assert read[-1]["question"] == NASTY and read[-1]["steered"] == ""


def test_another_ending_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    for name in ("a.xlsx", "a", "a.json"):
        with pytest.raises(UsageError, match=r"\.jsonl, \.csv, \.parquet"):
            write_rows(tmp_path / name, rows(example_log()))


def test_parquet_without_its_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'tillerman\[parquet\]'"):
        write_rows(tmp_path / "a.parquet", rows(example_log()))
    assert list(tmp_path.iterdir()) == []
