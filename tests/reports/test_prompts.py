"""What is said of the prompt baseline: the text taken and all that were tried, or that nothing compares with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.evidence import PromptTrial
from tillerman.reports import sentences as said
from tillerman.reports.evaluation import account, conditions_table, details_table
from tillerman.reports.overview import account as overview
from tillerman.reports.prompts import absent_row, prompt_words
from tillerman.reports.summary import summary

from .example_log import example_log

TAKEN = PromptTrial("Answer as a considerate assistant would.", "written by the model", 0.63)
OTHER, NONE = PromptTrial("Be kind.", "made of the data", 0.5), PromptTrial("", "no prompt", 0.34)
SEARCHED = replace(example_log(), prompts=(TAKEN, OTHER, NONE), seconds_for_prompt=4.26)


def without(log: EvaluationLog, **changes: object) -> EvaluationLog:
    return replace(log, conditions=tuple(c for c in log.conditions if c.name not in ("prompt", "both")), **changes)


def test_the_text_taken_its_origin_and_the_cost_of_its_search_are_said() -> None:
    assert prompt_words(SEARCHED) == (
        'Prompt baseline: "Answer as a considerate assistant would." (written by the model, the best of 2 on '
        "validation items in 4.3 s)."
    )
    assert prompt_words(SEARCHED) in account(SEARCHED).sentences


def test_all_that_were_tried_stand_in_the_details() -> None:
    tried = [row for row in details_table(SEARCHED).rows if row[0] == "Prompt tried"]
    assert [row[1] for row in tried] == [
        "63 % of validation items right, written by the model: Answer as a considerate assistant would.",
        "50 % of validation items right, made of the data: Be kind.",
        "34 % of validation items right, no prompt",
    ]


def test_a_prompt_that_was_given_was_not_searched_for() -> None:
    given = replace(example_log(), prompts=(PromptTrial("Be kind.", "given"),))
    assert prompt_words(given) == 'Prompt baseline: "Be kind." (given).'
    assert not [row for row in details_table(given).rows if row[0] == "Prompt tried"]


def test_a_long_prompt_is_cut_in_the_sentence_and_whole_in_the_details() -> None:
    long = replace(SEARCHED, prompts=(replace(TAKEN, text="arr " * 100),))
    assert len(prompt_words(long)) < 300 and "arr …" in prompt_words(long)
    assert any(("arr " * 100).strip() in row[1] for row in details_table(long).rows)


@pytest.mark.parametrize(
    ("prompts", "row"),
    [
        ((), "Prompt baseline: no fair prompt was given"),
        ((NONE, OTHER), "Prompt baseline: no prompt tried does better than none"),
    ],
)
def test_without_a_usable_prompt_the_row_says_so_and_no_sentence_compares(
    prompts: tuple[PromptTrial, ...], row: str
) -> None:
    log = without(SEARCHED, prompts=prompts)
    assert absent_row(log) == row
    assert [one[0] for one in conditions_table(log).rows][-1] == row
    assert not any("rompt" in words for words in (said.headline(log), said.comparison(log), *said.cautions(log)))
    assert said.comparison(log).startswith("The few-shot baseline reached 67 %.")
    assert "so steering is compared with none; give one with --prompt" in prompt_words(log)
    assert summary(log)["prompt_baseline"] is None and summary(log)["prompt"] is None
    assert overview([log]).tables[0].rows[0][3] == ""


def test_with_one_it_is_compared() -> None:
    assert absent_row(SEARCHED) == ""
    assert said.comparison(SEARCHED).startswith("The prompt baseline reached 61 % and the few-shot baseline 67 %.")
    assert summary(SEARCHED)["prompt"] == TAKEN.text and len(summary(SEARCHED)["prompts"]) == 3


def test_logs_of_before_prompts_were_searched_for_say_nothing_new() -> None:
    assert prompt_words(example_log()) == "" == absent_row(example_log())
