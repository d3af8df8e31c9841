"""Prompts made of training items, and what becomes of what a model writes."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from tillerman.data.examples import Example
from tillerman.data.presenting import Item, present
from tillerman.data.prompt_candidates import (
    LONGEST_INSTRUCTION,
    LONGEST_QUOTE,
    SHOWN,
    InstructionRequest,
    distinct,
    instruction,
    quoting,
    requests,
)

PIRATE = present([Example("preference", f"Question {k}?", (f"Arr, {k} it be.", f"It is {k}."), 0) for k in range(9)])
SCIENCE = present(
    [
        Example("yes_no", f'Would you say this?\n"{word} matter to me"', ("Yes", "No"), wanted)
        for word, wanted in (("Facts", 0), ("Stars", 0), ("Atoms", 0), ("Omens", 1), ("Spells", 1), ("Curses", 1))
    ]
)
TRUTH = present([Example("yes_no", f"Is claim {k} true?", ("Yes", "No"), k % 2) for k in range(8)])
CHOICE = present([Example("choice", f"Which {k}?", (f"kind {k}", f"cruel {k}", f"dull {k}"), 0) for k in range(8)])
OPEN = present([Example("open", f"What is {k} + 1?", (f"{k + 1}",), 0) for k in range(8)])
TEXTS = present([Example("text", "", (f"Joy {k}", f"Sorrow {k}"), 0) for k in range(8)])


def test_preferences_are_quoted_by_their_wanted_answers_alone() -> None:
    few, more = quoting(PIRATE)
    assert few.startswith("Answer in the style of these examples:\n- Arr, ")
    assert (few.count("Arr, "), more.count("Arr, ")) == (2, 6)
    assert "It is" not in few + more


def test_statements_become_what_a_person_agrees_with_and_what_not() -> None:
    _, all_of_them = quoting(SCIENCE)
    agreed, refused = all_of_them.split("\nYou do not agree with this:\n")
    assert agreed.startswith("You are someone who agrees with this:\n- ")
    assert {"Facts matter to me", "Stars matter to me", "Atoms matter to me"} == set(agreed.split("\n- ")[1:])
    assert "Omens matter to me" in refused
    assert "Would you say" not in all_of_them


def test_questions_without_a_statement_are_quoted_with_their_answer() -> None:
    _, all_of_them = quoting(TRUTH)
    yes, no = all_of_them.split("\nYou answer 'No' to questions like these:\n")
    assert yes.startswith("You answer 'Yes' to questions like these:\n- Is claim")
    assert {int(word) % 2 for word in yes.split() if word.isdigit()} == {0}
    assert {int(word) % 2 for word in no.split() if word.isdigit()} == {1}


def test_choices_are_quoted_by_what_to_choose_and_what_not() -> None:
    few, _ = quoting(CHOICE)
    wanted, other = few.split("\nDo not choose answers like these:\n")
    assert wanted.count("kind") == 2 and "kind" not in other and other.count("- ") == 2


def test_yes_and_no_shown_as_letters_are_still_statements() -> None:
    lettered = present(
        [Example("choice", item.example.question, ("Yes", "No"), item.example.answer) for item in SCIENCE]
    )
    assert quoting(lettered) == quoting(SCIENCE)


@pytest.mark.parametrize("items", [TEXTS, ()])
def test_texts_and_nothing_give_no_prompt(items: tuple[Item, ...]) -> None:
    assert quoting(items) == () and requests(items, 4) == ()


@pytest.mark.parametrize("items", [PIRATE, SCIENCE, TRUTH, CHOICE, OPEN])
def test_the_same_seed_makes_the_same_prompts_and_another_one_others(items: tuple[Item, ...]) -> None:
    assert quoting(items, 3) == quoting(items, 3) and requests(items, 4, 3) == requests(items, 4, 3)
    assert quoting(items, 3) != quoting(items, 4) and requests(items, 4, 3) != requests(items, 4, 4)


@pytest.mark.parametrize("items", [PIRATE, SCIENCE, TRUTH, CHOICE, OPEN])
def test_a_model_is_shown_items_with_their_answers_and_asked_for_an_instruction(items: tuple[Item, ...]) -> None:
    asked = requests(items, 4)
    assert len(asked) == 4 == len(set(asked))
    for one in asked:
        shown = [item for item in items if item.example.options[item.example.answer] in one.ask]
        assert len(shown) >= min(SHOWN, len(items))
        assert "one short" in one.ask


def test_long_answers_are_cut_after_a_word() -> None:
    long = present([Example("preference", f"Q{k}?", ("arr " * 200 + str(k), "no"), 0) for k in range(3)])
    for line in quoting(long)[0].splitlines()[1:]:
        assert len(line) <= LONGEST_QUOTE + 4 and line.endswith("arr …")


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Talk like a pirate.", "Talk like a pirate."),
        ('"Talk like a pirate."', "Talk like a pirate."),
        ("Instruction: Talk like a pirate.", "Talk like a pirate."),
        ("**System prompt:** Talk like a pirate.", "Talk like a pirate."),
        ("Talk like a pirate. Say arr. And then you sho", "Talk like a pirate. Say arr."),
        ("Talk like a pirate of old", "Talk like a pirate of old"),
        ("Talk like\na pirate.\n\nHere is why: pirates", "Talk like a pirate."),
        ("Yes", ""),
        ("", ""),
        ("1. 2. 3.", ""),
        ("\n\n", ""),
    ],
)
def test_what_a_model_writes_becomes_an_instruction_or_nothing(said: str, kept: str) -> None:
    assert instruction(said) == kept


@given(st.text())
def test_any_reply_becomes_one_line_of_bounded_length(said: str) -> None:
    found = instruction(said)
    assert len(found) <= LONGEST_INSTRUCTION and "\n" not in found


def test_a_reply_goes_on_from_its_opening() -> None:
    opened = InstructionRequest("Who?", opening="You are someone who")
    assert opened.prompt(" likes stars.") == "You are someone who likes stars."
    styled = InstructionRequest("How?", before="Answer in this style:")
    assert styled.prompt("Short and rude words.") == "Answer in this style: Short and rude words."
    assert styled.prompt("") == ""


def test_prompts_that_read_alike_are_tried_once_and_the_first_so_many_are_kept() -> None:
    found = distinct([("Be kind.", "a"), ("be  KIND.", "b"), ("", "c"), ("Be dull.", "d"), ("Be rude.", "e")], 2)
    assert found == (("Be kind.", "a"), ("Be dull.", "d"))
