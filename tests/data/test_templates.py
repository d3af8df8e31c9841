"""Templates that let a model think: scored answers follow an empty thought, written replies follow what the template
opens, and arguments of a template's own reach it or are refused."""

from __future__ import annotations

import re

import pytest

from tillerman.cli.values import arguments_of
from tillerman.core.errors import UsageError
from tillerman.data.examples import Example
from tillerman.data.marked_scopes import after_instruction
from tillerman.data.presenting import present
from tillerman.data.templates import with_empty_thought
from tillerman.data.writing import make_writer

from .. import tiny

OPENS = tiny.CHAT.replace("<|assistant|>\n{% endif %}", "<|assistant|>\n<think>\n{% endif %}")
BRACKETS = tiny.CHAT.replace("<|assistant|>\n{% endif %}", "<|assistant|>\n[THINK]{% endif %}")
SWITCHED = tiny.CHAT.replace(
    "<|assistant|>\n{% endif %}",
    "<|assistant|>\n{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}",
)
EFFORT = "Effort: {{ reasoning_effort | default('high') }}\n" + tiny.CHAT
START = "<|user|>\nIs it?<|end|>\n<|assistant|>\n"


def _writer(chat, **arguments):
    return make_writer(tiny.new_tokenizer(chat), "auto", arguments)


@pytest.mark.parametrize(
    ("chat", "empty", "opened"),
    [
        (OPENS, "<think>\n\n</think>\n\n", "<think>\n"),
        (BRACKETS, "[THINK]\n\n[/THINK]\n\n", "[THINK]"),
        (SWITCHED, "<think>\n\n</think>\n\n", ""),
        (tiny.CHAT, "", ""),
    ],
)
def test_a_scored_answer_follows_an_empty_thought_and_a_reply_what_the_template_opens(chat, empty, opened):
    writer = _writer(chat)
    assert writer.prompt_text("Is it?") == START + empty
    assert writer.reply_text("Is it?") == START + opened
    assert writer.thinking().prompt_text("Is it?") == START + opened


def test_open_questions_are_answered_after_a_thought_and_choices_after_none():
    writer = _writer(OPENS)
    for kind, options, ends in (("open", ("no",), "<think>\n"), ("yes_no", ("Yes", "No"), "</think>\n\n")):
        (item,) = present([Example(kind, "Is it?", options, 0)], 0)
        text = writer.tokenizer.decode(list(writer.write(item).prompt))
        assert text.endswith(ends), text


def test_answers_that_hold_thoughts_of_their_own_follow_no_empty_one():
    writer = _writer(SWITCHED)
    (item,) = present([Example("preference", "Is it?", ("<think>yes</think>so", "<think>no</think>no"), 0)], 0)
    assert writer.tokenizer.decode(list(writer.write(item).prompt)) == START


def test_an_argument_given_wins_over_the_empty_thought():
    assert _writer(SWITCHED, enable_thinking=True).prompt_text("Is it?") == START
    assert _writer(SWITCHED, enable_thinking=False).reply_text("Is it?") == START + "<think>\n\n</think>\n\n"
    assert _writer(EFFORT, reasoning_effort="low").reply_text("Is it?").startswith("Effort: low\n")


@pytest.mark.parametrize("chat", [OPENS, BRACKETS, SWITCHED])
def test_the_scope_after_the_instruction_begins_in_scored_prompts_and_in_replies(chat):
    tokenizer = tiny.new_tokenizer(chat)
    writer, marker = make_writer(tokenizer), after_instruction(tokenizer).marker
    for text in (writer.prompt_text("Is it?"), writer.reply_text("Is it?")):
        tokens = writer.encode(text)
        assert any(tokens[i : i + len(marker)] == marker for i in range(len(tokens)))


@pytest.mark.parametrize(
    ("chat", "said"),
    [(OPENS, r"opens a thought \(<think>\)"), (SWITCHED, "takes enable_thinking"), (tiny.CHAT, None)],
)
def test_a_template_that_thinks_has_a_note_and_no_other_has(chat, said):
    note = _writer(chat).thought_note
    assert (note is None) == (said is None)
    if note is not None:
        assert said is not None
        assert re.search(said, note)
    assert _writer(SWITCHED, enable_thinking=False).thought_note is None


@pytest.mark.parametrize(
    ("chat", "template", "name", "said"),
    [
        (SWITCHED, "auto", "enable_thinkin", r"does not take it; it takes: enable_thinking\. Did you mean 'enable_th"),
        (tiny.CHAT, "auto", "enable_thinking", r"does not take it; it takes: none"),
        (SWITCHED, "auto", "messages", r"is set here"),
        (SWITCHED, "none", "enable_thinking", r"without a chat template"),
        (None, "auto", "enable_thinking", r"without a chat template"),
    ],
)
def test_an_argument_that_would_do_nothing_is_refused(chat, template, name, said):
    with pytest.raises(UsageError, match=said):
        make_writer(tiny.new_tokenizer(chat), template, {name: False})


def test_arguments_are_read_from_text():
    assert arguments_of("enable_thinking=false,effort=low,n=3") == {"enable_thinking": False, "effort": "low", "n": 3}
    assert arguments_of("a=True") == {"a": True}
    assert arguments_of(None) == {}
    for wrong in ("enable_thinking", "=1", "a=", "a b=1", "a=1,,b=2"):
        with pytest.raises(UsageError, match="write name=value pairs"):
            arguments_of(wrong)


def test_a_text_without_an_open_thought_is_left_as_it_is():
    for text in ("", "x", "<think>\n\n</think>\n\n", "say <think> and go on"):
        assert with_empty_thought(text) == text
