"""Every kind of bad file is one DataError that says where and what was expected."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tillerman.core.errors import DataError
from tillerman.data.loading import load_examples

GOOD = {"question": "Which one?", "options": ["this", "that"], "answer": 0}


def lines(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def changed(**fields: object) -> dict[str, object]:
    return {**GOOD, **fields}


def without(name: str) -> dict[str, object]:
    return {key: value for key, value in GOOD.items() if key != name}


PERSONA = {"question": 'Say this?\n"I like it"', "statement": "I like it", "answer_matching_behavior": " Yes"}

# name of the file, its bytes, the line of the fault, its field, words of the message
BAD: dict[str, tuple[str, bytes, int | None, str | None, str]] = {
    "empty": ("x.jsonl", b"", None, None, "empty"),
    "only white space": ("x.csv", b" \n\n", None, None, "empty"),
    "empty list": ("x.json", b"[]", None, None, "empty"),
    "only a header": ("x.csv", b"question,options,answer\n", None, None, "no usable rows"),
    "latin-1": ("x.jsonl", b'{"question": "fine"}\n{"question": "caf\xe9"}\n', 2, None, "not UTF-8"),
    "utf-16 without its mark": ("x.csv", "question,answer\n".encode("utf-16-le"), None, None, "encoding=utf-16-le"),
    "no gzip": ("x.jsonl.gz", b"plain text", None, None, "gzip"),
    "cut-off gzip": ("x.jsonl.gz", gzip.compress(lines(*[GOOD] * 500), mtime=0)[:40], None, None, "gzip"),
    "broken json": ("x.jsonl", lines(GOOD) + b'{"question": \n', 2, None, "broken JSON"),
    "broken json list": ("x.json", b'[\n{"question": "a"},\n{"question" "b"}\n]', 3, None, "broken JSON"),
    "list not closed": ("x.json", b'[\n{"question": "a"}\n', 3, None, "not closed"),
    "deep json": ("x.jsonl", b"[" * 100_000 + b"\n", 1, None, "JSON"),
    "row that is a list": ("x.jsonl", lines(GOOD, [1, 2]), 2, None, "expected a JSON object"),
    "row that is a number": ("x.json", b"[\n3\n]", 2, None, "expected a JSON object"),
    "huge line": ("x.jsonl", lines(GOOD, changed(question="x" * 1_000_001)), 2, None, "1,000,000"),
    "huge csv line": ("x.csv", b"question,answer\nfine,yes\n" + b"x" * 1_000_001 + b",no\n", 3, None, "1,000,000"),
    "open quote": ("x.csv", b'question,answer\n"never closed,yes\nb,no\n', 2, None, "quote"),
    "too few cells": ("x.csv", b"question,answer\nfine,yes\nshort\n", 3, None, "expected 2 cells"),
    "too many cells": ("x.csv", b"question,answer\nfine,yes,no\n", 2, None, "expected 2 cells"),
    "columns with one name": ("x.csv", b"question,answer,answer\na,b,c\n", 1, None, "same name: answer"),
    "unknown fields": ("x.jsonl", lines({"foo": 1, "bar": 2}), 1, None, "no layout fits the fields foo, bar"),
    "missing column": ("x.jsonl", lines(GOOD, GOOD, without("answer")), 3, "answer", "missing"),
    "nan label": ("x.jsonl", lines(GOOD, changed(answer=float("nan"))), 2, "answer", "empty or NaN"),
    "empty label": ("x.jsonl", lines(GOOD, changed(answer="")), 2, "answer", "empty or NaN"),
    "null label": ("x.jsonl", lines(GOOD, changed(answer=None)), 2, "answer", "empty or NaN"),
    "label out of range": ("x.jsonl", lines(GOOD, changed(answer=2)), 2, "answer", "expected an index"),
    "label that is a list": ("x.jsonl", lines(GOOD, changed(answer=[0])), 2, "answer", "expected one label"),
    "duplicate options": ("x.jsonl", lines(GOOD, changed(options=["Same", "same "])), 2, "options", "the same"),
    "one option": ("x.jsonl", lines(GOOD, changed(options=["one"])), 2, "options", "at least two"),
    "options that are text": ("x.jsonl", lines(GOOD, changed(options="a,b")), 2, "options", "list of texts"),
    "empty option": ("x.jsonl", lines(GOOD, changed(options=["a", " "])), 2, "options", "list of texts"),
    "empty question": ("x.jsonl", lines(GOOD, changed(question=" ")), 2, "question", "empty"),
    "null question": ("x.jsonl", lines(GOOD, changed(question=None)), 2, "question", "empty"),
    "half an emoji": (
        "x.jsonl",
        lines(GOOD) + b'{"question": "\\ud83d", "options": ["a", "b"], "answer": 0}\n',
        2,
        "question",
        "Unicode",
    ),
    "persona of one class": (
        "x.jsonl",
        lines(PERSONA, {**PERSONA, "question": "Other?"}),
        None,
        None,
        "one class only",
    ),
    "texts of one class": ("x.csv", b"text,label\na,1\nb,1\n", None, "label", "one class only"),
    "texts of many classes": ("x.csv", b"text,label\na,joy\nb,fear\n", 2, "label", "positive_label"),
    "choices missing in the text": (
        "x.jsonl",
        lines({"question": "Which?", "answer_matching_behavior": "(A)", "answer_not_matching_behavior": "(B)"}),
        1,
        "question",
        "expected choices",
    ),
    "letter of no choice": (
        "x.jsonl",
        lines(
            {"question": "Q?\n (A) a\n (B) b", "answer_matching_behavior": "(C)", "answer_not_matching_behavior": "(B)"}
        ),
        1,
        "answer_matching_behavior",
        "2 choices",
    ),
    "key twice, and broken after it": (
        "x.json",
        b'[{"question": "a", "question": "b", "options" ["a"]}]',
        1,
        None,
        "broken JSON",
    ),
    "no parquet": ("x.parquet", b"this is text", None, None, "Parquet"),
    "unknown suffix": ("x.xlsx", b"abc", None, None, "unknown kind of file"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_one_error_with_its_place(tmp_path: Path, kind: str) -> None:
    name, data, line, field, words = BAD[kind]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        load_examples(path)
    error = caught.value
    assert words in str(error)
    assert str(error.file) == str(path)
    assert (error.line, error.field) == (line, field)
    assert str(path) in str(error)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl: no such file"):
        load_examples(tmp_path / "nowhere.jsonl")


def test_a_folder_without_data_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data file in this folder"):
        load_examples(tmp_path)


def test_a_pattern_that_matches_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file matches"):
        load_examples(tmp_path / "*.jsonl")


ROW_FAULTS = ["broken json", "row that is a list", "nan label", "duplicate options", "missing column", "half an emoji"]


@pytest.mark.parametrize("kind", ROW_FAULTS)
def test_a_bad_row_can_be_skipped_and_is_noted(tmp_path: Path, kind: str) -> None:
    name, data, line, _, words = BAD[kind]
    path = tmp_path / name
    path.write_bytes(data)
    loaded = load_examples(path, skip_bad_rows=True)
    assert len(loaded.examples) == (line or 0) - 1
    assert len(loaded.skipped) == 1
    assert f"{path}:{line}" in loaded.skipped[0] and words in loaded.skipped[0]


def test_when_every_row_is_skipped_the_first_reason_is_given(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(lines(changed(answer=None), changed(answer="z")))
    with pytest.raises(DataError, match=r"no usable rows: 2 rows were skipped, the first: .*x\.jsonl:1"):
        load_examples(path, skip_bad_rows=True)


def _mutations() -> list[Callable[[bytes], bytes]]:
    return [
        lambda data: data[: len(data) // 3],
        lambda data: data.replace(b'"', b"'"),
        lambda data: data.replace(b":", b""),
        lambda data: b"\x00" + data,
        lambda data: data[::-1],
        lambda data: data.replace(b"0", b"1e999"),
        lambda data: data.replace(b"0", b"9" * 5000),
    ]


@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "jsonl.gz", "parquet"])
def test_garbage_never_ends_in_a_traceback(tmp_path: Path, suffix: str, number: int) -> None:
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(_mutations()[number](lines(GOOD, GOOD)))
    with pytest.raises(DataError):
        load_examples(path)


def test_a_damaged_name_of_a_parquet_column_is_an_error(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    parquet.write_table(arrow.table({"question": ["a"], "answer": ["b"]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"question", b"\xd6uestion"))
    with pytest.raises(DataError, match="not a readable Parquet file"):
        load_examples(path)
