"""Neutral text from files of every kind."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tillerman.core.errors import DataError
from tillerman.data.neutral import load_texts

TEXTS = ("One day,\nit rained.", "The sun came out.")


WINDOWS = "\r\n \r\n".join(TEXTS).replace("\n", "\r\n").replace("\r\r", "\r")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.txt", "\n\n".join(TEXTS).encode()),
        ("a.md", "\n\n\n".join(TEXTS).encode("utf-16")),
        (
            "a.txt.gz",
            gzip.compress(WINDOWS.encode(), mtime=0),
        ),
        ("a.json", json.dumps(TEXTS).encode()),
        ("a.jsonl", "\n".join(json.dumps({"text": text}) for text in TEXTS).encode()),
        ("a.csv", f'text,n\n"{TEXTS[0]}",1\n{TEXTS[1]},2\n'.encode()),
    ],
)
def test_a_text_is_a_text_in_every_kind_of_file(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert load_texts(str(tmp_path / name)) == TEXTS


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.txt", b" \n\n", "is empty"),
        ("a.txt", b"caf\xe9", "is not UTF-8"),
        ("a.json", b'[{"prompt": "x"}]', "field 'text': expected rows with a text, got null"),
        ("a.json", b"[3]", "expected a JSON object"),
        ("a.csv", b"a,b\n1,2\n", "field 'text'"),
    ],
)
def test_what_is_no_text_is_an_error_that_says_so(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=words):
        load_texts(str(tmp_path / name))


def test_a_missing_text_is_told_of_the_sample(tmp_path: Path) -> None:
    for source in (str(tmp_path / "gone.txt"), "x" * 300):
        with pytest.raises(DataError, match="sample:wikitext"):
            load_texts(source)
    with pytest.raises(DataError, match="NUL"):
        load_texts("a\0b")
