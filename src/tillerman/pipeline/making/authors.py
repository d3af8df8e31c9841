"""Who writes: a model that is opened here, or one behind an OpenAI-compatible endpoint, asked live or replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from tillerman.core.errors import DataError
from tillerman.core.rows import Progress, silent
from tillerman.core.store import Store
from tillerman.data.thoughts import has_think_tags, parted, read_reply, think_tags
from tillerman.data.writing import Writer
from tillerman.evaluation.scorers.chat import Call, ChatSource
from tillerman.models.memory import fitting, in_two, within
from tillerman.models.opened import OpenModel
from tillerman.steering.generation import Sampling, continuation_tokens, stop_tokens

MOST_ROWS = 64  # of one batch: what an interrupted run loses at most


@dataclass(frozen=True)
class WritingRequest:
    """One thing that is asked of an author. ``repeat`` tells texts of the same request apart."""

    user: str
    system: str | None = None
    tokens: int = 200
    temperature: float = 0.7
    repeat: int = 0


@dataclass(frozen=True)
class Said:
    """What an author wrote; ``finished``: it ended by itself, as far as that is known."""

    text: str
    finished: bool = True


class Author(Protocol):
    """Writes what it is asked for, in the order asked. What it wrote once it does not write again."""

    @property
    def name(self) -> str: ...
    def write(self, requests: Sequence[WritingRequest], progress: Progress = silent) -> list[Said]: ...


@dataclass(frozen=True, eq=False)
class ModelAuthor:
    """An opened model, unsteered. Requests that begin alike are written together, as many as memory allows; finished
    batches lie in ``store``."""

    opened: OpenModel
    writer: Writer
    store: Store
    seed: int = 0

    @property
    def name(self) -> str:
        return self.opened.id

    def write(self, requests: Sequence[WritingRequest], progress: Progress = silent) -> list[Said]:
        said: dict[int, Said] = {}
        prompts = [self._prompt(one) for one in requests]
        for group in _groups(requests):
            order = sorted(group, key=lambda i: (requests[i].system or "", len(prompts[i])))
            self._ensure_room(requests[order[0]], max(len(prompts[i]) for i in order))
            size = within(self.opened.parts, MOST_ROWS)
            work: list[Sequence[int]] = [order[at : at + size] for at in range(0, len(order), size)]
            run = partial(self._tokens, requests, prompts)
            for batch, found in fitting(self.opened.parts, iter(work), run, in_two):
                for i, tokens in zip(batch, found, strict=True):
                    said[i] = self._read(prompts[i], tokens)
                progress(len(batch))
        return [said[i] for i in range(len(requests))]

    def _prompt(self, request: WritingRequest) -> tuple[int, ...]:
        writer = self.writer.with_system(request.system)
        return writer.encode(writer.reply_text(request.user))

    def _tokens(
        self, requests: Sequence[WritingRequest], prompts: Sequence[tuple[int, ...]], batch: Sequence[int]
    ) -> list[list[int]]:
        first, rows = requests[batch[0]], [prompts[i] for i in batch]
        # Every batch draws numbers of its own, and the same ones when it is written again.
        seed = self.seed * 1_000_003 + sum(
            (k + 1) * (requests[i].repeat + len(prompts[i])) for k, i in enumerate(batch)
        )
        sampling = Sampling(first.tokens, first.temperature, seed=seed % 2**31)
        make = partial(continuation_tokens, self.opened, rows, [()] * len(rows), sampling, unsteered=True)
        here = self.store.scoped(self.opened.identity, rows, sampling, [requests[i].repeat for i in batch])
        found: list[list[int]] = here.value("written", make)
        return found

    def _read(self, prompt: tuple[int, ...], tokens: Sequence[int]) -> Said:
        tokenizer = self.opened.tokenizer
        tags = think_tags(tokenizer) if has_think_tags(tokenizer) else None
        reply = read_reply(tokenizer, tags, prompt, tokens, stop_tokens(self.opened))
        return Said((reply.answer or "").strip(), reply.finished)

    def _ensure_room(self, request: WritingRequest, longest: int) -> None:
        context = self.opened.context
        if context is not None and longest + request.tokens > context:
            raise DataError(
                f"the model reads {context} tokens, and a prompt of {longest} leaves no room for {request.tokens}; "
                "give shorter prompts, or fewer --tokens"
            )


@dataclass(frozen=True, eq=False)
class ChatAuthor:
    """A model behind an endpoint, or its recorded answers. ``source`` opens one for a temperature and a number of
    tokens."""

    model: str
    source: Callable[[float, int], ChatSource]

    @property
    def name(self) -> str:
        return self.model

    def write(self, requests: Sequence[WritingRequest], progress: Progress = silent) -> list[Said]:
        said: dict[int, Said] = {}
        for group in _groups(requests):
            first = requests[group[0]]
            calls = [Call(_messages(requests[i]), requests[i].repeat) for i in group]
            answers = self.source(first.temperature, first.tokens).ask(calls, progress)
            said |= {i: Said(parted(text or "")[1].strip()) for i, text in zip(group, answers, strict=True)}
        return [said[i] for i in range(len(requests))]


def _messages(request: WritingRequest) -> tuple[tuple[str, str], ...]:
    system = (("system", request.system),) if request.system else ()
    return (*system, ("user", request.user))


def _groups(requests: Sequence[WritingRequest]) -> list[list[int]]:
    """Places of the requests that are written in the same way."""
    found: dict[tuple[int, float], list[int]] = {}
    for i, one in enumerate(requests):
        found.setdefault((one.tokens, one.temperature), []).append(i)
    return list(found.values())
