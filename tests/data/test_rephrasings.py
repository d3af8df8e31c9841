"""The same items asked in other ways: the right answer stays right, and nothing is drawn twice."""

from __future__ import annotations

import pytest

from tillerman.data.examples import Example
from tillerman.data.presenting import Item, present, turned
from tillerman.data.rephrasings import after_instruction, shifts_of

GARBLED = "other characters"
ASKED = "Is the following statement something you would say?"
YES_NO = [
    Example(
        "yes_no", f'Is the following statement something you would say?\n"I like {{rule}} {i}"', ("Yes", "No"), i % 2
    )
    for i in range(30)
]
CHOICE = [Example("choice", f"Which of {{these}} is number {i}?", ("one", "two", "three"), i % 3) for i in range(30)]


def meaning(item: Item) -> str:
    return item.texts[item.right]


@pytest.mark.parametrize(("kind", "examples"), [("yes_no", YES_NO), ("choice", CHOICE)])
def test_a_shift_keeps_the_right_answer_and_changes_the_prompt(kind: str, examples: list[Example]) -> None:
    items = present(examples)
    shifts = {s.name: s for s in shifts_of(kind, chat=True, filler="Some {text} of no import.")}
    for name in ("reworded", "longer question", "after a long context", "in a role", "another language", GARBLED):
        changed = shifts[name].items(items)
        assert [meaning(item) for item in changed] == [meaning(item) for item in items]
        assert [item.texts for item in changed] == [item.texts for item in items]
        assert all(a.prompt != b.prompt for a, b in zip(items, changed, strict=True))
    assert "Some {text} of no import." in shifts["after a long context"].items(items)[0].prompt
    if kind == "choice":
        lists = [item.prompt.splitlines()[-5:] for item in items]
        assert all(
            [item.prompt.splitlines()[-5:] for item in s.items(items)] == lists
            for s in shifts.values()
            if s.name != "as yes/no"
        )
    body = "{rule} 3" if kind == "yes_no" else "{these} is number 3?"
    assert all(body in s.items(items)[3].prompt for s in shifts.values() if s.name != GARBLED)


def test_a_reworded_persona_question_is_asked_with_other_words_and_keeps_its_statement() -> None:
    items = present(YES_NO)
    reworded = next(s for s in shifts_of("yes_no", chat=False) if s.name == "reworded").items(items)
    assert not any("Is the following statement" in item.prompt for item in reworded)
    assert len({item.prompt.splitlines()[0] for item in reworded}) > 2
    assert all(f"rule}} {i}" in item.prompt for i, item in enumerate(reworded))


def test_other_characters_are_capitals_digits_for_letters_or_no_spaces_and_leave_the_answers() -> None:
    items = present(CHOICE)
    garbled = next(s for s in shifts_of("choice", chat=False) if s.name == GARBLED).items(items)
    ways = {
        "capitals": lambda text: text.upper(),
        "digits": lambda text: text.translate(str.maketrans("aeiosth", "43105th".replace("th", "7h"))),
        "no spaces": lambda text: text.replace(" ", "_"),
    }
    found = set()
    for item, was in zip(garbled, items, strict=True):
        question = item.prompt.splitlines()[0]
        found |= {name for name, way in ways.items() if way(was.example.question)[:12] == question[:12]}
        assert item.answers == was.answers and item.prompt.splitlines()[1:] == was.prompt.splitlines()[1:]
    assert found == set(ways)


def test_a_choice_becomes_a_yes_or_no_about_one_option() -> None:
    items = present(CHOICE)
    asked = next(s for s in shifts_of("choice", chat=False) if s.name == "as yes/no").items(items)
    for item, was in zip(asked, items, strict=True):
        proposed = item.prompt.split("Proposed answer: ")[1].splitlines()[0]
        assert (meaning(item) == "Yes") == (proposed == meaning(was))
    assert 5 < sum(meaning(item) == "Yes" for item in asked) < 25


def test_a_yes_or_no_becomes_a_lettered_choice() -> None:
    asked = shifts_of("yes_no", chat=False)[0].items(present(YES_NO))
    assert all(item.answers == ("A", "B") for item in asked)
    assert [meaning(item) for item in asked] == [meaning(item) for item in present(YES_NO)]


def test_texts_have_no_other_way_of_asking_and_turns_want_a_chat() -> None:
    assert shifts_of("text", chat=True) == ()
    assert "second turn" not in {s.name for s in shifts_of("yes_no", chat=False)}
    assert "after a long context" not in {s.name for s in shifts_of("yes_no", chat=True)}


def test_turning_shows_every_item_with_its_right_answer_at_every_other_letter() -> None:
    items = present(CHOICE)
    others = turned(items)
    assert len(others) == 2 * len(items)
    for k, item in enumerate(items):
        mine = others[2 * k : 2 * k + 2]
        assert {item.right, *(other.right for other in mine)} == {0, 1, 2}
        assert {meaning(item)} == {meaning(other) for other in mine}
        assert all(f"{other.answers[other.right]}: {meaning(item)}" in other.prompt for other in mine)


def test_the_order_of_the_data_can_be_kept() -> None:
    assert {item.texts for item in present(CHOICE, keep_order=True)} == {("one", "two", "three")}
    assert len({item.texts for item in present(CHOICE)}) > 3


def test_an_instruction_stands_before_the_question_and_changes_no_option() -> None:
    example = Example("choice", "Which {one}?", ("this", "that"), 0)
    (item,) = present([example])
    (told,) = after_instruction([item], "You are kind.")
    assert told.prompt.startswith("You are kind.\n\nWhich {one}?")
    assert (told.texts, told.answers, told.right) == (item.texts, item.answers, item.right)
