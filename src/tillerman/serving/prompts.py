"""From what a client writes to the token ids that the model reads: chat templates, plain texts, scopes' marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from tillerman.core.errors import UsageError
from tillerman.core.plan import Scope
from tillerman.data.marked_scopes import make_scope
from tillerman.data.templates import apply_template, ensure_taken
from tillerman.serving.refusals import Refusal


@dataclass(frozen=True)
class TokenPrompt:
    """``text`` is what the audit keeps of it; empty where token ids were sent."""

    tokens: tuple[int, ...]
    text: str = ""


class PromptReader:
    """Writes prompts with one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self.vocabulary = len(tokenizer)
        self.make_scope = cache(self._make_scope)

    @property
    def has_template(self) -> bool:
        return bool(self._tokenizer.chat_template)

    def chat(self, messages: Sequence[Mapping[str, str]], arguments: Mapping[str, Any]) -> TokenPrompt:
        """``Refusal`` for a model without a chat template, or messages that its template refuses."""
        if not self.has_template:
            raise Refusal("unsupported", "this model has no chat template; use /v1/completions", "messages")
        try:
            ensure_taken(self._tokenizer, arguments)
        except UsageError as error:
            raise Refusal("malformed", str(error), "chat_template_kwargs") from None
        try:
            text = apply_template(self._tokenizer, [dict(one) for one in messages], arguments)
        except (TemplateError, TypeError, ValueError) as error:
            raise Refusal("malformed", f"the chat template refuses these messages: {error}", "messages") from None
        return TokenPrompt(self._ids(text, special=False), text)

    def plain(self, text: str) -> TokenPrompt:
        return TokenPrompt(self._ids(text, special=True), text)

    def given(self, tokens: Sequence[int], param: str = "prompt") -> TokenPrompt:
        """``Refusal`` for an id that the model does not have."""
        wrong = [one for one in tokens if not 0 <= one < self.vocabulary]
        if wrong:
            raise Refusal("malformed", f"token id {wrong[0]}: there are 0 to {self.vocabulary - 1}", param)
        return TokenPrompt(tuple(tokens))

    def _ids(self, text: str, *, special: bool) -> tuple[int, ...]:
        clean = text.encode("utf-8", "replace").decode()  # half a surrogate pair is no text to a tokenizer
        return tuple(self._tokenizer(clean, add_special_tokens=special)["input_ids"])

    def _make_scope(self, text: str) -> Scope:
        return make_scope(self._tokenizer, text)
