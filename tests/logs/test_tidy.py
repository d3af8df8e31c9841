"""Every log as tidy tables: rows of plain values under the same columns, the same in pandas and polars."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.reports.example_log import example_log
from tests.reports.examples import LOGS, comparison_log, reproduction_log, score_log, study_log, thought_log

from tillerman.core.errors import UnknownNameError, UsageError
from tillerman.logs.base import Log
from tillerman.logs.evidence import ItemAnswer, ItemResult
from tillerman.logs.study import Trial
from tillerman.logs.tidy import LIBRARIES, even, frame_of
from tillerman.statistics.values import NO_INTERVAL

PAGE = Path(__file__).parents[2] / "docs/frames.md"


def asked_twice() -> tuple[ItemResult, ...]:
    answers = tuple(ItemAnswer(name, "A", name == "steered", (-0.5, -1.5)) for name in ("unsteered", "steered"))
    return tuple(ItemResult(f"id-{k}", f"Which, {k}?", ("A", "B"), "A", answers) for k in range(3))


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.kind)
def test_rows_have_the_same_plainly_named_columns_and_plain_values(log: Log) -> None:
    for table in log.tidy():
        rows = log.rows(table)
        columns = list(rows[0]) if rows else []
        assert all(list(row) == columns for row in rows)
        assert all(re.fullmatch(r"[a-z][a-z_]*", column) for column in columns), columns
        values = [value for row in rows for value in row.values()]
        assert all(value is None or type(value) in (str, int, float, bool, list) for value in values)


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.kind)
def test_the_page_names_every_table_of_every_kind(log: Log) -> None:
    section = PAGE.read_text(encoding="utf-8").partition(f"### {log.kind}\n")[2].partition("\n###")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(log.tidy())


def test_an_evaluation_has_a_row_per_condition_cell_and_answer() -> None:
    log = replace(example_log(), items=asked_twice())
    conditions = {row["condition"]: row for row in log.rows()}
    assert list(conditions) == [one.name for one in log.conditions]
    steered, plain = conditions["steered"], conditions["unsteered"]
    told = log.effect
    assert [steered[f"effect{end}"] for end in ("", "_low", "_high", "_p_value", "_n")] == [
        told.value,
        told.interval.low,
        told.interval.high,
        told.p_value,
        told.n,
    ]
    assert plain["effect"] is plain["effect_low"] is None and plain["rate"] == log.condition("unsteered").rate.value
    assert [row["score"] for row in log.rows("cells")] == [cell.score for cell in log.cells]
    answers = log.rows("items")
    assert [(row["item"], row["condition"], row["right"]) for row in answers[:2]] == [
        ("id-0", "unsteered", False),
        ("id-0", "steered", True),
    ]
    assert len(answers) == 6 and answers[0]["logprobs"] == [-0.5, -1.5] and answers[0]["wanted"] == "A"


def test_an_interval_that_is_not_known_has_no_ends() -> None:
    log = example_log()
    first = log.conditions[0]
    wide = replace(log, conditions=(replace(first, rate=replace(first.rate, interval=NO_INTERVAL)),))
    assert (wide.rows()[0]["rate_low"], wide.rows()[0]["rate_high"]) == (None, None)


def test_the_other_kinds_have_a_row_per_method_item_figure_and_reply() -> None:
    compared = comparison_log()
    assert len(compared.rows()) == sum(len(part.methods) for part in compared.comparisons)
    assert {row["data"] for row in compared.rows("conditions")} == {part.data_name for part in compared.comparisons}
    trial = Trial("in", "steered", ("a", "b"), (1.0, 0.0), texts=("x", "y"), at=2.0)
    rows = replace(study_log(), trials=(trial,)).rows()
    assert [(row["case"], row["item"], row["value"], row["text"], row["at"]) for row in rows] == [
        ("in", "a", 1.0, "x", 2.0),
        ("in", "b", 0.0, "y", 2.0),
    ]
    assert study_log().rows("marks")[0] | {"value_low": 0.2, "value_n": 100} == study_log().rows("marks")[0]
    (figure,) = reproduction_log().rows()
    assert (figure["figure"], figure["value"], figure["value_low"], figure["value_n"]) == ("effect", 0.2, 0.1, 100)
    assert reproduction_log().rows("verdicts")[0]["value_high"] == 0.3
    scores = score_log()
    assert [row["condition"] for row in scores.rows()] == [one.name for one in scores.conditions]
    assert [row["reply"] for row in scores.rows("replies")[:2]] == ["a reply", "another"]
    assert [(row["prompt"], row["value"]) for row in scores.rows("values")[:2]] == [("one", 1.0), ("two", 2.0)]
    assert len(thought_log().rows("curve")) == len(thought_log().curve)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.kind)
def test_a_frame_holds_the_rows(log: Log, library: str) -> None:
    pytest.importorskip(library)
    frame = log.to_frame(library=library)
    assert type(frame).__module__.startswith(library) and type(frame).__name__ == "DataFrame"
    assert list(frame.columns) == list(dict.fromkeys(name for row in log.rows() for name in row))
    given = frame.to_dict("records") if library == "pandas" else frame.to_dicts()
    assert [_known(row) for row in given] == [_known(row) for row in log.rows()]


def _known(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None and value == value}


def test_frames_of_several_logs_stand_below_each_other() -> None:
    pandas = pytest.importorskip("pandas")
    both = pandas.concat([example_log(data_name=name).to_frame() for name in ("one", "two")])
    assert both.groupby("data").size().to_dict() == dict.fromkeys(("one", "two"), len(example_log().conditions))
    assert both.loc[both["condition"] == "steered", "effect"].tolist() == [example_log().effect.value] * 2


def test_a_table_or_library_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(UnknownNameError, match=r"no table of a log of kind evaluation named 'cell'.*mean 'cells'"):
        example_log().rows("cell")
    with pytest.raises(UnknownNameError, match="no library of frames named 'dask'; known: pandas, polars"):
        example_log().to_frame(library="dask")


def test_without_the_library_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(UsageError, match=r"needs polars: .*rows\(\) gives the same"):
        frame_of(even([{"a": 1}]), "polars")


@pytest.mark.slow
def test_rows_of_a_log_need_no_library_of_frames() -> None:
    code = (
        "import sys; from tillerman.logs import comparison, evaluation, reproduction, scores, study, thoughts, tidy; "
        "import tillerman.data.loading; tidy.even([{'a': 1}]); "
        "print([name for name in ('pandas', 'polars', 'datasets', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
