"""Scopes whose marks are tokens of one tokenizer: where its chat template opens an answer, a thought, code."""

from __future__ import annotations

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from tillerman.core.errors import UsageError
from tillerman.core.plan import Scope
from tillerman.core.turns import turn_spans
from tillerman.data.templates import apply_template, before_thought
from tillerman.data.thoughts import think_tags
from tillerman.data.writing import start_free


def after_instruction(tokenizer: PreTrainedTokenizerBase) -> Scope:
    """The scope from the end of the user's message on: the tokens the chat template adds to open the
    answer, and everything after them (CAA's convention: Rimsky et al., arXiv 2312.06681, section 3)."""
    return Scope("after_instruction", marker=start_free(tokenizer, _opening(tokenizer, "after_instruction")))


def assistant_turns(tokenizer: PreTrainedTokenizerBase) -> Scope:
    """The scope of all that the assistant says in a conversation: earlier answers as they were steered when they were
    made under ``after_instruction``, and the one that is made now.

    The chat template must open every answer alike and end it with a token of its own (``<|im_end|>``, ``</s>``);
    ``UsageError`` where a conversation that it writes shows that its answers cannot be told from the rest. A message
    that holds the template's marks opens a turn, as it does for the model.
    """
    name = "assistant_turns"
    # Blanks at the end may grow together with the answer's first ones.
    marker = start_free(tokenizer, _opening(tokenizer, name).rstrip())
    closing = _end_of_answer(tokenizer)
    if closing in marker:
        raise UsageError(f"scope '{name}': this chat template opens answers with what ends them: {_CANNOT}")
    scope = Scope(name, marker=marker, closing=(closing,))
    _ensure_told(tokenizer, scope)
    return scope


def last_turn(tokenizer: PreTrainedTokenizerBase) -> Scope:
    """The scope from the mark that opens the last user's message on, in a conversation: nothing that was said before.
    Its marker begins where the answer before it ends, so it means nothing of a first turn."""
    after = _conversation(tokenizer).partition(_ANSWERED[0])[2].partition(_ASKED[1].strip())[0]
    return Scope("after_instruction", marker=start_free(tokenizer, after.rstrip()))


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
_OF_TOKENIZER = {
    "after_instruction": after_instruction,
    "assistant_turns": assistant_turns,
    "thinking": thinking,
    "not_in_code": not_in_code,
}


def make_scope(tokenizer: PreTrainedTokenizerBase, text: str) -> Scope:
    """Any scope from its text, ``all``, ``thinking``, ``positions:0,5,-1``; marks are this tokenizer's."""
    return _OF_TOKENIZER[text](tokenizer) if text in _OF_TOKENIZER else Scope.parse(text)


def _answer_start(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    return after_instruction(tokenizer).marker if tokenizer.chat_template else ()


def _opening(tokenizer: PreTrainedTokenizerBase, name: str) -> str:
    """What the chat template writes between an instruction and its answer, for the scope of this name."""
    if not tokenizer.chat_template:
        raise UsageError(f"scope '{name}' needs a chat template, and this tokenizer has none; use 'last'")
    said = "The instruction."
    with_cue = apply_template(tokenizer, [{"role": "user", "content": said}])
    without = apply_template(tokenizer, [{"role": "user", "content": said}], cue=False)
    tail = before_thought(with_cue.removeprefix(without))  # a thought may be open, empty or left to the model
    if tail in ("", with_cue):  # no cue of its own (Llama 2): what closes the user's message opens the answer
        tail = before_thought(with_cue[with_cue.rindex(said) + len(said) :])
    if not tail:
        raise UsageError(f"scope '{name}': this chat template adds nothing after an instruction; use 'last'")
    return tail


_ASKED = ("Tell uno.", "  Why duo?\n", "And tre")
_ANSWERED = ("Alpha it is.", "\nBeta:\n\n1. first")  # the second begins with blanks
_CANNOT = "its answers cannot be told from the rest; use 'after_instruction'"


def _conversation(tokenizer: PreTrainedTokenizerBase) -> str:
    messages = [{"role": "user", "content": _ASKED[0]}]
    for answer, question in zip(_ANSWERED, _ASKED[1:], strict=True):
        messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": question}]
    try:
        return apply_template(tokenizer, messages)
    except TemplateError as error:
        raise UsageError(f"scope 'assistant_turns': the chat template refuses a conversation ({error})") from None


def _end_of_answer(tokenizer: PreTrainedTokenizerBase) -> int:
    """The first token of its own that stands after an answer: no text of an answer can grow together with it."""
    after = _conversation(tokenizer).partition(_ANSWERED[0])[2].partition(_ASKED[1].strip())[0]
    own = set(tokenizer.added_tokens_decoder) | set(tokenizer.all_special_ids)
    ids = tokenizer(after, add_special_tokens=False)["input_ids"]
    found = next((int(token) for token in ids if token in own), None)
    if found is None:
        raise UsageError(
            f"scope 'assistant_turns': this chat template ends an answer with no token of its own: {_CANNOT}"
        )
    return found


def _ensure_told(tokenizer: PreTrainedTokenizerBase, scope: Scope) -> None:
    """The turns that the marks find in a conversation hold all answers and nothing else of it."""
    ids = list(tokenizer(_conversation(tokenizer), add_special_tokens=False)["input_ids"])
    spans = turn_spans(scope.marker, scope.closing, ids)
    turns = [ids[start:end] for start, end in spans]
    inside = {at for start, end in spans for at in range(start, len(ids) if end is None else end)}
    others = _bare(tokenizer, [token for at, token in enumerate(ids) if at not in inside])
    said = [_bare(tokenizer, turn) for turn in turns]
    right = (
        len(said) == len(_ANSWERED) + 1
        and spans[-1][1] is None
        and all("".join(answer.split()) in turn for answer, turn in zip(_ANSWERED, said, strict=False))
        and all("".join(question.split()) in others for question in _ASKED)
    )
    if not right:
        raise UsageError(f"scope 'assistant_turns': in a conversation that this chat template writes, {_CANNOT}")


def _bare(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """The text of these tokens without blanks, which a template may trim."""
    return "".join(str(tokenizer.decode(ids, skip_special_tokens=False)).split())
