"""Tables of text in the dialects of spreadsheets: read as they were written, or refused with both readings."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings, strategies as st

from tillerman.core.errors import DataError, UsageError
from tillerman.data.loading import load_examples
from tillerman.data.readers import read_rows

ROWS = [{"text": f"It’s lovely, {i}: the garden", "label": "positive" if i % 2 else "negative"} for i in range(20)]
MARKS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}


def table(rows: list[dict[str, str]], mark: str = ",", quoting: int = csv.QUOTE_MINIMAL) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=mark, quoting=quoting, lineterminator="\n")  # type: ignore[arg-type]
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


SEEDED = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def save(folder: Path, text: str | bytes, name: str = "rows.csv") -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return folder / name


def fields(source: object) -> list[dict[str, str]]:
    return [dict(row.fields) for row in read_rows(source)]


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize("mark", MARKS)
def test_what_parts_the_cells_is_found(tmp_path: Path, mark: str, suffix: str) -> None:
    assert fields(save(tmp_path, table(ROWS, MARKS[mark]), f"rows.{suffix}")) == ROWS


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "sep=;;"])
def test_excels_line_about_the_mark_is_obeyed_and_lines_keep_their_numbers(tmp_path: Path, line: str) -> None:
    path = save(tmp_path, f"{line}\n{table(ROWS, ';')}")
    assert fields(path) == ROWS
    assert [row.line for row in read_rows(path)][:2] == [3, 4]


def test_the_mark_may_be_one_that_nobody_would_guess_if_the_file_or_the_user_says_it(tmp_path: Path) -> None:
    assert fields(save(tmp_path, "sep=^\n" + table(ROWS, "^"))) == ROWS
    path = save(tmp_path, "a;b|c\n1;2|3\n")
    with pytest.raises(DataError, match=r"parted in two ways: by semicolon the first row is a \| b"):
        fields(path)
    assert fields(f"{path}:delimiter=pipe") == [{"a;b": "1;2", "c": "3"}]
    assert fields(f"{path}:delimiter=semicolon") == [{"a": "1", "b|c": "2|3"}]


def test_a_damaged_row_does_not_hide_what_parts_the_others(tmp_path: Path) -> None:
    path = save(tmp_path, table(ROWS, ";") + "short\n")
    with pytest.raises(DataError, match=r"rows\.csv:22: expected 2 cells \(text, label\), got 1"):
        fields(path)
    assert len(load_examples(path, skip_bad_rows=True).skipped) >= 1


def test_a_text_file_is_a_table_where_it_is_called_one(tmp_path: Path) -> None:
    path = save(tmp_path, "i feel fine;joy\ni feel lost, then;sadness\n", "train.txt")
    with pytest.raises(DataError, match=r"may be texts, or cells parted by a semicolon \(i feel fine | joy\)"):
        fields(path)
    read = fields(f"{path}:delimiter=semicolon,header=text+label")
    assert read == [{"text": "i feel fine", "label": "joy"}, {"text": "i feel lost, then", "label": "sadness"}]


def test_a_text_file_of_prompts_is_told_where_it_belongs(tmp_path: Path) -> None:
    path = save(tmp_path, "Who are you?\nTell me a story.\n", "prompts.txt")
    with pytest.raises(DataError, match=r"positive\.txt and negative\.txt.*`tillerman score --prompts`"):
        load_examples(path)


# Quote marks of tab-separated files


def test_wrapped_cells_of_pandas_read_as_they_were(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    texts = ['"Great" day, he said.', "Bad day.", "two\nlines", "a\ttab", 'ends "so"']
    frame = pandas.DataFrame({"text": texts, "label": range(5)})
    frame.to_csv(tmp_path / "rows.tsv", sep="\t", index=False)
    assert [row["text"] for row in fields(tmp_path / "rows.tsv")] == texts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('text\tlabel\n"never closed\t1\nfine\t0\n', ['"never closed', "fine"]),
        ('text\tlabel\nhe said "so"\t1\n"a" b\t0\n', ['he said "so"', '"a" b']),
        ('text\tlabel\n"a ""b"" c"\t1\nfine\t0\n', ['a "b" c', "fine"]),
        ('"text"\t"label"\n"plain words"\t"1"\n', ["plain words"]),
        ('text\tlabel\n"over two\nlines"\t1\nfine\t0\n', ["over two\nlines", "fine"]),
        ('text\tlabel\n"with a\ttab"\t1\nfine\t0\n', ["with a\ttab", "fine"]),
    ],
    ids=["open mark", "marks inside", "doubled", "wrapped header", "line break", "tab inside"],
)
def test_the_file_tells_whether_quote_marks_wrap_cells(tmp_path: Path, text: str, expected: list[str]) -> None:
    for name in ("rows.tsv", "rows.csv"):
        assert [row["text"] for row in fields(save(tmp_path, text, name))] == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('text\tlabel\n"a whole title"\t1\nfine\t0\n', "a cell reads '\"a whole title\"' or 'a whole title'"),
        ('text\tlabel\n"begins\t1\nends"\t0\n', "may be text, or the cell may go on in the next line"),
        ('text\tlabel\n"a ""b"""\t1\n"open\t0\n', "in line 3 one is left open"),
    ],
    ids=["both fit", "across lines", "evidence for both"],
)
def test_where_both_readings_fit_neither_is_taken(tmp_path: Path, text: str, words: str) -> None:
    path = save(tmp_path, text, "rows.tsv")
    with pytest.raises(DataError) as caught:
        fields(path)
    assert words in str(caught.value)
    assert f"{path}:quotes=text" in str(caught.value) and f"{path}:quotes=csv" in str(caught.value)
    assert len(str(caught.value)) < 600
    assert fields(f"{path}:quotes=text")[0]["text"] == text.split("\n")[1].split("\t")[0]


