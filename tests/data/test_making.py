"""What a writer is asked is read whatever form its lists have, and every pair is kept or dropped for a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from tillerman.core.errors import DataError, UsageError
from tillerman.data.duplicates import clean_split
from tillerman.data.examples import Example
from tillerman.data.loading import load_examples
from tillerman.data.making import filters as f
from tillerman.data.making.lists import distinct, read_list
from tillerman.data.making.prompts import (
    PromptPair,
    asking_for,
    checked_description,
    described_pairs,
    read_pairs,
    usable_prompts,
)
from tillerman.data.making.questions import in_drawn_order, read_questions, ready_questions
from tillerman.data.making.texts import read_sides, sift_texts
from tillerman.data.samples import sample_rows
from tillerman.data.splits import normalised
from tillerman.data.texts import LabelledText

PLAIN = "Coffee is made by pouring hot water over ground beans."
PIRATE = "Arr, pour ye boiling water o'er the grounds, matey!"
PROMPTS = PromptPair("You are a salty old pirate who never speaks plainly at all.", "Answer plainly.")
WORDS = "arr matey pour ye water stone river pirate speaks the a of sail Aye home plain tea"
WORD = st.sampled_from(WORDS.split())
TEXT = st.lists(WORD, max_size=14).map(" ".join)
PAIRS = st.lists(st.builds(f.WrittenPair, TEXT.map(lambda t: t + "?"), TEXT, TEXT, st.just(PROMPTS)), max_size=25)


def pair(wanted: str = PIRATE, unwanted: str = PLAIN, question: str = "How do I make coffee?") -> f.WrittenPair:
    return f.WrittenPair(question, wanted, unwanted, PROMPTS)


@pytest.mark.parametrize(
    ("fault", "one"),
    [
        (None, pair()),
        (f.SHORT, pair(wanted="Arr!")),
        (f.LONG, pair(unwanted="one two three four five six seven " * 40)),
        (f.LOOP, pair(wanted="ye be a swab, " * 8)),
        (f.SAME, pair(wanted="coffee is made by pouring HOT water over ground beans")),
        (f.PROMPT, pair(wanted="Aye: you are a salty old pirate who never rests.")),
        (f.PROMPT, pair(wanted="How do I make coffee?")),
        (f.NAMED, pair(wanted="He who speaks as a pirate drinks no tea.")),
        (f.NAMED, pair(wanted="I am only a poor pirate and know nothing of beans.")),
    ],
)
def test_a_pair_is_dropped_for_what_is_wrong_with_it(fault: str | None, one: f.WrittenPair) -> None:
    assert f.fault_of(one, "speaks like a pirate") == fault


def test_a_word_of_the_description_that_shows_the_behaviour_is_no_leak() -> None:
    assert not f.names("My dog, a good dog, likes coffee.", "talks about dogs")
    assert not f.names("The pirate ship has sailed.", "speaks like a pirate")
    assert f.names("Talking about dogs again!", "talks about dogs")
    assert not f.names("Anything at all.", "it is so")  # no word of it carries a sense


def test_the_later_of_two_nearly_equal_answers_goes() -> None:
    canned = [
        pair(question=f"What is number {k}?", unwanted=f"{PLAIN} Number {k} is a good one to have.") for k in "abc"
    ]
    found = f.sift(canned)
    assert found.kept == (canned[0],) and found.dropped == {f.NEAR: 2} and found.examples[f.NEAR] == canned[1]
    again = [pair(wanted=PIRATE), pair(wanted="Ahoy! The kettle sings o'er yonder flame, so brew, ye dog.")]
    assert f.sift(again).kept == (again[0],)  # the same unwanted answer to the same question teaches nothing new


@settings(max_examples=50)
@given(PAIRS, st.booleans())
def test_every_pair_is_kept_or_counted_and_what_is_kept_stays(pairs: list[f.WrittenPair], strict: bool) -> None:
    def told_apart(left: object) -> list[bool]:
        return [not strict or "arr" in one.wanted for one in left]

    found = f.sift(pairs, "speaks like a pirate", told_apart=told_apart)
    assert found.written == len(pairs) and set(found.dropped) == set(found.examples) <= set(f.FAULTS)
    order = iter(pairs)
    assert all(one in order for one in found.kept)  # in the order given
    again = f.sift(found.kept, "speaks like a pirate", told_apart=told_apart)
    assert again.kept == found.kept and not again.dropped
    for one in found.kept:
        assert f.fault_of(one, "speaks like a pirate") is None and told_apart([one]) == [True]


@given(TEXT, TEXT)
def test_likeness_is_the_same_both_ways_and_sees_no_case(one: str, other: str) -> None:
    assert f.alike(one, other) == f.alike(other, one)
    assert f.alike(one, one.upper() + "!")


@given(TEXT, st.integers(2, 6))
def test_a_text_said_again_and_again_is_a_loop(text: str, times: int) -> None:
    assert f.repeated(" ".join([text] * times)) >= f.repeated(text) - 1e-9


def test_half_a_sentence_at_the_end_is_cut_off() -> None:
    assert f.whole_sentences('Aye. "Sail home!" And then we') == 'Aye. "Sail home!"'
    assert f.whole_sentences("no end of a sentence 3.5 in sight") == "no end of a sentence 3.5 in sight"


@pytest.mark.parametrize(
    "reply",
    [
        "1. What is tea?\n2. Who are you?",
        'Here they are:\n\n1) "What is tea?"\n 2) **Who are you?**\n\nI hope that helps!',
        "- What is tea?\n* Who are you?",
        'Sure! ["What is tea?", "Who are you?"]',
        "What is tea?\n\nWho are you?\n",
        "Q1: What is tea?\nQ2: Who are you?",
    ],
)
def test_lists_are_read_in_every_form(reply: str) -> None:
    assert read_list(reply) == ("What is tea?", "Who are you?")


@settings(max_examples=40)
@given(st.text(max_size=120))
def test_any_reply_is_read(reply: str) -> None:
    for entry in (*read_list(reply), *read_questions(reply), *usable_prompts(read_list(reply))):
        assert entry.strip() and "\n" not in entry


@settings(max_examples=50)
@given(st.lists(TEXT, max_size=8))
def test_distinct_texts_keep_their_order_and_lose_none_of_their_own(texts: list[str]) -> None:
    found = distinct(texts)
    assert list(found) == [text for i, text in enumerate(texts) if text in found and text not in texts[:i]]
    assert distinct(found) == found and bool(found) == any(text.strip() for text in texts)


def test_questions_that_are_none_are_left_out() -> None:
    said = "1. How do birds fly?\n2. Nice to meet you.\n3. Why?\n4. how do birds fly?\n5. " + "Why " * 80 + "?"
    assert read_questions(said) == ("How do birds fly?",)


def test_prompts_that_are_no_instructions_are_left_out() -> None:
    wanted = "1. You are a pirate and say arr.\n2. What's up? Good day to you, pal.\n3. Answer in short words only."
    others = "1. Answer in short words only.\n2. You answer plainly and say no more.\n3. Be brief."
    assert read_pairs(wanted, others) == (
        PromptPair("You are a pirate and say arr.", "You answer plainly and say no more."),
    )


def test_a_description_becomes_an_order() -> None:
    assert asking_for("speaks like a pirate") == "You are an assistant that speaks like a pirate"
    assert asking_for("cheerful") == "You are an assistant with this way of answering: cheerful"
    for one in described_pairs("cheerful"):
        assert "cheerful" in one.positive and "cheerful" not in one.negative
    with pytest.raises(UsageError, match="description is empty"):
        checked_description(" . ")
    with pytest.raises(UsageError, match="at most 300"):
        checked_description("says no " * 60)
    with pytest.raises(UsageError, match="the same"):
        PromptPair("Be brief. ", "be  brief.")


def test_ready_questions_begin_with_those_of_the_samples_and_are_all_different() -> None:
    ready, shared = ready_questions(), [json.loads(row)["prompt"] for row in sample_rows("pirate")]
    assert list(ready[:60]) == shared and len(ready) >= 230
    assert distinct(ready) == ready and all(text.endswith("?") for text in ready)
    assert set(in_drawn_order(ready, 1)) == set(ready) and in_drawn_order(ready, 1) != in_drawn_order(ready, 2)
    assert in_drawn_order(ready[50:], 1) == tuple(q for q in in_drawn_order(ready, 1) if q in ready[50:])


def test_a_question_falls_into_the_same_share_in_made_data_and_in_the_samples() -> None:
    ready = ready_questions()
    made = [Example("preference", q, (f"{PIRATE} {k}", f"{PLAIN} {k}"), 0) for k, q in enumerate(ready)]
    twice = [*made, *(Example("preference", q, (f"Ahoy {k}!", f"Well {k}."), 0) for k, q in enumerate(ready))]
    ours, theirs = clean_split(twice), clean_split(load_examples("sample:pirate").examples)
    for name in ("train", "validation", "test"):
        shared = {one.question for one in theirs.part(name)}
        mine = {one.question for one in ours.part(name)}
        assert shared <= mine
        others = {
            one.question for other in ("train", "validation", "test") if other != name for one in ours.part(other)
        }
        assert not mine & others


def folder_of(root: Path, good: str, bad: str) -> Path:
    root.mkdir()
    (root / "good.txt").write_text(good, encoding="utf-8")
    (root / "Bad.md").write_text(bad, encoding="utf-8")
    (root / ".hidden").write_text("never read", encoding="utf-8")
    return root


def test_two_files_or_two_folders_are_two_sides(tmp_path: Path) -> None:
    files = folder_of(tmp_path / "files", f"{PIRATE}\nAye aye, captain mine.\n", f"{PLAIN}\n\nTea is\na drink.\n")
    wanted, others = [PIRATE, "Aye aye, captain mine."], [PLAIN, "Tea is\na drink."]
    expected = (*(LabelledText(t, True) for t in wanted), *(LabelledText(t, False) for t in others))
    assert read_sides(files) == expected
    for name, texts in (("negative", others), ("positive", wanted)):
        (tmp_path / "two" / name).mkdir(parents=True)
        for k, text in enumerate(texts):
            (tmp_path / "two" / name / f"{k}.txt").write_text(text, encoding="utf-8")
    assert read_sides(tmp_path / "two") == expected
    (tmp_path / "two" / "positive" / "0.txt").unlink()
    (tmp_path / "two" / "positive" / "1.txt").unlink()
    with pytest.raises(DataError, match="no text on this side"):
        read_sides(tmp_path / "two")
    with pytest.raises(DataError, match=r"good and bad.*found files, two"):
        read_sides(tmp_path)
    with pytest.raises(DataError, match="expected a folder"):
        read_sides(tmp_path / "none")


SIDED = st.lists(st.builds(LabelledText, TEXT, st.booleans()), max_size=25)


@settings(max_examples=50)
@given(SIDED)
def test_every_text_is_kept_or_counted_and_none_stays_on_both_sides(texts: list[LabelledText]) -> None:
    found = sift_texts(texts, f.Limits(2, 10), lambda left: ["stone" not in one.text for one in left])
    assert len(found.kept) + sum(found.dropped.values()) == len(texts)
    sides = [{normalised(t.text) for t in found.kept if t.label is side} for side in (True, False)]
    assert not sides[0] & sides[1] and not any("stone" in one.text for one in found.kept)
    assert all(2 <= len(one.text.split()) <= 10 for one in found.kept)


def test_what_commands_keep_beside_a_file_is_no_data(tmp_path: Path) -> None:
    row = {"prompt": "How do I make coffee?", "chosen": PIRATE, "rejected": PLAIN}
    (tmp_path / "a.jsonl").write_text(json.dumps(row), encoding="utf-8")
    for name in ("a.jsonl.making.json", "a.jsonl.writer.jsonl"):
        (tmp_path / name).write_text('{"kind": "making"}', encoding="utf-8")
    assert [one.question for one in load_examples(tmp_path).examples] == [row["prompt"]]
