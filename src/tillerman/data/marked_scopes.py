"""Scopes whose marks are tokens of one tokenizer: where its chat template opens an answer, a thought, code."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from tillerman.core.errors import UsageError
from tillerman.core.plan import Scope
from tillerman.data.templates import apply_template, before_thought
from tillerman.data.thoughts import think_tags
from tillerman.data.writing import start_free


def after_instruction(tokenizer: PreTrainedTokenizerBase) -> Scope:
    """The scope from the end of the user's message on: the tokens the chat template adds to open the
    answer, and everything after them (CAA's convention: Rimsky et al., arXiv 2312.06681, section 3)."""
    if not tokenizer.chat_template:
        raise UsageError("scope 'after_instruction' needs a chat template, and this tokenizer has none; use 'last'")
    said = "The instruction."
    with_cue = apply_template(tokenizer, [{"role": "user", "content": said}])
    without = apply_template(tokenizer, [{"role": "user", "content": said}], cue=False)
    tail = before_thought(with_cue.removeprefix(without))  # a thought may be open, empty or left to the model
    if tail in ("", with_cue):  # no cue of its own (Llama 2): what closes the user's message opens the answer
        tail = before_thought(with_cue[with_cue.rindex(said) + len(said) :])
    if not tail:
        raise UsageError("scope 'after_instruction': this chat template adds nothing after an instruction; use 'last'")
    return Scope("after_instruction", marker=start_free(tokenizer, tail))


def thinking(tokenizer: PreTrainedTokenizerBase, opening: str = "<think>", closing: str = "</think>") -> Scope:
    """The scope of the model's own thoughts: between its tags, in the answer. A tag in the user's message
    opens nothing; one that the chat template itself writes to open the answer does."""
    tags = think_tags(tokenizer, opening, closing)
    return Scope("thinking", marker=_answer_start(tokenizer), opening=(tags.opening,), closing=(tags.closing,))


def not_in_code(tokenizer: PreTrainedTokenizerBase) -> Scope:
    """The scope of the answer outside fenced code and JSON tool calls, in the text as it is generated.

    Without a chat template the whole text counts as the answer."""

    def piece(token: int) -> str:
        return str(tokenizer.decode([token], skip_special_tokens=False))

    return Scope("not_in_code", marker=_answer_start(tokenizer), piece=piece)


# Scopes whose marks are tokens of a tokenizer, or that read its texts.
_OF_TOKENIZER = {"after_instruction": after_instruction, "thinking": thinking, "not_in_code": not_in_code}


def make_scope(tokenizer: PreTrainedTokenizerBase, text: str) -> Scope:
    """Any scope from its text, ``all``, ``thinking``, ``positions:0,5,-1``; marks are this tokenizer's."""
    return _OF_TOKENIZER[text](tokenizer) if text in _OF_TOKENIZER else Scope.parse(text)


def _answer_start(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    return after_instruction(tokenizer).marker if tokenizer.chat_template else ()