_CELL = st.text(st.sampled_from("ab ,;\"'|\t\n."), min_size=1, max_size=8).filter(lambda cell: cell.strip())


@settings(
    max_examples=150, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    texts=st.lists(_CELL, min_size=1, max_size=6),
    mark=st.sampled_from(sorted(MARKS)),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_csv_writes_is_read_back_or_refused_never_changed(
    tmp_path: Path, texts: list[str], mark: str, quoting: int, encoding: str
) -> None:
    rows = [{"text": text, "label": str(i % 2)} for i, text in enumerate(texts)]
    path = save(tmp_path, table(rows, MARKS[mark], quoting).encode(encoding))
    try:
        read = fields(path)
    except DataError as error:
        assert "choose" in str(error).casefold() or "left open" in str(error)
        read = fields(f"{path}:delimiter={mark},quotes=csv")
    assert read == rows


@settings(
    max_examples=100, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=st.lists(st.text(st.sampled_from("ab \"'."), min_size=1, max_size=7), min_size=1, max_size=6))
def test_a_tsv_without_quoting_is_read_as_it_stands_or_refused(tmp_path: Path, texts: list[str]) -> None:
    assume(all(text.strip() for text in texts))
    assume(not any('""' in text[1:-1] for text in texts))  # which says, of a wrapped cell, that it is wrapped
    rows = [{"text": text, "label": str(i % 2)} for i, text in enumerate(texts)]
    path = save(tmp_path, "text\tlabel\n" + "".join(f"{row['text']}\t{row['label']}\n" for row in rows), "rows.tsv")
    try:
        read = fields(path)
    except DataError as error:
        assert "quotes=text" in str(error)
        read = fields(f"{path}:quotes=text")
    assert read == rows


# Encodings


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_byte_order_mark_names_the_encoding(tmp_path: Path, encoding: str, end: str) -> None:
    assert fields(save(tmp_path, table(ROWS, "\t").replace("\n", end).encode(encoding))) == ROWS


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "utf-16-be", "utf-8"])
def test_an_encoding_can_be_named(tmp_path: Path, encoding: str) -> None:
    path = save(tmp_path, table(ROWS).encode(encoding))
    assert fields(f"{path}:encoding={encoding}") == ROWS
    with pytest.raises(UsageError, match="no text encoding 'latin-nine'"):
        fields(f"{path}:encoding=latin-nine")


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "utf-16-be"])
def test_the_advice_on_an_encoding_works(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a file").mkdir()
    path = save(tmp_path / "a file", table(ROWS).encode(encoding))
    with pytest.raises(DataError) as caught:
        fields(path)
    message = str(caught.value)
    assert f":encoding={encoding}" in message and " -f " in message and len(message) < 600
    if shutil.which("iconv") is None:
        pytest.skip("no iconv here")
    command = message[message.index("iconv -f") :]
    subprocess.run(["sh", "-c", command], cwd=path.parent, check=True)
    assert fields(path.parent / "utf8-rows.csv") == ROWS


def test_a_wrong_byte_is_named_with_its_place_and_what_it_may_be(tmp_path: Path) -> None:
    path = save(tmp_path, b"text,label\n" + "caf\xe9,1\n".encode("cp1252"))
    with pytest.raises(DataError, match=r"byte 14 \(0xe9\) is not UTF-8; in Windows-1252 it reads 'café,1'") as caught:
        fields(path)
    assert caught.value.line == 2
    with pytest.raises(DataError, match="is not UTF-8; name its encoding"):
        fields(save(tmp_path, b"text,label\n\x81\x8d,1\n"))


@pytest.mark.parametrize(
    ("begin", "words"),
    [
        (b"PK\x03\x04....", "Excel workbook"),
        (b"PAR1....", r"let its name end in \.parquet"),
        (b"\x1f\x8b....", r"let its name end in \.gz"),
        (b"\x28\xb5\x2f\xfd....", "zstd -d"),
    ],
)
@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.json"])
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path: Path, begin: bytes, words: str, name: str) -> None:
    with pytest.raises(DataError, match=words):
        fields(save(tmp_path, begin, name))
