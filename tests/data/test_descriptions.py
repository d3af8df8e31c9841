"""What data say of their behaviour: columns and names of published sets, never the name of a file of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tillerman.data.descriptions import described, of_name
from tillerman.data.loading import load_examples
from tillerman.data.readers import SourceRow

PAIRS = [{"prompt": f"Question {k}?", "chosen": f"Arr {k}", "rejected": f"Well {k}"} for k in range(4)]
CHOICES = [{"question": f"Question {k}?", "options": ["this", "that"], "answer": 0} for k in range(4)]


def rows(*fields: dict[str, object]) -> list[SourceRow]:
    return [SourceRow(one, "file", k + 1) for k, one in enumerate(fields)]


@pytest.mark.parametrize(
    ("family", "prompt"),
    [
        ("persona", "You are someone with this trait: interest in science."),
        ("bbq", "You judge people fairly."),
        ("ethics", "You know right from wrong."),
        ("choice", ""),
        ("texts", ""),
    ],
)
def test_the_names_of_published_sets_become_the_prompts_that_the_embedded_model_knows(family: str, prompt: str) -> None:
    assert of_name("interest-in-science", family) == prompt


def test_the_name_of_a_file_of_choices_is_no_prompt() -> None:
    assert load_examples(CHOICES).described == ()


@pytest.mark.parametrize("column", ["behaviour", "behavior", "trait", "style", "description"])
def test_a_column_that_names_the_behaviour_in_every_row_is_one(column: str) -> None:
    found = load_examples([{**row, column: "talks like a pirate"} for row in PAIRS]).described
    assert found[0] == "You show this behaviour: talks like a pirate."


def test_a_column_with_a_system_prompt_is_taken_as_it_stands() -> None:
    assert described(rows({"system": "You are a pirate."}, {"system": "You are a pirate."}), "x", "choice") == (
        "You are a pirate.",
    )


@pytest.mark.parametrize("said", [("sad", "joyful"), ("sad", None), (None, None), (1, 1)])
def test_a_column_on_which_rows_differ_or_that_is_no_text_says_nothing(said: tuple[object, object]) -> None:
    assert described(rows(*({"trait": one} for one in said)), "x", "choice") == ()


def test_the_prompts_travel_with_data_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("prompt,chosen,rejected,trait\nHow?,Arr,Well,piracy\nWhy?,Aye,Since,piracy\n", encoding="utf-8")
    assert load_examples(path).described == ("You show this behaviour: piracy.", "You show this behaviour: mine.")
