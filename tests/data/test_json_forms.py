"""Every form in which JSON rows are written gives the same rows; what is lost, doubled or unclear is an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from tillerman.core.errors import DataError
from tillerman.data.loading import load_examples
from tillerman.data.readers import read_rows
from tillerman.data.reading.json_rows import json_rows
from tillerman.data.reading.rows import raising
from tillerman.data.reading.text import TextFile

ROWS = [{"prompt": f"How is it, {i}?", "chosen": "Lovely, it is.", "rejected": 'Dreadful: "no".'} for i in range(12)]
Written = Callable[[list[Any]], str]

FORMS: dict[str, Written] = {
    "a row per line": lambda rows: "".join(json.dumps(row) + "\n" for row in rows),
    "a row per line, with commas": lambda rows: ",\n".join(json.dumps(row) for row in rows),
    "a row per line, blank lines between": lambda rows: "\n\n".join(json.dumps(row) for row in rows),
    "a list": lambda rows: json.dumps(rows),
    "an indented list": lambda rows: json.dumps(rows, indent=4),
    "a list that ends with a comma": lambda rows: json.dumps(rows)[:-1] + ",]",
    "two lists, one after the other": lambda rows: json.dumps(rows[:1]) + json.dumps(rows[1:]),
    "a list, then rows": lambda rows: json.dumps(rows[:1], indent=1) + "\n" + "\n".join(map(json.dumps, rows[1:])),
    "indented rows": lambda rows: "\n".join(json.dumps(row, indent=2) for row in rows),
    "indented rows with commas": lambda rows: ",\n".join(json.dumps(row, indent=2) for row in rows),
    "rows on one line": lambda rows: "".join(map(json.dumps, rows)),
    "under a key": lambda rows: json.dumps({"version": "1.0", "about": {"by": "hand"}, "data": rows}),
    "under a key, indented": lambda rows: json.dumps({"data": rows, "n": len(rows)}, indent=1),
    "under a key, rows on lines": lambda rows: '{"data": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]}",
    "under a key of a key": lambda rows: json.dumps({"set": {"rows": rows, "n": len(rows)}}),
}


SEEDED = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def save(folder: Path, text: str, name: str = "rows.json") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize("suffix", ["json", "jsonl", "ndjson"])
@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_read_whatever_the_name_ends_in(tmp_path: Path, form: str, suffix: str) -> None:
    path = save(tmp_path, FORMS[form](ROWS), f"rows.{suffix}")
    assert [dict(row.fields) for row in read_rows(path)] == ROWS


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 10**9) | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=2),
    max_leaves=5,
)


@settings(SEEDED, max_examples=50)
@given(
    rows=st.lists(st.fixed_dictionaries({"prompt": _TEXT, "x": _VALUE}), min_size=2, max_size=5),
    form=st.sampled_from(sorted(FORMS)),
    piece=st.sampled_from([2, 5, 16, 1 << 16]),
    raw=st.booleans(),
)
def test_rows_are_the_same_wherever_the_pieces_of_the_file_end(
    tmp_path: Path, rows: list[Any], form: str, piece: int, raw: bool
) -> None:
    text = FORMS[form](rows)
    if raw and _one(text):
        text = json.dumps(json.loads(text), ensure_ascii=False)
    written = save(tmp_path, text)
    read = json_rows(TextFile(written, piece=piece), raising)
    assert [row.fields for row in read] == rows


@pytest.mark.parametrize("piece", range(1, 12))
@pytest.mark.parametrize("form", ["indented rows", "under a key, indented", "rows on one line"])
def test_a_number_that_a_piece_cuts_is_read_whole(tmp_path: Path, form: str, piece: int) -> None:
    rows = [{"x": number, "y": [number]} for number in (0.5, 10.25, 1e-5, -3, 120, 2e300)]
    path = save(tmp_path, FORMS[form](rows))
    assert [row.fields for row in json_rows(TextFile(path, piece=piece), raising)] == rows


def _one(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def test_each_row_knows_its_line(tmp_path: Path) -> None:
    lines = {
        "indented rows": [1, 6, 11],
        "under a key, indented": [3, 8, 13],
        "a list, then rows": [2, 8, 9],
        "two lists, one after the other": [1, 1, 1],
    }
    for form, expected in lines.items():
        path = save(tmp_path, FORMS[form](ROWS[:3]))
        assert [row.line for row in read_rows(path)] == expected, form


def test_an_object_with_several_lists_of_rows_names_them_and_reads_the_one_that_is_chosen(tmp_path: Path) -> None:
    path = save(tmp_path, json.dumps({"train": ROWS[:9], "test": ROWS[9:], "note": "x"}, indent=1), "condition.json")
    with pytest.raises(DataError, match=r"rows lie under train \(9\) and test \(3\): choose, e\.g\. .*:rows=train"):
        load_examples(path)
    assert len(load_examples(f"{path}:rows=train").examples) == 9
    assert len(load_examples(f"{path}:rows=test").examples) == 3
    with pytest.raises(DataError, match=r"rows=dev: there is no list of that name; found train \(rows\)"):
        load_examples(f"{path}:rows=dev")


def test_a_list_deep_in_an_object_can_be_named(tmp_path: Path) -> None:
    path = save(tmp_path, json.dumps({"a": {"b": ROWS[:4], "c.d": ROWS[4:]}, "e": 1}))
    assert [len(list(read_rows(f"{path}:rows={key}"))) for key in ("a.b", "a.c.d")] == [4, 8]


def test_a_trait_file_is_called_what_it_is(tmp_path: Path) -> None:
    pairs = [{"pos": f"Be cheerful, way {i}.", "neg": f"Be gloomy, way {i}."} for i in range(5)]
    trait = {"instruction": pairs, "questions": ["How is it?"], "eval_prompt": "Rate {question}"}
    path = save(tmp_path, json.dumps(trait, indent=4), "trait.json")
    with pytest.raises(DataError, match=r"a trait file of persona_vectors") as caught:
        load_examples(path)
    assert len(str(caught.value)) < 600
    columns = {"positive": "pos", "negative": "neg"}
    assert len(load_examples(f"{path}:rows=instruction", layout="text-pair", columns=columns).examples) == 5


@pytest.mark.parametrize(
    "written",
    [
        {name: [row[name] for row in ROWS] for name in ROWS[0]},
        {name: {str(i): row[name] for i, row in enumerate(ROWS)} for name in ROWS[0]},
        {f"id-{i}": row for i, row in enumerate(ROWS)},
    ],
    ids=["lists as columns", "columns as DataFrame.to_json writes them", "rows by name"],
)
def test_an_object_of_columns_or_of_rows_by_name_is_a_table(tmp_path: Path, written: dict[str, Any]) -> None:
    assert [dict(row.fields) for row in read_rows(save(tmp_path, json.dumps(written)))] == ROWS


def test_columns_whose_rows_stand_in_another_order_stay_together(tmp_path: Path) -> None:
    path = save(tmp_path, '{"text": {"0": "a", "1": "b"}, "label": {"1": "B", "0": "A"}}')
    assert [dict(row.fields) for row in read_rows(path)] == [{"text": "a", "label": "A"}, {"text": "b", "label": "B"}]


def test_the_split_form_of_pandas_is_refused_with_the_form_to_write(tmp_path: Path) -> None:
    path = save(tmp_path, '{"columns": ["text"], "index": [0], "data": [["a"]]}')
    with pytest.raises(DataError, match="orient='records'"):
        list(read_rows(path))


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Q?", "options": ["a", "b"], "answer": 0},
        {"question": "Q?", "choices": [{"text": "a", "label": "A"}, {"text": "b", "label": "B"}], "answerKey": "A"},
        {"question": {"stem": "Q?", "choices": [{"text": "a", "label": "A"}]}, "answerKey": "A"},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"talk": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
    ],
    ids=["options", "choices", "choices deep down", "messages", "turns"],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_a_file_of_a_single_row_is_that_row_and_not_the_lists_in_it(
    tmp_path: Path, row: dict[str, Any], indent: int | None
) -> None:
    assert [dict(one.fields) for one in read_rows(save(tmp_path, json.dumps(row, indent=indent)))] == [row]


TWICE = '{"question": "Is it?", "answer": "yes", "answer": "no"}'


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ('{"question": "a", "answer": "no"}\n' + TWICE + "\n", 2, "answer"),
        ('[\n{"question": "a", "answer": "no"},\n' + TWICE + "]", 3, "answer"),
        ('{"data": [\n{"question": "a", "answer": "no"},\n' + TWICE + "]}", 3, "answer"),
        ('{"question": "a",\n "answer": {"x": 1, "y": 2, "x": 3}}\n', 2, "x"),
        ('{"data": [],\n "data": []}', 2, "data"),
    ],
    ids=["lines", "list", "under a key", "inside a value", "of the file"],
)
def test_a_key_that_comes_twice_is_an_error_with_file_line_and_key(
    tmp_path: Path, text: str, line: int, key: str
) -> None:
    path = save(tmp_path, text)
    with pytest.raises(DataError, match=f"the key '{key}' occurs twice") as caught:
        list(read_rows(path))
    assert (caught.value.line, caught.value.field, str(caught.value.file)) == (line, key, str(path))


@pytest.mark.parametrize("form", ["a row per line", "a list", "two lists, one after the other", "under a key"])
def test_a_row_with_a_key_twice_can_be_skipped_alone(tmp_path: Path, form: str) -> None:
    text = FORMS[form](ROWS).replace('"How is it, 5?"', '"How is it, 5?", "prompt": "And this?"')
    loaded = load_examples(save(tmp_path, text), skip_bad_rows=True)
    assert len(loaded.examples) == len(ROWS) - 1
    assert len(loaded.skipped) == 1 and "occurs twice" in loaded.skipped[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[{"a": 1}] and more', "expected an object or a list, got 'a'"),
        ('[{"a": 1}', "the list is not closed"),
        ('[{"a": 1} {"a": 2}]', "expected ',' between the items of a list, before item 2"),
        ('{"data": [{"a": 1}], "n" 2}', "expected ':' after the key 'n'"),
        ('{"data": [{"a": 1}], n: 2}', "expected a key in double quotes"),
        ('{\n "a": [1, 2}', "broken JSON"),
        ("[[[1]]]", "expected a JSON object with named fields, got a list"),
        ('["one", "two"]', "a list of texts has no labels"),
        ("{}", "no layout fits"),
    ],
)
def test_what_is_wrong_with_json_is_said(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        load_examples(save(tmp_path, text))
    assert words in str(caught.value)
