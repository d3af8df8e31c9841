"""Prompts from files."""

from __future__ import annotations

import pytest

from tillerman.core.errors import DataError
from tillerman.data.prompts_file import Ask, load_asks


def write(tmp_path, text, name="prompts.txt"):
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def test_the_sample_has_thirty_two_different_beginnings():
    asks = load_asks("sample")
    assert len({ask.start for ask in asks}) == 32 and {ask.prompt for ask in asks} == {"Tell me a story."}


def test_a_line_is_a_prompt_and_blank_lines_are_none(tmp_path):
    assert load_asks(write(tmp_path, "Who?\n\n  Why?  \n")) == (Ask("Who?"), Ask("Why?"))


def test_rows_may_bring_a_start_and_a_reference(tmp_path):
    path = write(tmp_path, '{"prompt": "2+2?", "reference": "4"}\n{"prompt": "Go on.", "start": "So"}\n', "p.jsonl")
    assert load_asks(path) == (Ask("2+2?", reference="4"), Ask("Go on.", "So"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"p\.jsonl:1: broken JSON"),
        ('{"text": "x"}', r"p\.jsonl:1, field 'prompt': expected an object with a text 'prompt'"),
        ('{"prompt": 3}', "expected an object with a text 'prompt'"),
        ('{"prompt": "a"}\n{"prompt": "x", "reference": 4}', r"p\.jsonl:2, field 'reference': expected text, got int"),
        ('{"prompt": "x", "answer": "4"}', "unknown fields answer; known: prompt, start, reference"),
        ('{"prompt": "x"}\n{"prompt": "x"}', "'x' occurs twice"),
        ("", "the file is empty"),
        ("[]", "the list is empty"),
    ],
)
def test_a_bad_row_is_named_with_its_place(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        load_asks(write(tmp_path, text, "p.jsonl"))


def test_prompts_of_any_file_are_the_same_prompts(tmp_path):
    asks = (Ask("Who, then?"), Ask("Why?"))
    forms = {
        "a.json": '["Who, then?", "Why?"]',
        "b.json": '[{"prompt": "Who, then?"}, {"prompt": "Why?"}]',
        "c.jsonl": '"Who, then?"\n"Why?"\n',
        "d.csv": 'prompt,start\n"Who, then?",\nWhy?,\n',
        "e.csv": "prompt;reference\nWho, then?;\nWhy?;\n",
        "f.prompts": "Who, then?\nWhy?",
    }
    for name, text in forms.items():
        assert load_asks(write(tmp_path, text, name)) == asks, name
    (tmp_path / "g.txt").write_text("Who, then?\nWhy?", encoding="utf-16")
    assert load_asks(str(tmp_path / "g.txt")) == asks
    (tmp_path / "h.txt").write_bytes("Où?\nPourquoi?".encode("cp1252"))
    assert load_asks(f"{tmp_path}/h.txt:encoding=cp1252") == (Ask("Où?"), Ask("Pourquoi?"))


def test_a_file_that_is_not_there_or_no_text_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"cannot read prompts: no such file; give .*, or 'sample'"):
        load_asks(str(tmp_path / "none.txt"))
    with pytest.raises(DataError, match="holds a NUL"):
        load_asks("a\0b")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match="is not UTF-16-LE"):
        load_asks(str(tmp_path / "bytes.txt"))
