"""Files into rows with their places; what cannot be read is one clear error."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tillerman.core.errors import DataError
from tillerman.data.readers import read_rows

ROWS = [{"question": "Is it so?", "answer": "yes"}, {"question": 'Über, "quoted"', "answer": "no"}]


def write(path: Path, text: str) -> Path:
    data = text.encode("utf-8")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def as_text(kind: str) -> str:
    if kind == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in ROWS)
    if kind == "json":
        return json.dumps(ROWS, indent=2)
    mark = "\t" if kind == "tsv" else ","
    quoted = '"Über, ""quoted"""' if kind == "csv" else 'Über, "quoted"'
    return f"question{mark}answer\nIs it so?{mark}yes\n{quoted}{mark}no\n"


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv"])
def test_every_text_format_gives_the_same_rows(tmp_path: Path, kind: str, packed: str) -> None:
    path = write(tmp_path / f"rows.{kind}{packed}", as_text(kind))
    assert [dict(row.fields) for row in read_rows(path)] == ROWS


def test_parquet_gives_the_same_rows(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    rows = list(read_rows(tmp_path / "rows.parquet"))
    assert [dict(row.fields) for row in rows] == ROWS
    assert [row.line for row in rows] == [1, 2]


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pip install 'tillerman\[parquet\]'"):
        list(read_rows(write(tmp_path / "rows.parquet", "PAR1")))


def test_any_iterable_of_mappings_is_read() -> None:
    assert [dict(row.fields) for row in read_rows(row for row in ROWS)] == ROWS
    assert [row.line for row in read_rows(ROWS)] == [1, 2]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_byte_order_mark_and_foreign_line_ends_do_not_matter(tmp_path: Path, end: str) -> None:
    path = write(tmp_path / "rows.csv", f"\ufeffquestion,answer{end}a,b{end}{end}c,d{end}")
    assert [dict(row.fields) for row in read_rows(path)] == [
        {"question": "a", "answer": "b"},
        {"question": "c", "answer": "d"},
    ]


def test_lines_are_counted_in_the_file_not_in_rows(tmp_path: Path) -> None:
    csv = write(tmp_path / "rows.csv", 'a,b\n"one\ntwo",x\nthree,y\n')
    assert [row.line for row in read_rows(csv)] == [2, 4]
    listed = write(tmp_path / "rows.json", '[\n {"a": 1,\n  "b": 2},\n\n {"a": 3}\n]')
    assert [row.line for row in read_rows(listed)] == [2, 5]
    lines = write(tmp_path / "rows.jsonl", '\n{"a": 1}\n\n{"a": 2}\n')
    assert [row.line for row in read_rows(lines)] == [2, 4]


def test_a_quote_mark_in_a_tsv_is_text(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.tsv", 'sentence\tlabel\n"never closed\t1\nfine\t0\n')
    assert [row.fields["sentence"] for row in read_rows(path)] == ['"never closed', "fine"]


def test_a_json_file_may_hold_one_object_per_line(tmp_path: Path) -> None:
    assert len(list(read_rows(write(tmp_path / "rows.json", '{"a": 1}\n{"a": 2}\n')))) == 2


def test_mmlu_without_a_header_gets_its_columns(tmp_path: Path) -> None:
    rows = list(read_rows(write(tmp_path / "mmlu.csv", "What is it?,one,two,three,four,C\nAnd this?,a,b,c,d,A\n")))
    assert [row.fields["answer"] for row in rows] == ["C", "A"]
    assert rows[0].fields["question"] == "What is it?"


def test_bad_rows_can_be_noted_instead_of_raised(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", '{"a": 1}\nnonsense\n[3]\n{"a": 2}\n')
    errors: list[DataError] = []
    rows = list(read_rows(path, errors.append))
    assert [row.line for row in rows] == [1, 4]
    assert [error.line for error in errors] == [2, 3]


@pytest.mark.parametrize(
    ("source", "words"),
    [({"train": ROWS}, "one of its splits"), ([], "no rows"), (["text"], "got text"), (7, "expected a path or rows")],
)
def test_objects_that_are_no_rows_are_refused(source: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        list(read_rows(source))
