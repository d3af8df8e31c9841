"""Items as the tokens of one tokenizer: chat template or plain text, system prompt, few-shot turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from tillerman.core.errors import DataError, UnknownNameError, UsageError
from tillerman.core.rows import Row
from tillerman.data.examples import Example
from tillerman.data.presenting import Item, offsets_of
from tillerman.data.prompts import ANSWER_CUE
from tillerman.data.templates import (
    SWITCH,
    apply_template,
    ensure_taken,
    has_switch,
    holds_thought,
    thought_note,
    with_empty_thought,
)
from tillerman.data.turns import ANSWERER, Turn, as_text, exchanges, spoken, system_text

TEMPLATES = ("auto", "chat", "none")


@dataclass(frozen=True)
class Written:
    """A prompt and the tokens of each answer after it; ``right`` is the wanted answer.

    ``whole``: score whole answers (mean log-probability per token) instead of their first token. ``offsets``: nats that
    are subtracted from the answers' scores.
    """

    prompt: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]
    right: int = 0
    whole: bool = False
    offsets: tuple[float, ...] = ()

    @property
    def one_token_tells(self) -> bool:
        """Whether the first token alone tells the answers apart; else whole answers must be scored."""
        first = [answer[0] for answer in self.answers]
        return len(set(first)) == len(first)

    def row(self, answer: int) -> Row:
        return Row(self.prompt + self.answers[answer], len(self.prompt))


@dataclass(frozen=True, eq=False)
class Writer:
    """Writes items for one tokenizer. ``shots`` are (prompt, answer) turns before the question, ``history`` the turns
    of the question's own conversation; they follow the shots. ``calibration``: the bias of answer words or letters in
    nats, subtracted wherever one of them is an answer."""

    tokenizer: PreTrainedTokenizerBase
    template: str  # chat or none
    system: str | None = None
    shots: tuple[tuple[str, str], ...] = ()
    history: tuple[Turn, ...] = ()
    closing: tuple[int, ...] = ()  # ends every contrast row with an answer, see ``closing_turns``
    arguments: Mapping[str, Any] = field(default_factory=dict)  # the chat template's own, as enable_thinking
    thinks: bool = False  # answers come after a thought of the model's own, where the template has one
    calibration: tuple[tuple[str, float], ...] = ()
    cue: bool = True  # plain statements ask for their answer (``Answer:``); PAS's authors join question and answer

    def with_system(self, system: str | None) -> Writer:
        return replace(self, system=system)

    def calibrated(self, offsets: Mapping[str, float]) -> Writer:
        return replace(self, calibration=tuple(offsets.items()))

    def with_shots(self, items: Sequence[Item]) -> Writer:
        told = [(exchanges(item.example.history), (item.prompt, item.answers[item.right])) for item in items]
        return replace(self, shots=tuple(turn for before, last in told for turn in (*before, last)))

    def after(self, example: Example) -> Writer:
        """For the question of this example: the turns of its conversation stand before it."""
        return replace(self, history=example.history)

    def closing_turns(self) -> Writer:
        """Contrast rows end with the token by which the chat template closes an answer, so that they are
        read where the model has taken the whole answer in. Nothing to add without such a token."""
        return replace(self, closing=_turn_end(self.tokenizer) if self.template == "chat" else ())

    def thinking(self) -> Writer:
        """Answers are written, not scored: a thought that the template opens stays open."""
        return replace(self, thinks=True)

    @property
    def thought_note(self) -> str | None:
        """What a reader should know of a template that lets the model think; None for the others."""
        if self.template != "chat":
            return None
        return thought_note(self.tokenizer, self._chat("question", thinks=True), self.arguments)

    def answer_row(self, written: Written, answer: int) -> Row:
        """A contrast row: prompt, answer and, if turns are closed, the closing token."""
        row = written.row(answer)
        return Row(row.tokens + self.closing, row.read_from)

    def bare_row(self, user: str) -> Row:
        """A prompt alone, followed by one blank: in a chat template it opens the model's turn."""
        text = self._chat(user, thinks=self.thinks) if self.template == "chat" else user
        tokens = self.encode(text + " ")
        return Row(tokens, len(tokens) - 1)

    def write(self, item: Item) -> Written:
        """The full prompt (option list included) and its possible answers."""
        texts = item.example.kind in ("preference", "text", "open")
        written = self._written(item, item.prompt, item.answers, texts=texts)
        whole = texts or not written.one_token_tells
        return replace(written, right=item.right, whole=whole, offsets=offsets_of(item, self.calibration))

    def write_statements(self, item: Item) -> Written:
        """The question without option list, answered with the text of each option (PAS: iPAS strings)."""
        if self.template == "none" and not self.cue:
            return self._answered(item.example.question, item.texts, texts=True)
        return self._written(item, item.example.question, item.texts, texts=True)

    def prompt_text(self, user: str) -> str:
        """The text a model gets for one user message, up to where an answer begins that is scored: a thought that
        the template opens, or would leave to the model, is empty."""
        return self._prompt(user, thinks=self.thinks)

    def reply_text(self, user: str) -> str:
        """The same up to where a reply begins that the model writes, thoughts included."""
        return self._prompt(user, thinks=True)

    def _prompt(self, user: str, *, thinks: bool) -> str:
        if self.template == "chat":
            return self._chat(user, thinks=thinks)
        turns = [f"{prompt}{_cue(prompt)} {answer}" for prompt, answer in self.shots]
        asked = user + _cue(user)
        if self.history:
            asked = as_text((*self.history, Turn("user", user))) + ("" if _cued(user) else f"\n{ANSWERER}")
        return "\n\n".join([*([self.system] if self.system else []), *turns, asked])

    def text_before(self, kind: str, user: str) -> str:
        """The text that the answers of an item of this kind come after; plain preferences go on where they end, after
        system prompt and exemplars."""
        if kind != "preference" or self.template != "none" or self.history:
            return self._prompt(user, thinks=self.thinks or kind == "open")
        turns = [f"{prompt} {answer}" for prompt, answer in self.shots]
        return "\n\n".join([*([self.system] if self.system else []), *turns, user])

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids; a chat template brings its own first token, plain text gets the tokenizer's."""
        ids = self.tokenizer(text, add_special_tokens=self.template == "none")["input_ids"]
        return tuple(ids)

    def _written(self, item: Item, user: str, answers: tuple[str, ...], *, texts: bool) -> Written:
        if item.example.kind == "text":
            start = self._text_start()
            return Written(start, tuple(start_free(self.tokenizer, text) for text in answers))
        writer = self.after(item.example)
        if any(map(holds_thought, answers)):  # thoughts of their own take the place of an empty one
            writer = writer.thinking()
        return self._answered(writer.text_before(item.example.kind, user), answers, texts=texts)

    def _answered(self, text: str, answers: tuple[str, ...], *, texts: bool) -> Written:
        """Find how this tokenizer continues the prompt: with or without a blank before the answer. Texts of one
        data set are all written alike; a letter or a word may go without if its first token then tells it."""
        prompt = self.encode(text)
        blank_first = self.template == "none" and not text[-1:].isspace()
        written = []
        for gap in (" ", "") if blank_first else ("", " "):
            whole = [self.encode(text + gap + answer) for answer in answers]
            if all(ids[: len(prompt)] == prompt and len(ids) > len(prompt) for ids in whole):
                written.append(Written(prompt, tuple(ids[len(prompt) :] for ids in whole)))
        if not written:  # the tokenizer merges over the border: join the pieces instead
            written = [Written(prompt, tuple(start_free(self.tokenizer, answer) for answer in answers))]
        return next((w for w in written if not texts and w.one_token_tells), written[0])

    def _text_start(self) -> tuple[int, ...]:
        start = self.tokenizer.bos_token_id
        return () if start is None else (int(start),)

    def _chat(self, user: str, *, thinks: bool) -> str:
        if thinks:
            return self._in_turns(user, self.arguments)
        off = {SWITCH: False} if has_switch(self.tokenizer) else {}
        return with_empty_thought(self._in_turns(user, {**off, **self.arguments}))

    def _in_turns(self, user: str, arguments: Mapping[str, Any]) -> str:
        messages = self.messages(user)
        system = messages[0]["content"] if messages[0]["role"] == "system" else ""
        try:
            text = apply_template(self.tokenizer, messages, arguments)
            if system.strip() in text:
                return text
        except TemplateError:
            if not system:
                raise
        # Templates that refuse (Gemma) or pass over a system role: its text leads the first user message.
        first, *rest = messages[1:]
        led = {**first, "content": f"{system}\n\n{first['content']}"}
        return apply_template(self.tokenizer, [led, *rest], arguments)

    def messages(self, user: str) -> list[dict[str, str]]:
        """System prompt (the conversation's own first), shots, earlier turns and the user's message."""
        system = "\n\n".join(text for text in (system_text(self.history), self.system) if text)
        said = [("system", system)] if system else []
        for prompt, answer in self.shots:
            said += [("user", prompt), ("assistant", answer)]
        said += [(turn.role, turn.text) for turn in spoken(self.history)]
        return [{"role": role, "content": text} for role, text in [*said, ("user", user)]]


