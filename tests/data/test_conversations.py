"""Conversations as they are published: what is the prompt, what was said before, what are the answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tillerman.core.errors import DataError
from tillerman.data.duplicates import clean_split
from tillerman.data.examples import Example
from tillerman.data.loading import load_examples
from tillerman.data.turns import Turn


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


SYSTEM = {"role": "system", "content": "Be kind."}
BEFORE = (Turn("user", "Hi"), Turn("assistant", "Hello."))
SAID = [user("Hi"), assistant("Hello.")]
GOOD, BAD = assistant("Lovely."), assistant("Dreadful.")

# What is published -> (layout, history); the question is always "How is it?", the answers Lovely and Dreadful.
SAME: dict[str, tuple[dict[str, Any], str, tuple[Turn, ...]]] = {
    "explicit prompt": ({"prompt": [user("How is it?")], "chosen": [GOOD], "rejected": [BAD]}, "preference", ()),
    "explicit prompt of several turns, with a system prompt": (
        {"prompt": [SYSTEM, *SAID, user("How is it?")], "chosen": [GOOD], "rejected": [BAD]},
        "preference",
        (Turn("system", "Be kind."), *BEFORE),
    ),
    "implicit prompt": (
        {"chosen": [*SAID, user("How is it?"), GOOD], "rejected": [*SAID, user("How is it?"), BAD]},
        "preference-conversations",
        BEFORE,
    ),
    "prompt as text beside whole conversations (UltraFeedback, binarised)": (
        {
            "prompt": "How is it?",
            "prompt_id": "x",
            "chosen": [user("How is it?"), GOOD],
            "rejected": [user("How is it?"), BAD],
            "messages": [user("How is it?"), GOOD],
            "score_chosen": 8.0,
            "score_rejected": 3.0,
        },
        "preference",
        (),
    ),
    "prompt as text, answers as one message each": (
        {"prompt": "How is it?", "chosen": GOOD, "rejected": BAD},
        "preference",
        (),
    ),
    "answers as text after messages": (
        {"prompt": [*SAID, user("How is it?")], "chosen": "Lovely.", "rejected": "Dreadful."},
        "preference",
        BEFORE,
    ),
    "messages written out by a table": (
        {
            "prompt": json.dumps([user("How is it?")]),
            "chosen": str([GOOD]),
            "rejected": json.dumps([BAD]),
        },
        "preference",
        (),
    ),
    "content in parts": (
        {
            "prompt": [{"role": "user", "content": [{"type": "text", "text": "How is it?"}]}],
            "chosen": [GOOD],
            "rejected": [BAD],
        },
        "preference",
        (),
    ),
    "transcripts (hh-rlhf)": (
        {
            side: f"\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: How is it?\n\nAssistant: {reply}"
            for side, reply in (("chosen", "Lovely."), ("rejected", "Dreadful."))
        },
        "preference-conversations",
        BEFORE,
    ),
    "transcript as prompt": (
        {
            "prompt": "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: How is it?\n\nAssistant:",
            "chosen": "Lovely.",
            "rejected": "Dreadful.",
        },
        "preference",
        BEFORE,
    ),
    "ShareGPT": (
        {
            "conversations": [
                {"from": "human", "value": "Hi"},
                {"from": "gpt", "value": "Hello."},
                {"from": "human", "value": "How is it?"},
            ],
            "chosen": {"from": "gpt", "value": "Lovely."},
            "rejected": {"from": "gpt", "value": "Dreadful."},
        },
        "preference-messages",
        BEFORE,
    ),
    "OpenAI": (
        {
            "input": {"messages": [*SAID, user("How is it?")], "tools": [], "parallel_tool_calls": True},
            "preferred_output": [GOOD],
            "non_preferred_output": [BAD],
        },
        "preference-openai",
        BEFORE,
    ),
    "Orca pairs": (
        {"system": "Be kind.", "question": "How is it?", "chosen": "Lovely.", "rejected": "Dreadful."},
        "preference",
        (Turn("system", "Be kind."),),
    ),
    "Orca pairs without a system prompt": (
        {"system": "", "question": "How is it?", "chosen": "Lovely.", "rejected": "Dreadful."},
        "preference",
        (),
    ),
    "Alpaca with earlier pairs": (
        {
            "instruction": "How is it?",
            "input": "",
            "history": [["Hi", "Hello."]],
            "chosen": "Lovely.",
            "rejected": "Dreadful.",
        },
        "preference-instruction",
        BEFORE,
    ),
    "UltraFeedback as rated": (
        {
            "instruction": "How is it?",
            "completions": [
                {"response": "So so.", "overall_score": 5.0},
                {"response": "Dreadful.", "overall_score": 1.0},
                {"response": "Lovely.", "overall_score": 9.0},
            ],
        },
        "ultrafeedback",
        (),
    ),
    "NeMo-RL, ranked": (
        {
            "context": [*SAID, user("How is it?")],
            "completions": [{"rank": 1, "completion": [BAD]}, {"rank": 0, "completion": [GOOD]}],
        },
        "ranked",
        BEFORE,
    ),
    "instruction and two sides": (
        {"instruction": "How is it?", "positive": "Lovely.", "negative": "Dreadful."},
        "prompted-pair",
        (),
    ),
}


@pytest.mark.parametrize("form", SAME)
def test_every_published_form_of_a_preference_is_read_as_the_same_item(form: str) -> None:
    row, layout, history = SAME[form]
    loaded = load_examples([row])
    assert loaded.layout == layout
    assert loaded.examples == (Example("preference", "How is it?", ("Lovely.", "Dreadful."), 0, history=history),)


def test_the_input_of_an_instruction_stays_with_it() -> None:
    row = {"instruction": "Shorten.", "input": "A long text.", "chosen": "Text.", "rejected": "No."}
    assert load_examples([row]).examples[0].question == "Shorten.\nA long text."


KTO = [
    {"prompt": "How?", "completion": "Gladly.", "label": True},
    {"prompt": "How?", "completion": "Never.", "label": False},
    {"prompt": "Who?", "completion": "Me.", "label": True},
]


def test_replies_with_a_label_are_paired_under_their_own_prompt() -> None:
    loaded = load_examples(KTO)
    assert loaded.layout == "kto"
    assert loaded.examples == (Example("preference", "How?", ("Gladly.", "Never."), 0),)
    assert any("1 texts without a partner" in note for note in loaded.skipped)


def test_a_conversation_with_a_label_is_paired_with_another_end_of_the_same_conversation() -> None:
    rows = [
        {"conversations": [*SAID, user("How?"), assistant("Gladly.")], "kto_tag": True},
        {"conversations": [*SAID, user("How?"), assistant("Never.")], "kto_tag": False},
    ]
    loaded = load_examples(rows)
    assert loaded.layout == "labelled-messages"
    assert loaded.examples == (Example("preference", "How?", ("Gladly.", "Never."), 0, history=BEFORE),)


def test_replies_of_one_kind_per_prompt_give_no_pair_and_advice_that_works() -> None:
    rows = [{"prompt": f"Q{i}?", "completion": f"reply {i}", "label": i % 2 == 0} for i in range(40)]
    with pytest.raises(DataError, match="no prompt has both") as caught:
        load_examples(rows)
    assert "--layout labelled-text --columns text=completion,label=label" in str(caught.value)
    columns = {"text": "completion", "label": "label"}
    assert load_examples(rows, layout="labelled-text", columns=columns).examples


@pytest.mark.parametrize("name", ["messages", "conversations"])
def test_a_conversation_without_a_label_is_an_open_question_with_what_was_said_before(name: str) -> None:
    example = load_examples([{name: [*SAID, user("How much?"), assistant("7")]}]).examples[0]
    assert example == Example("open", "How much?", ("7",), 0, history=BEFORE)


FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "another prompt": (
        {"prompt": "Where?", "chosen": [user("How?"), GOOD], "rejected": [user("How?"), BAD]},
        "prompt",
        "two prompts are given",
    ),
    "another prompt in messages": (
        {"prompt": [user("Where?")], "chosen": [user("How?"), GOOD], "rejected": [user("How?"), BAD]},
        "prompt",
        "two prompts are given",
    ),
    "another system prompt": (
        {"system": "Be rude.", "prompt": [SYSTEM, user("How?")], "chosen": [GOOD], "rejected": [BAD]},
        "system",
        "another system prompt",
    ),
    "conversations that part early": (
        {"chosen": [user("How?"), GOOD, user("Why?"), GOOD], "rejected": [user("How?"), BAD, user("Why?"), BAD]},
        "chosen",
        "the same up to the last answer",
    ),
    "a prompt that ends with the assistant": (
        {"prompt": [user("How?"), GOOD], "chosen": [GOOD], "rejected": [BAD]},
        "prompt",
        "ends with assistant",
    ),
    "two users in a row": (
        {"prompt": [user("How?"), user("How?")], "chosen": [GOOD], "rejected": [BAD]},
        "prompt",
        "in turn",
    ),
    "a tool": (
        {"prompt": [{"role": "tool", "content": "3"}], "chosen": [GOOD], "rejected": [BAD]},
        "prompt",
        "'tool'",
    ),
    "a picture": (
        {"prompt": [{"role": "user", "content": [{"type": "image"}]}], "chosen": [GOOD], "rejected": [BAD]},
        "prompt",
        "no text",
    ),
    "a rating that is no number": (
        {"instruction": "How?", "completions": [{"response": r, "overall_score": 10**400} for r in "ab"]},
        "completions",
        "expected a number",
    ),
    "one text and one conversation": (
        {"prompt": "How?", "chosen": "Good", "rejected": [BAD]},
        "rejected",
        "one of each",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_conversation_that_does_not_fit_is_an_error_of_its_field(fault: str) -> None:
    row, field, words = FAULTS[fault]
    good = {"prompt": [user("How?")], "chosen": [GOOD], "rejected": [BAD]}
    rows = [row] if "prompt" not in row else [good, row]
    with pytest.raises(DataError, match=words) as caught:
        load_examples(rows)
    assert caught.value.field == field
    if len(rows) == 2:
        assert len(load_examples(rows, skip_bad_rows=True).examples) == 1


def test_the_same_last_question_after_other_talk_is_another_item() -> None:
    rows = [
        {"prompt": [user(f"Topic {i}"), assistant("Yes."), user("Go on.")], "chosen": "a b c", "rejected": "d e f"}
        for i in range(40)
    ]
    split = clean_split(load_examples(rows).examples)
    assert split.repeated == 0 and split.train and split.test
    assert len({e.id for e in load_examples(rows).examples}) == 40
