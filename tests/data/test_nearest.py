"""Where no layout fits, the error gives options that can be pasted, and they work."""

from __future__ import annotations

import ast
import csv
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tillerman.cli.app import app
from tillerman.core.errors import DataError, UnknownNameError
from tillerman.data.layouts import LAYOUTS
from tillerman.data.loading import load_examples

TEXTS = [f"{word}, the {thing} makes me {word}." for thing in ("garden", "letter", "train") for word in ("glad", "sad")]

# What the file is like -> (rows, the layout that is advised)
CASES: dict[str, tuple[list[dict[str, Any]], str]] = {
    "two sides": ([{"pos": f"good {i}", "neg": f"bad {i}"} for i in range(6)], "text-pair"),
    "two sides and a question": (
        [{"ask": f"q{i}", "question_text": f"What {i}?", "good": f"yes {i}", "bad": f"no {i}"} for i in range(6)],
        "preference",
    ),
    "tweets": ([{"tweet": text, "emotion": "joy" if "glad" in text else "grief"} for text in TEXTS], "labelled-text"),
    "numbers of stars": ([{"body": text, "stars": 5 if "glad" in text else 2} for text in TEXTS], "labelled-text"),
    "names that say nothing": (
        [{"c1": i, "c2": text, "c3": "ab"[i % 2]} for i, text in enumerate(TEXTS)],
        "labelled-text",
    ),
    "toxicity": ([{"comment_text": text, "is_toxic": i % 2} for i, text in enumerate(TEXTS)], "labelled-text"),
    "a stem and candidates": (
        [{"stem": f"Which {i}?", "candidates": ["x", "y"], "gold": i % 2} for i in range(6)],
        "choice",
    ),
    "MedMCQA": (
        [
            {"id": i, "question": f"Which {i}?", "opa": "w", "opb": "x", "opc": "y", "opd": "z", "cop": i % 4}
            for i in range(8)
        ],
        "option-columns",
    ),
    "WinoGrande": (
        [{"sentence": f"The _ {i}.", "option1": "cup", "option2": "cat", "answer": "12"[i % 2]} for i in range(6)],
        "option-columns",
    ),
    "texts with no prompt": ([{"chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(6)], "text-pair"),
    "retrieval": (
        [{"anchor": f"a {i}", "positive": f"p {i}", "negative": f"n {i}"} for i in range(6)],
        "prompted-pair",
    ),
    "problems": ([{"problem": f"How many {i}?", "solution": f"{i} + 1"} for i in range(6)], "open"),
    "words with blanks": (
        [{"The Review": text, "My Label": "ab"[i % 2]} for i, text in enumerate(TEXTS)],
        "labelled-text",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_advice_pasted_on_the_command_line_reads_the_file(tmp_path: Path, case: str) -> None:
    rows, layout = CASES[case]
    path = tmp_path / "mine.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    if any(isinstance(value, list) for value in rows[0].values()):
        return  # a list in a table is for the readers
    with pytest.raises(DataError) as caught:
        load_examples(path)
    message = str(caught.value)
    assert len(message) <= 600
    lines = re.findall(r"(--layout .+?)(?= \(in Python|, or --layout|$)", message)
    assert lines and lines[0].startswith(f"--layout {layout}"), message
    for line in lines:
        said = CliRunner().invoke(app, ["check", str(path), *shlex.split(line), "--json"])
        assert '"items"' in said.stdout, (line, said.output)


@pytest.mark.parametrize("case", CASES)
def test_the_advice_pasted_in_python_reads_the_rows(case: str) -> None:
    rows, layout = CASES[case]
    with pytest.raises(DataError) as caught:
        load_examples(rows)
    found = re.search(r"in Python (layout=.*)\)?$", str(caught.value))
    assert found, str(caught.value)
    call = ast.parse(f"f({found[1].rstrip(')')})", mode="eval").body
    assert isinstance(call, ast.Call)
    given = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
    assert given["layout"] == layout
    assert load_examples(rows, **given).examples


def test_columns_that_the_command_line_cannot_name_are_given_in_python_alone() -> None:
    rows = [{"pos,1": f"good {i}", "neg": f"bad {i}"} for i in range(6)]
    with pytest.raises(DataError) as caught:
        load_examples([{"good, really": row["pos,1"], "bad": row["neg"]} for row in rows])
    assert "--columns" not in str(caught.value)


def test_where_nothing_can_be_advised_the_nearest_layouts_say_what_is_missing() -> None:
    with pytest.raises(DataError, match=r"preference \(prompt, chosen, rejected; missing: rejected\)"):
        load_examples([{"prompt": "a", "chosen": "b"}])
    with pytest.raises(DataError, match="no layout fits the fields foo, bar") as caught:
        load_examples([{"foo": 1, "bar": 2}])
    assert len(str(caught.value)) <= 600


def test_a_class_that_is_asked_for_can_be_pasted() -> None:
    rows = [{"text": text, "label": "joy" if "glad" in text else "grief"} for text in TEXTS]
    with pytest.raises(DataError) as caught:
        load_examples(rows)
    found = re.search(r"positive_label=('.*?') \(--positive (\S+)\)", str(caught.value))
    assert found
    assert load_examples(rows, positive_label=ast.literal_eval(found[1])).examples


def test_errors_stay_short_whatever_the_file_holds() -> None:
    wide = {f"column {i} of a table that has very many of them": i for i in range(300)}
    long = {"question": "Q", "options": ["a" * 900, "b" * 900], "answer": "c" * 900}
    classes = [{"text": f"t {i}", "label": f"class {i} " + "x" * 90} for i in range(50)]
    for rows in ([wide], [long], classes, [{"x" * 900: 1}]):
        with pytest.raises(DataError) as caught:
            load_examples(rows)
        assert len(str(caught.value)) <= 600
    with pytest.raises(UnknownNameError, match="Did you mean 'preference'") as unknown:
        load_examples([long], layout="preferense")
    assert len(str(unknown.value)) <= 600 and len(LAYOUTS) > 30
