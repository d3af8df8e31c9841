"""Reading is in pieces and ends at a stated limit, which an option raises; odd paths are one error."""

from __future__ import annotations

import gzip
import json
import os
import resource
from pathlib import Path

import pytest

from tillerman.core.errors import DataError, UsageError
from tillerman.data.loading import load_examples
from tillerman.data.readers import read_rows

ROW = {"question": "Is it so?", "answer": "yes"}


def bomb(path: Path, megabytes: int, piece: bytes) -> Path:
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(megabytes):
            file.write((piece * (1_000_000 // len(piece) + 1))[:1_000_000])
    return path


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.json.gz", "rows.csv.gz", "rows.tsv.gz"])
@pytest.mark.parametrize(
    "piece", [b"x", b"\n", b'[{"a": "', b"[", b'"'], ids=["text", "lines", "json", "open", "quote"]
)
def test_a_file_that_grows_when_unpacked_is_given_up_before_it_fills_the_memory(
    tmp_path: Path, name: str, piece: bytes
) -> None:
    path = bomb(tmp_path / name, 80, piece)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError) as caught:
        list(read_rows(f"{path}:max_mb=60"))
    assert len(str(caught.value)) < 600
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_the_limits_are_stated_and_an_option_raises_each(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({**ROW, "note": "x" * 100}) + "\n" for _ in range(20)), encoding="utf-8")
    for option, least, words in (
        ("max_mb", "0.001", "more than 0.001 MB"),
        ("max_row", "50", "a row of more than 50 characters"),
        ("max_rows", "7", "more than 7 rows"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            list(read_rows(f"{path}:{option}={least}"))
        advice = str(caught.value).rsplit(f"{path}:{option}=", 1)[1]
        assert float(advice) > float(least)
        assert len(list(read_rows(f"{path}:{option}=10000"))) == 20


def test_a_row_beyond_the_limit_is_skipped_alone(tmp_path: Path) -> None:
    rows = [ROW, {**ROW, "note": "x" * 300}, ROW]
    forms = {"a.jsonl": "\n".join(map(json.dumps, rows)), "b.json": json.dumps(rows), "c.json": json.dumps({"d": rows})}
    for name, text in forms.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        errors: list[DataError] = []
        assert len(list(read_rows(f"{tmp_path / name}:max_row=200", errors.append))) == 2, name
        assert len(errors) == 1 and "more than 200 characters" in str(errors[0])


def test_a_cell_may_be_as_long_as_a_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f'text,label\n"{"x" * 300_000}",1\n', encoding="utf-8")
    assert len(next(read_rows(path)).fields["text"]) == 300_000


def test_a_table_of_parquet_ends_at_the_same_limits(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"text": ["x" * 400] * 5000, "label": [1] * 5000}), path)
    assert path.stat().st_size < 10_000
    with pytest.raises(DataError, match="more than 1 MB"):
        list(read_rows(f"{path}:max_mb=1"))
    with pytest.raises(DataError, match="a row of 400 characters; expected at most 300"):
        list(read_rows(f"{path}:max_row=300"))
    assert len(list(read_rows(path))) == 5000


def test_a_table_with_broken_text_or_a_column_twice_is_an_error_with_its_place(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.parquet"
    broken = pyarrow.array([b"fine", b"caf\xe9", b"fine"]).cast(pyarrow.binary()).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"text": broken, "label": [0, 1, 1]}), path)
    errors: list[DataError] = []
    assert [row.line for row in read_rows(path, errors.append)] == [1, 3]
    assert (errors[0].line, errors[0].field) == (2, "text") and "not UTF-8" in str(errors[0])
    twice = pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"])
    parquet.write_table(twice, path)
    with pytest.raises(DataError, match="two columns have the same name: text"):
        list(read_rows(path))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "the name of the data is empty"),
        ("  ", "the name of the data is empty"),
        ("a\x00b.csv", "NUL"),
        ("x" * 300 + ".csv", "too long"),
        ("*/" + "x" * 300, "no file matches"),
    ],
)
def test_a_path_that_can_be_no_file_is_one_error(source: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        load_examples(source)
    assert len(str(caught.value)) < 600


def test_a_pipe_is_refused_before_it_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    with pytest.raises(DataError, match="a pipe or a device"):
        load_examples(tmp_path / "rows.jsonl")


def test_an_option_that_is_none_is_refused_with_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,1\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"a\.csv: no option 'row'; it takes rows, .*Did you mean 'rows'"):
        load_examples(f"{tmp_path}/a.csv:row=train")
    with pytest.raises(UsageError, match="delimiter=colon: expected one of comma, semicolon, tab, pipe"):
        load_examples(f"{tmp_path}/a.csv:delimiter=colon")


def test_a_file_whose_name_looks_like_options_is_read_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.csv:rows=1.jsonl"
    path.write_text(json.dumps(ROW) + "\n", encoding="utf-8")
    assert len(list(read_rows(str(path)))) == 1