def make_writer(
    tokenizer: PreTrainedTokenizerBase, template: str = "auto", arguments: Mapping[str, Any] | None = None
) -> Writer:
    """``auto`` takes the chat template where the tokenizer has one. ``arguments`` are the template's own;
    ``UsageError`` for one that it does not take."""
    if template not in TEMPLATES:
        raise UnknownNameError("template", template, TEMPLATES)
    if template == "chat" and not tokenizer.chat_template:
        raise UsageError("`template` chat: this tokenizer has no chat template; use `template` none")
    chosen = ("chat" if tokenizer.chat_template else "none") if template == "auto" else template
    if chosen == "chat":
        ensure_taken(tokenizer, arguments or {})
    elif arguments:
        raise UsageError("`template_args`: prompts are written without a chat template, which alone could take them")
    return Writer(tokenizer, chosen, arguments=arguments or {})


def start_free(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    if not ids:
        raise DataError(f"the tokenizer gives no token for {text!r}")
    return ids


def _turn_end(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The first token that the template writes after an answer (``<|im_end|>``, ``</s>``, ...)."""
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]
    text: Any = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=False)
    tail = str(text).rpartition("answer")[2]
    return tuple(tokenizer(tail, add_special_tokens=False)["input_ids"][:1]) if tail.strip() else ()


def _cue(prompt: str) -> str:
    """Plain prompts end in ``Answer:`` (multiple choice already does)."""
    return "" if _cued(prompt) else f"\n{ANSWER_CUE}"


def _cued(prompt: str) -> bool:
    return prompt.endswith(ANSWER_CUE)
