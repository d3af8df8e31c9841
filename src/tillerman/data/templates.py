"""Chat templates: the arguments of their own that they take, and the thoughts that they open before an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, meta
from transformers import PreTrainedTokenizerBase

from tillerman.core.errors import UsageError

Messages = list[dict[str, str]]
# Tags of thoughts as templates write them: Qwen, DeepSeek, SmolLM; Mistral; Seed; others.
_TAGS = {
    "<think>": "</think>",
    "[THINK]": "[/THINK]",
    "<seed:think>": "</seed:think>",
    "<thought>": "</thought>",
    "<thinking>": "</thinking>",
}
SWITCH = "enable_thinking"
_SET_HERE = ("messages", "add_generation_prompt", "continue_final_message", "bos_token", "eos_token", "pad_token")


def apply_template(
    tokenizer: PreTrainedTokenizerBase,
    messages: Messages,
    arguments: Mapping[str, Any] | None = None,
    *,
    cue: bool = True,
) -> str:
    """The messages as text; with the ``cue`` that opens the model's turn."""
    text: Any = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=cue, **(arguments or {}))
    return str(text)


def opened_thought(text: str) -> str | None:
    """The tag of a thought that the end of ``text`` leaves open."""
    end = text.rstrip()
    return next((tag for tag in _TAGS if end.endswith(tag)), None)


def with_empty_thought(text: str) -> str:
    """The same text with a thought that it opens closed at once, as Qwen3's template writes an empty one."""
    tag = opened_thought(text)
    return text if tag is None else f"{text.rstrip()}\n\n{_TAGS[tag]}\n\n"


def holds_thought(answer: str) -> bool:
    return any(closing in answer for closing in _TAGS.values())


def before_thought(cue: str) -> str:
    """The part of a cue that stands before a thought, open or empty."""
    places = [at for tag in _TAGS if (at := cue.find(tag)) > 0]
    return cue[: min(places)] if places else cue


def has_switch(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the template takes ``enable_thinking``."""
    return SWITCH in str(tokenizer.chat_template or "")


def thought_note(tokenizer: PreTrainedTokenizerBase, text: str, arguments: Mapping[str, Any]) -> str | None:
    """What a reader should know of a template that lets the model think; ``text`` is a prompt that it wrote."""
    tag = opened_thought(text)
    if tag is not None:
        return (
            f"the chat template opens a thought ({tag}) before every answer: scored answers come after an empty one, "
            "written replies think first"
        )
    if has_switch(tokenizer) and SWITCH not in arguments:
        return (
            f"the chat template takes {SWITCH}: scored answers come after an empty thought ({SWITCH}=false), written "
            f"replies as the template has it; `template_args` {SWITCH}=false or true sets both"
        )
    return None


def ensure_taken(tokenizer: PreTrainedTokenizerBase, arguments: Mapping[str, Any]) -> None:
    """``UsageError`` for an argument that the template does not look at: it would do nothing, without a word."""
    if not arguments:
        return
    template = str(tokenizer.chat_template or "")
    if not template:
        raise UsageError("`template_args`: this tokenizer has no chat template that could take them")
    known = _variables(template)
    for name in arguments:
        if name in _SET_HERE:
            raise UsageError(f"`template_args` {name}: is set here; give arguments of the template's own")
        if re.search(rf"\b{re.escape(name)}\b", template) is None:
            close = get_close_matches(name, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            takes = ", ".join(known) or "none"
            raise UsageError(f"`template_args` {name}: this chat template does not take it; it takes: {takes}.{hint}")


def _variables(template: str) -> list[str]:
    """What the template takes from outside; empty where it has tags that only transformers knows."""
    try:
        found = meta.find_undeclared_variables(Environment(extensions=["jinja2.ext.loopcontrols"]).parse(template))
    except TemplateSyntaxError:
        return []
    return sorted(found - set(_SET_HERE) - {"raise_exception", "strftime_now", "range", "namespace"})


def read_arguments(text: str, between: str = ",") -> dict[str, Any]:
    """``enable_thinking=false,reasoning_effort=low`` -> {"enable_thinking": False, "reasoning_effort": "low"}.

    ``between`` parts the pairs. ``UsageError`` for what is no pair."""
    found: dict[str, Any] = {}
    for part in text.split(between) if text else ():
        name, equals, value = (side.strip() for side in part.partition("="))
        if not (name.isidentifier() and equals and value):
            raise UsageError(f"`template_args` {text!r}: write name=value pairs, e.g. enable_thinking=false")
        try:
            found[name] = json.loads(value.lower() if value.lower() in ("true", "false") else value)
        except json.JSONDecodeError:
            found[name] = value
    return found
