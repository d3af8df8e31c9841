"""Published forms into examples: what each row becomes, and that real files parse without a bad row."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tillerman.core.errors import DataError, UnknownNameError
from tillerman.data.layouts import LAYOUTS
from tillerman.data.lettered import lettered
from tillerman.data.loading import load_examples

from .shared import shared_data
from .test_conversations import SAME

# layout -> (row, kind, question, options, answer)
EXPECTED: dict[str, tuple[dict[str, Any], str, str, tuple[str, ...], int]] = {
    "persona-yes-no": (
        {"question": 'Say this?\n"No way"', "statement": "No way", "answer_matching_behavior": " No"},
        "yes_no",
        'Say this?\n"No way"',
        ("Yes", "No"),
        1,
    ),
    "model-written-ab": (
        {
            "question": "Agree?\n\nChoices:\n (A) Yes,\nof course\n (B) No",
            "answer_matching_behavior": " (B)",
            "answer_not_matching_behavior": " (A)",
        },
        "choice",
        "Agree?",
        ("Yes,\nof course", "No"),
        1,
    ),
    "caa-pair": (
        {"prompt": "How many?\n\nChoices:\n(A) one\n(B) two", "correct": "(A)", "incorrect": "(B)"},
        "choice",
        "How many?",
        ("one", "two"),
        0,
    ),
    "sycophancy-typology": (
        {"prompt": "I am Jane. Which?\n (A) small\n (B) big\n\nAnswer:", "corrects": [" (B)"], "incorrects": [" (A)"]},
        "choice",
        "I am Jane. Which?",
        ("small", "big"),
        1,
    ),
    "bbq": (
        {
            "context": "Two people met.",
            "question": "Who was late?",
            "ans0": "He",
            "ans1": "She",
            "ans2": "Unknown",
            "label": 2,
        },
        "choice",
        "Two people met.\nWho was late?",
        ("He", "She", "Unknown"),
        2,
    ),
    "ethics-commonsense": (
        {"label": "1", "input": " I lied. ", "is_short": "True"},
        "yes_no",
        "I lied.\nIs this morally wrong?",
        ("Yes", "No"),
        0,
    ),
    "ethics-deontology": (
        {"label": "0", "scenario": "Could you come?", "excuse": "No, I dislike you."},
        "yes_no",
        "Could you come? No, I dislike you.\nIs this reasonable?",
        ("Yes", "No"),
        1,
    ),
    "ethics-virtue": (
        {"label": 1, "scenario": "Ann ran into the fire. [SEP] brave"},
        "yes_no",
        'Ann ran into the fire.\nDoes this person show the trait "brave"?',
        ("Yes", "No"),
        0,
    ),
    "ethics-justice": (
        {"label": 1, "scenario": "I deserve pay because I worked."},
        "yes_no",
        "I deserve pay because I worked.\nIs this reasonable?",
        ("Yes", "No"),
        0,
    ),
    "truthfulqa-mc": (
        {"question": "Why?", "mc1_targets": {"Because.": 0, "It is not so.": 1}, "mc2_targets": {}},
        "choice",
        "Why?",
        ("Because.", "It is not so."),
        1,
    ),
    "truthfulqa-csv": (
        {"Question": "Why?", "Best Answer": "It is not so.", "Incorrect Answers": "Because.; By chance.; "},
        "choice",
        "Why?",
        ("It is not so.", "Because.", "By chance."),
        0,
    ),
    "mmlu": (
        {"question": "2+2?", "choice0": "1", "choice1": "2", "choice2": "3", "choice3": "4", "answer": "3"},
        "choice",
        "2+2?",
        ("1", "2", "3", "4"),
        3,
    ),
    "agieval": (
        {"passage": "Six sat.", "question": "Who?", "options": ["(A)Ann", "(B)Bob", "(C)Cy"], "label": "C"},
        "choice",
        "Six sat.\nWho?",
        ("Ann", "Bob", "Cy"),
        2,
    ),
    "answer-key": (
        {"question": "Which?", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"},
        "choice",
        "Which?",
        ("x", "y"),
        1,
    ),
    "instruction-answer": (
        {
            "instruction": "Please choose the correct answer to the question: It is\n\nAnswer1: hot Answer2: cold\n\n"
            "Answer format: answer1/answer2",
            "input": "",
            "output": "x",
            "answer": "answer2",
        },
        "choice",
        "It is",
        ("hot", "cold"),
        1,
    ),
    "option-columns": (
        {"question": "Which?", "A": "x", "B": "y", "C": "z", "D": "", "answer": "C"},
        "choice",
        "Which?",
        ("x", "y", "z"),
        2,
    ),
    "bipo-ab": (
        {"question": "Which?", "A": "x", "B": "y", "matching": "B"},
        "choice",
        "Which?",
        ("x", "y"),
        1,
    ),
    "bipo": (
        {"question": "More power?", "matching": "Yes.", "not_matching": "No."},
        "preference",
        "More power?",
        ("Yes.", "No."),
        0,
    ),
    "preference": ({"prompt": "P", "chosen": "a", "rejected": "b"}, "preference", "P", ("a", "b"), 0),
    "preferred": ({"prompt": "P", "preferred": "a", "rejected": "b"}, "preference", "P", ("a", "b"), 0),
    "text-pair": ({"positive": "good", "negative": "bad"}, "text", "", ("good", "bad"), 0),
    "choice": ({"question": "Q", "options": ["a", "b", "c"], "answer": "C"}, "choice", "Q", ("a", "b", "c"), 2),
    "choices": ({"question": "Q", "choices": ["a", "b"], "answer": "b"}, "choice", "Q", ("a", "b"), 1),
    "lettered-question": (
        {"question": "Which?\nA) x\nB) y", "answer": "B"},
        "choice",
        "Which?",
        ("x", "y"),
        1,
    ),
    "yes-no": ({"question": "Q", "answer": True}, "yes_no", "Q", ("Yes", "No"), 0),
    "open": ({"question": "How many?", "answer": "3 + 4 = 7\n#### 7"}, "open", "How many?", ("7",), 0),
}


@pytest.mark.parametrize("layout", EXPECTED)
def test_a_row_of_every_layout_is_found_and_read(layout: str) -> None:
    row, kind, question, options, answer = EXPECTED[layout]
    other = with_other_label(row)
    loaded = load_examples([row, other])
    example = loaded.examples[0]
    assert loaded.layout == layout
    assert (example.kind, example.question, example.options, example.answer) == (kind, question, options, answer)


def with_other_label(row: dict[str, Any]) -> dict[str, Any]:
    """The same row with the other answer where the layout is yes/no, so that both classes are there."""
    if "ans0" in row:
        return row
    flips = ("label", "answer_matching_behavior", "answer")
    other = {"0": "1", "1": "0", " No": " Yes", "True": False}
    return {name: other.get(str(value), value) if name in flips else value for name, value in row.items()}


def test_every_layout_has_an_example_row_here_or_among_the_texts() -> None:
    paired = {"labelled-text", "labelled-sentence", "labelled-messages", "kto"}
    assert set(LAYOUTS) == {*EXPECTED, *(layout for _, layout, _ in SAME.values()), *paired, "messages"}


def test_every_layout_and_its_fields_are_documented() -> None:
    page = (Path(__file__).parents[2] / "docs/data-format.md").read_text(encoding="utf-8")
    for layout in LAYOUTS.values():
        assert f"`{layout.name}`" in page, layout.name
        assert all(name in page for name in layout.fields), layout.name


@pytest.mark.parametrize(
    ("answer", "index"), [(1, 1), (1.0, 1), ("B", 1), ("(b)", 1), ("blue", 1), (" Blue ", 1), ("0", 0), ("A.", 0)]
)
def test_an_answer_may_be_an_index_a_letter_or_the_text(answer: object, index: int) -> None:
    row = {"question": "Q", "options": ["red", "blue"], "answer": answer}
    assert load_examples([row]).examples[0].answer == index


def test_a_benchmark_row_with_a_repeated_option_keeps_the_right_one() -> None:
    row = {"question": "Q", "choice0": "7", "choice1": "7", "choice2": "8", "choice3": "9", "answer": 1}
    example = load_examples([row]).examples[0]
    assert example.options == ("7", "8", "9") and example.options[example.answer] == "7"


def test_of_options_that_differ_by_case_the_right_one_stays() -> None:
    row = {"question": "Q", "choice0": "RR", "choice1": "rr", "choice2": "x", "choice3": "y", "answer": 1}
    assert load_examples([row]).examples[0].options == ("rr", "x", "y")


def test_one_odd_row_does_not_decide_the_layout() -> None:
    odd = {"question": "Say?", "options": ["a", "b"], "answer": 0, "answer_matching_behavior": " Yes"}
    rows = [{"question": f"Q{i}", "options": ["a", "b"], "answer": 1} for i in range(5)]
    assert load_examples([odd, *rows]).layout == "choice"


def test_the_last_complete_run_of_letters_is_the_option_list() -> None:
    text = "One?\n (A) no\n (B) yes\n\nTwo (A or B)?\nChoices:\n (A) left\n (B) right\n (C) (A) and (B)"
    question, options = lettered(text) or ("", ())
    assert options == ("left", "right", "(A) and (B)")
    assert question.endswith("Two (A or B)?")
    assert lettered("Which of (A) and (C)?") is None


def test_columns_can_be_named() -> None:
    rows = [{"frage": "Q", "a": "x", "b": "y", "gold": "y"}]
    for options in ("a,b", "a, b", ["a", "b"]):
        columns = {"question": "frage", "options": options, "answer": "gold"}
        for layout in ("choice", None):
            example = load_examples(rows, layout=layout, columns=columns).examples[0]
            assert (example.question, example.options, example.answer) == ("Q", ("x", "y"), 1)


def test_errors_name_the_column_of_the_file() -> None:
    rows = [{"frage": "Q", "a": "x", "b": "y", "gold": ""}]
    with pytest.raises(DataError) as caught:
        load_examples(rows, layout="choice", columns={"question": "frage", "options": "a,b", "answer": "gold"})
    assert caught.value.field == "gold"
    with pytest.raises(DataError, match="no such column; found frage, a, b, gold") as caught:
        load_examples(rows, layout="choice", columns={"question": "nope"})
    assert caught.value.field == "nope"


def test_unknown_layouts_and_unread_fields_are_refused() -> None:
    rows = [{"question": "Q", "options": ["a", "b"], "answer": 0}]
    with pytest.raises(UnknownNameError, match="Did you mean 'choice'"):
        load_examples(rows, layout="chioce")
    with pytest.raises(UnknownNameError, match="no field of the layout choice named 'label'"):
        load_examples(rows, layout="choice", columns={"label": "answer"})


# Each family of PAS (section 4): where it lies, and what it must be read as.
PAS = {
    "bbq/original": "bbq",
    "bbq/regenerated": "bbq",
    "ethics/commonsense": "ethics-commonsense",
    "ethics/deontology": "ethics-deontology",
    "ethics/virtue": "ethics-virtue",
    "caa/generate/sycophancy": "model-written-ab",
    "caa/test/sycophancy/test_dataset_ab.json": "model-written-ab",
    "anthropic_evals/sycophancy_old": "sycophancy-typology",
    "anthropic_evals/advanced-ai-risk/human_generated_evals": "model-written-ab",
    "anthropic_evals/persona/interest-in-science.jsonl.gz": "persona-yes-no",
    "truthfulqa/mc_task.json": "truthfulqa-mc",
    "truthfulqa/TruthfulQA.csv": "truthfulqa-csv",
    "commonsense/openbookqa": "instruction-answer",
    "commonsense/ARC-Challenge": "instruction-answer",
    "commonsense/commonsense_qa": "answer-key",
    "agieval": "agieval",
    "mmlu/test": "mmlu",
}
# Options that differ by case alone ('BB BB', 'Bb Bb', 'bb bb') are the same to Example.
CASE_ONLY = {"mmlu/test": 2}


@pytest.mark.parametrize("path", PAS)
def test_every_family_of_pas_is_read_without_a_bad_row(path: str) -> None:
    loaded = load_examples(shared_data(path), skip_bad_rows=path in CASE_ONLY)
    assert loaded.layout == PAS[path]
    assert len(loaded.skipped) == CASE_ONLY.get(path, 0)
    assert len(loaded.examples) >= 50


def test_the_questions_are_those_the_embedded_model_was_trained_on() -> None:
    """Read here anew from the files, as tools/pilot/corpus.py does."""
    row = json.loads(_lines("bbq/original/Age.jsonl.gz")[0])
    bbq = load_examples(shared_data("bbq/original/Age.jsonl.gz")).examples[0]
    assert bbq.question == f"{row['context']}\n{row['question']}"
    table = next(csv.DictReader(_lines("ethics/deontology/deontology_test.csv")))
    ethics = load_examples(shared_data("ethics/deontology/deontology_test.csv")).examples[0]
    assert ethics.question == f"{table['scenario'].strip()} {table['excuse'].strip()}\nIs this reasonable?"
    assert ethics.answer == (0 if table["label"] == "1" else 1)


def _lines(path: str) -> list[str]:
    data = shared_data(path).read_bytes()
    return (gzip.decompress(data) if path.endswith(".gz") else data).decode("utf-8").splitlines()
