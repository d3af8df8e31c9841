"""An answer's text as its tokens come: whole characters only, and nothing of a stop text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from tillerman.serving.engine import Taken

_HALF = "\ufffd"  # what a decoder makes of bytes that are no character
_MOST_HELD = 16  # tokens; a character has at most four bytes, so these are no beginning of one


class Words:
    """Texts of tokens, for all answers of a model."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._texts: dict[int, str] = {}

    def text(self, tokens: Sequence[int]) -> str:
        said = self._tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(said)

    def of(self, token: int) -> str:
        """One token by itself, special ones too."""
        if token not in self._texts:
            self._texts[token] = str(self._tokenizer.decode([token], clean_up_tokenization_spaces=False))
        return self._texts[token]


class Decoder:
    """Tokens in, whole characters out, at a cost that does not grow with the text: a token is decoded after the last
    few before it, which say whether a space stands between them."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._before: list[int] = []  # whose text is out
        self._held: list[int] = []

    def add(self, token: int) -> str:
        self._held.append(token)
        return self._new(final=len(self._held) > _MOST_HELD)

    def rest(self) -> str:
        """At the end of the text: what is whole of what was held back."""
        return self._new(final=True).rstrip(_HALF) if self._held else ""

    def _new(self, *, final: bool) -> str:
        known = self._decode(self._before)
        text = self._decode([*self._before, *self._held])
        if not final and (text.endswith(_HALF) or len(text) <= len(known)):
            return ""
        self._before, self._held = self._held, []
        return text[len(known) :]


@dataclass(frozen=True)
class ShownText:
    """What may be shown now; ``stopped`` where a stop text has ended the answer."""

    text: str
    tokens: tuple[Taken, ...]
    stopped: bool = False


class Wording:
    """Holds back what may be the beginning of a stop text, with its tokens."""

    def __init__(self, words: Words, stops: Sequence[str]) -> None:
        self._decoder = Decoder(words.text)
        self._stops = tuple(stop for stop in stops if stop)
        self._text = ""  # certain, and not shown yet
        self._shown = 0  # characters
        self._tokens: list[tuple[int, Taken]] = []  # not shown yet, each with the place where its text begins

    def add(self, token: Taken) -> ShownText:
        self._tokens.append((self._shown + len(self._text), token))
        return self._after(self._decoder.add(token.token))

    def rest(self) -> ShownText:
        """The end of an answer that no stop text has ended."""
        last = self._after(self._decoder.rest())
        if last.stopped:
            return last
        text, self._text = self._text, ""
        tokens, self._tokens = tuple(one for _, one in self._tokens), []
        return ShownText(last.text + text, (*last.tokens, *tokens))

    def _after(self, new: str) -> ShownText:
        self._text += new
        places = [at for at in (self._text.find(stop) for stop in self._stops) if at >= 0]
        if places:
            return ShownText(*self._upto(min(places)), stopped=True)
        held = max((_begun(self._text, stop) for stop in self._stops), default=0)
        return ShownText(*self._upto(len(self._text) - held))

    def _upto(self, at: int) -> tuple[str, tuple[Taken, ...]]:
        text, self._text = self._text[:at], self._text[at:]
        self._shown += len(text)
        ready = [one for place, one in self._tokens if place < self._shown]
        self._tokens = [(place, one) for place, one in self._tokens if place >= self._shown]
        return text, tuple(ready)


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of the text are a beginning of the stop text, though not all of it."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
