"""What a reasoning model wrote: the thought between its tags, and the answer after it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from tillerman.core.errors import UsageError
from tillerman.data.splits import normalised

RUN = 8  # tokens; a run of so many that comes again is repetition (Welleck et al. 2019, arXiv 1908.04319)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True)
class Tags:
    """The tokens that open and close a thought."""

    opening: int
    closing: int


def think_tags(tokenizer: PreTrainedTokenizerBase, opening: str = "<think>", closing: str = "</think>") -> Tags:
    """The tags as single tokens; ``UsageError`` where the tokenizer has none."""
    found = []
    for tag in (opening, closing):
        ids = tokenizer(tag, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            raise UsageError(
                f"thoughts: {tag!r} is {len(ids)} tokens of this tokenizer, and it may be tokenised differently "
                "beside other text; name the tags that this model was trained with (opening=, closing=)"
            )
        found.append(ids[0])
    return Tags(*found)


def has_think_tags(tokenizer: PreTrainedTokenizerBase) -> bool:
    try:
        think_tags(tokenizer)
    except UsageError:
        return False
    return True


@dataclass(frozen=True)
class Reply:
    """``thought`` are the tokens between the tags; ``answer`` is the text after them, of a reply without a
    thought all of it, None where the thought never ended. ``finished``: the model ended the turn by itself."""

    tokens: tuple[int, ...]
    thought: tuple[int, ...]
    answer: str | None
    finished: bool

    @property
    def repetition(self) -> float:
        """Share of the thought's runs of ``RUN`` tokens that were there before."""
        runs = len(self.thought) - RUN + 1
        return 1 - self._distinct / runs if runs > 0 else 0.0

    @property
    def stripped(self) -> int:
        """Length of the thought without what repeats: the tokens that a new run ends with."""
        return self._distinct + RUN - 1 if len(self.thought) >= RUN else len(self.thought)

    @property
    def _distinct(self) -> int:
        return len({self.thought[i : i + RUN] for i in range(len(self.thought) - RUN + 1)})


def read_reply(
    tokenizer: PreTrainedTokenizerBase, tags: Tags | None, prompt: Sequence[int], tokens: Sequence[int], stops: set[int]
) -> Reply:
    """``tokens`` follow ``prompt``, the end of the turn included where the model reached it. A prompt may have
    opened the thought already (DeepSeek-R1's template does)."""
    said = tuple(tokens)
    finished = bool(said) and said[-1] in stops
    body = said[:-1] if finished else said
    if tags is None:
        return Reply(said, (), _text(tokenizer, body), finished)
    opened = _last(prompt, tags.opening) > _last(prompt, tags.closing)
    if not opened and tags.opening not in body:
        return Reply(said, (), _text(tokenizer, body), finished)
    start = 0 if opened else body.index(tags.opening) + 1
    if tags.closing not in body[start:]:
        return Reply(said, body[start:], None, finished)
    end = body.index(tags.closing, start)
    return Reply(said, body[start:end], _text(tokenizer, body[end + 1 :]), finished)


def parted(text: str, opening: str = "<think>", closing: str = "</think>") -> tuple[str | None, str]:
    """Thought and answer of a reply as text; no thought (None) where neither tag stands, and no answer where the
    thought never ends. A closing tag alone ends a thought that the prompt opened."""
    if opening not in text and closing not in text:
        return None, text
    thought, closed, answer = text.partition(opening)[2 if opening in text else 0].partition(closing)
    return thought, answer if closed else ""


def reference_answer(text: str) -> str:
    """What an answer is compared with: after GSM8K's ``####`` where there is one, else all of it."""
    return text.rpartition("####")[2].strip()


def is_right(reply: Reply, reference: str) -> bool:
    """A finished reply whose answer is the reference: as a number (the last one said) where the reference is
    one, else as text but for case, blanks and a final stop. An unfinished reply is wrong."""
    if reply.answer is None or not reply.finished:
        return False
    wanted = _as_number(reference)
    if wanted is None:
        return _plain(reply.answer) == _plain(reference)
    said = _NUMBER.findall(reply.answer)
    return bool(said) and _as_number(said[-1]) == wanted


def _as_number(text: str) -> float | None:
    bare = text.strip().strip("$%").replace(",", "")
    try:
        return float(bare) if _NUMBER.fullmatch(bare) else None
    except ValueError:
        return None


def _plain(text: str) -> str:
    return normalised(text.strip().rstrip("."))


def _text(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    return str(tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()


def _last(tokens: Sequence[int], token: int) -> int:
    return max((i for i, t in enumerate(tokens) if t == token), default=-1)
