"""Which option an answer names: one reading for the whole file, or an error that shows both."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tillerman.cli.values import columns_of
from tillerman.core.errors import DataError
from tillerman.data.loading import LoadedData, load_examples

NUMBERS = ["1", "2", "3", "4"]


def rows(options: Sequence[str], answers: Sequence[object]) -> list[dict[str, Any]]:
    return [{"question": f"Q{i}?", "options": list(options), "answer": answer} for i, answer in enumerate(answers)]


def named(loaded: LoadedData) -> list[str]:
    return [example.options[example.answer] for example in loaded.examples]


def pasted(error: DataError, data: Any) -> list[LoadedData]:
    """Every line of options in the error, tried as it stands."""
    found = re.findall(r"--layout ([\w-]+)(?: --columns (\S+))?", str(error))
    return [
        load_examples(data, layout=name.rstrip(",;"), columns=columns_of(columns or None)) for name, columns in found
    ]


@pytest.mark.parametrize(
    ("options", "answers", "right"),
    [
        (NUMBERS, [1, 2, 3, 4], ["1", "2", "3", "4"]),  # texts: 4 is no index
        (["4", "3", "2", "1"], ["0", "1", "3", "2"], ["4", "3", "1", "2"]),  # indices: 0 is no text
        (["red", "green", "blue"], [3, 1, 2], ["blue", "red", "green"]),  # numbers from 1: 3 is no index
        (["red", "green", "blue"], [2, 1, 0], ["blue", "green", "red"]),
        (["red", "green", "blue"], ["B", "c", "(A)"], ["green", "blue", "red"]),
        (["red", "green", "blue"], ["Blue", "A", 1], ["blue", "red", "green"]),  # each row clear by itself
        (["b", "a"], ["a", "A", "b"], ["a", "a", "b"]),  # texts before letters? no: see below
    ],
)
def test_the_reading_that_fits_every_row_is_taken(options: list[str], answers: list[object], right: list[str]) -> None:
    data = rows(options, answers)
    if options == ["b", "a"]:
        with pytest.raises(DataError, match="a letter"):
            load_examples(data)
        data = [{**row, "answer_text": row["answer"]} for row in data]
        assert named(load_examples(data, layout="choice", columns={"answer_text": "answer"})) == right
        return
    assert named(load_examples(data)) == right


@pytest.mark.parametrize(
    ("options", "answers"),
    [
        (["1", "0"], [1, 0]),
        (["1", "0"], ["1", "0"]),
        (["0", "2", "1", "3"], [0, 1, 2, 3]),
        (["C", "B", "A"], ["A", "B", "C"]),
    ],
)
def test_two_readings_of_a_file_are_an_error_whose_advice_gives_each(options: list[str], answers: list[object]) -> None:
    data = rows(options, answers)
    with pytest.raises(DataError) as caught:
        load_examples(data)
    assert len(str(caught.value)) <= 600 and caught.value.field == "answer"
    one, other = pasted(caught.value, data)
    assert named(one) != named(other)
    with pytest.raises(DataError):  # a doubt about the file is no bad row
        load_examples(data, skip_bad_rows=True)


def test_a_reading_can_be_named_for_a_column_of_any_name() -> None:
    data = [{"question": "Q", "options": NUMBERS, "gold": 2}]
    for reading, right in (("answer_index", "3"), ("answer_number", "2"), ("answer_text", "2")):
        assert named(load_examples(data, columns={reading: "gold"})) == [right]
    with pytest.raises(DataError, match="got '2'") as caught:
        load_examples(data, columns={"answer_letter": "gold"})
    assert caught.value.field == "gold"


def test_a_bad_answer_does_not_change_how_the_others_are_read() -> None:
    data = rows(["red", "green", "blue"], [0, 2, 1, 7, 2])
    loaded = load_examples(data, skip_bad_rows=True)
    assert named(loaded) == ["red", "blue", "green", "blue"] and len(loaded.skipped) == 1


@given(st.permutations(NUMBERS), st.lists(st.integers(0, 5), min_size=1, max_size=8), st.booleans())
def test_no_answer_is_read_as_one_thing_here_and_as_another_there(
    options: list[str], answers: list[int], quoted: bool
) -> None:
    data = rows(options, [str(a) for a in answers] if quoted else answers)
    try:
        loaded = load_examples(data, skip_bad_rows=True)
    except DataError:
        return
    kept = [a for i, a in enumerate(answers) if f"Q{i}?" in {e.question for e in loaded.examples}]
    as_text = [str(a) for a in kept]
    as_index = [options[a] if a < 4 else None for a in kept]
    assert named(loaded) in (as_text, as_index, [options[a - 1] for a in kept])


COLUMNS = (
    ("option_a", "option_b", "option_c", "option_d"),
    ("choice_A", "choice_B", "choice_C", "choice_D"),
    ("Option A", "Option B", "Option C", "Option D"),
    ("opa", "opb", "opc", "opd"),
    ("A", "B", "C", "D"),
    ("a", "b", "c", "d"),
    ("option1", "option2", "option3", "option4"),
    ("choice0", "choice1", "choice2", "choice3"),
)
ANSWERS = "ABCDDCBA"


def table(columns: Sequence[str], answers: Sequence[object], *, header: Sequence[str] = ()) -> str:
    lines = [",".join(header or ("question", *columns, "answer"))]
    lines += [f"Question {i}?,red {i},green {i},blue {i},grey {i},{answer}" for i, answer in enumerate(answers)]
    return "\n".join(lines) + "\n"


def right_ones(answers: Sequence[str]) -> list[str]:
    return [f"{['red', 'green', 'blue', 'grey']['ABCD'.index(answer)]} {i}" for i, answer in enumerate(answers)]


@pytest.mark.parametrize("columns", COLUMNS, ids=lambda c: c[0])
@pytest.mark.parametrize("answers", ["letters", "texts"])
def test_a_column_for_each_option_is_multiple_choice(tmp_path: Path, columns: tuple[str, ...], answers: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(table(columns, ANSWERS if answers == "letters" else right_ones(ANSWERS)), encoding="utf-8")
    loaded = load_examples(path)
    assert named(loaded) == right_ones(ANSWERS)
    assert all(len(e.options) == 4 and e.kind == "choice" for e in loaded.examples)


def test_numbers_of_numbered_columns_are_those_in_the_names_or_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    numbers = ["1", "2", "3", "4", "4", "3", "2", "1"]
    path.write_text(table(COLUMNS[6], numbers), encoding="utf-8")
    assert named(load_examples(path)) == right_ones(ANSWERS)
    path.write_text(table(COLUMNS[6], ["1", "2", "3"]), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_examples(path)
    one, other = pasted(caught.value, path)
    assert named(one) != named(other)


DAMAGES = {
    "a letter lost": lambda name: name[:-2] + name[-1],
    "two letters swapped": lambda name: name[1] + name[0] + name[2:],
    "a letter more": lambda name: name[:2] + "X" + name[2:],
    "nothing": lambda name: "",
    "another word": lambda name: "column",
    "end cut off": lambda name: name[:-1],
    "a mark": lambda name: name + "?",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("columns", [COLUMNS[0], COLUMNS[6], COLUMNS[7]], ids=lambda c: c[0])
@pytest.mark.parametrize("cell", range(6))
def test_a_damaged_header_is_refused_or_read_rightly(
    tmp_path: Path, damage: str, columns: tuple[str, ...], cell: int
) -> None:
    header = ["question", *columns, "answer"]
    header[cell] = DAMAGES[damage](header[cell])
    path = tmp_path / "x.csv"
    for skip in (False, True):
        path.write_text(table((), ANSWERS, header=header), encoding="utf-8")
        try:
            loaded = load_examples(path, skip_bad_rows=skip)
        except DataError:
            continue
        assert named(loaded) == right_ones(ANSWERS)
        assert all(len(e.options) == 4 for e in loaded.examples)


def test_an_empty_option_between_others_is_a_bad_row_and_at_the_end_is_none() -> None:
    row = {"question": "Q?", "A": "x", "B": "y", "C": "z", "D": "", "answer": "C"}
    bad = {**row, "B": "", "question": "Other?"}
    assert load_examples([row]).examples[0].options == ("x", "y", "z")
    with pytest.raises(DataError) as caught:
        load_examples([row, bad])
    assert caught.value.field == "B" and len(load_examples([row, bad], skip_bad_rows=True).examples) == 1


def test_a_letter_is_never_the_reference_of_an_open_question() -> None:
    plain = [{"question": f"Q{i}?", "answer": "ABC"[i % 3]} for i in range(6)]
    with pytest.raises(DataError, match="no layout fits"):
        load_examples(plain)
    beside = [{"question": f"Q{i}?", "choice0": "x", "choice2": "y", "answer": str(i % 3)} for i in range(6)]
    with pytest.raises(DataError, match="one between or before them is missing"):
        load_examples(beside)
    assert load_examples(plain, layout="open").examples[0].options == ("A",)


@pytest.mark.parametrize("values", [(1, 0), ("1", "0"), (1.0, 0.0)])
def test_ones_and_noughts_may_be_yes_and_no_or_numbers(values: tuple[object, object]) -> None:
    data = [{"question": f"Q{i}?", "answer": values[i % 2]} for i in range(6)]
    with pytest.raises(DataError, match="--layout yes-no") as caught:
        load_examples(data)
    yes_no, numbers = pasted(caught.value, data)
    assert {e.kind for e in yes_no.examples} == {"yes_no"} and yes_no.examples[0].answer == 0
    assert {e.kind for e in numbers.examples} == {"open"}
    assert load_examples([*data, {"question": "Q?", "answer": 2}]).layout == "open"


@pytest.mark.parametrize("name", ["context", "passage"])
def test_the_passage_that_a_question_is_about_stands_before_it(name: str) -> None:
    data = [{"question": f"Q{i}?", name: "Once.", "answer": i % 2 == 0} for i in range(4)]
    assert load_examples(data).examples[0].question == "Once.\nQ0?"


@pytest.mark.parametrize("text", ["Which?\n(A) x\n(B) y", "Which?\nA. x\nB. y", "Which? (A) x (B) y"])
def test_options_inside_the_question_are_found_by_its_letter(text: str) -> None:
    example = load_examples([{"question": text, "answer": "B"}]).examples[0]
    assert (example.question, example.options, example.answer) == ("Which?", ("x", "y"), 1)


def test_two_layouts_of_different_columns_are_an_error_that_names_both() -> None:
    data = [{"prompt": f"P{i}", "chosen": "a", "rejected": "b", "text": f"t{i}", "label": i % 2} for i in range(40)]
    with pytest.raises(DataError, match="two layouts fit") as caught:
        load_examples(data)
    assert [one.layout for one in pasted(caught.value, data)] == ["preference", "labelled-text"]
