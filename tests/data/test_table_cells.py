"""Lists, arrays and tensors where a row holds them, in memory and in the cells of a table."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from tillerman.core.errors import DataError
from tillerman.data.loading import load_examples
from tillerman.data.reading.literals import listed
from tillerman.data.reading.values import plain

ROWS: list[dict[str, Any]] = [
    {
        "question": f"How is it, {i}?",
        "choices": ["Lovely, it's", 'Dreadful "so"'][:: 1 if i % 2 else -1],
        "answer": i % 2,
    }
    for i in range(30)
]
PLAIN = load_examples(ROWS).examples


@pytest.mark.parametrize("kind", [numpy.array, tuple, lambda choices: numpy.array(choices, dtype=object)])
@pytest.mark.parametrize("number", [int, float, numpy.int64, numpy.float32, torch.tensor, numpy.array, str, Decimal])
def test_rows_of_arrays_and_tensors_are_the_same_rows(kind: Any, number: Any) -> None:
    rows = [{**row, "choices": kind(row["choices"]), "answer": number(row["answer"])} for row in ROWS]
    assert load_examples(rows).examples == PLAIN


@pytest.mark.parametrize("form", ["numpy", "torch", None])
def test_a_dataset_in_any_format_is_the_same_rows(form: str | None) -> None:
    datasets = pytest.importorskip("datasets")
    assert load_examples(datasets.Dataset.from_list(ROWS).with_format(form)).examples == PLAIN


def test_records_of_a_frame_are_the_same_rows_and_its_missing_values_are_missing(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS)
    frame.to_parquet(tmp_path / "t.parquet")
    assert load_examples(pandas.read_parquet(tmp_path / "t.parquet").to_dict("records")).examples == PLAIN
    frame["answer"] = frame["answer"].astype("Int64")
    frame.loc[7, "answer"] = pandas.NA
    with pytest.raises(DataError, match="the label is empty or NaN"):
        load_examples(frame.to_dict("records"))


def test_what_pandas_calls_missing_is_none() -> None:
    pandas = pytest.importorskip("pandas")
    assert plain([pandas.NA, pandas.NaT, {"a": pandas.NA}]) == [None, None, {"a": None}]


def test_values_of_libraries_become_plain_all_the_way_down() -> None:
    found = plain({"a": [numpy.int8(3), (torch.tensor([[1, 2]]), numpy.str_("x"))], "b": numpy.bool_(True), "c": 1.5})
    assert found == {"a": [3, ([[1, 2]], "x")], "b": True, "c": 1.5}
    assert type(found["a"][0]) is int and type(found["a"][1][1]) is str and type(found["b"]) is bool


@pytest.mark.parametrize("write", [json.dumps, repr, str], ids=["JSON", "Python", "str"])
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_list_written_into_a_cell_is_a_list(tmp_path: Path, write: Any, suffix: str) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([{**row, "choices": write(row["choices"])} for row in ROWS])
    path = tmp_path / f"rows.{suffix}"
    frame.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    assert load_examples(path).examples == PLAIN


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ('["a", "b"]', ["a", "b"]),
        ("['a', \"b's\"]", ["a", "b's"]),
        (" [1, 2] ", [1, 2]),
        ("[{'role': 'user', 'content': 'a'}]", [{"role": "user", "content": "a"}]),
        ("{'text': ['a'], 'label': ['A']}", {"text": ["a"], "label": ["A"]}),
        ("['a' 'b']", None),  # numpy's print: Python would join the two
        ("['a'\n 'b']", None),
        ("[array(['a'])]", None),
        ("[__import__('os')]", None),
        ("[" * 10_000, None),
        ("a, b", None),
        ('"a"', None),
        ("", None),
    ],
)
def test_what_a_cell_writes_out(cell: str, expected: Any) -> None:
    assert listed(cell) == expected


def test_a_cell_that_is_no_list_is_told_how_to_write_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("question,choices,answer\nHow?,['a' 'b'],0\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"in a table write the list as JSON: \[\"a\", \"b\"\]") as caught:
        load_examples(path)
    assert (caught.value.line, caught.value.field) == (2, "choices")
