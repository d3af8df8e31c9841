"""Answers of one request, as the engine makes them: side by side, and never one that is not what was asked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from tillerman.serving.door import Admitted, Door
from tillerman.serving.engine import Chunk, Ended, Engine, Job, Taken
from tillerman.serving.receipts import difference
from tillerman.serving.refusals import Refusal

_LOG = logging.getLogger(__name__)
Event = Chunk | Ended


@dataclass
class Answer:
    """One answer while it grows."""

    texts: list[str] = field(default_factory=list)
    tokens: list[Taken] = field(default_factory=list)
    ended: Ended | None = None

    def add(self, event: Event) -> None:
        if isinstance(event, Ended):
            self.ended = event
        else:
            self.texts.append(event.text)
            self.tokens.extend(event.tokens)

    @property
    def text(self) -> str:
        return "".join(self.texts)


async def events(engine: Engine, jobs: tuple[Job, ...]) -> AsyncGenerator[tuple[int, Event], None]:
    """All pieces of all jobs, with the job's place, as they come. ``Refusal`` (engine_error) for an engine that fails
    or goes silent. Closing it cancels what still runs."""
    if len(jobs) == 1:
        async with aclosing(_watched(engine, jobs[0])) as one:
            async for event in one:
                yield 0, event
        return
    queue: asyncio.Queue[tuple[int, Event] | Exception | None] = asyncio.Queue(maxsize=4 * len(jobs))
    tasks = [asyncio.create_task(_put(engine, i, job, queue)) for i, job in enumerate(jobs)]
    try:
        left = len(tasks)
        while left:
            got = await queue.get()
            if got is None:
                left -= 1
            elif isinstance(got, Exception):
                raise got
            else:
                yield got
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _put(
    engine: Engine, place: int, job: Job, queue: asyncio.Queue[tuple[int, Event] | Exception | None]
) -> None:
    try:
        async with aclosing(_watched(engine, job)) as one:
            async for event in one:
                await queue.put((place, event))
    except Refusal as error:
        await queue.put(error)
    await queue.put(None)


async def _watched(engine: Engine, job: Job) -> AsyncGenerator[Event, None]:
    ended = False
    try:
        async with aclosing(engine.answer(job)) as one:
            async for event in one:
                ended = isinstance(event, Ended)
                yield event
    except Exception as error:
        _LOG.exception("the engine failed on a request")
        raise Refusal("engine_error", "the engine failed; its log says why") from error
    if not ended:
        raise Refusal("engine_error", "the engine stopped without a word of what it did")


def ensure_done(door: Door, admitted: Admitted, ended: Ended) -> None:
    """``Refusal`` for an answer that broke off, or one whose receipt is not its plan."""
    if ended.ending == "cancelled":
        raise Refusal("stopping", "the server is stopping; ask another one, or again", retry_after=5)
    if ended.ending == "error":
        raise Refusal("engine_error", f"the engine gave up: {ended.why or 'it does not say why'}")
    wrong = difference(admitted.plan, ended)
    if wrong is not None:
        door.metrics.caught.inc()
        raise Refusal("not_applied", f"the answer is withheld, it was not steered as asked: {wrong}", "steering")


async def whole(door: Door, admitted: Admitted) -> list[Answer]:
    """All answers, each of them checked. What became of the request is written down in any case."""
    answers = [Answer() for _ in admitted.jobs]
    outcome = "disconnected"
    try:
        async with aclosing(events(door.engine, admitted.jobs)) as found:
            async for place, event in found:
                answers[place].add(event)
                if isinstance(event, Ended):
                    ensure_done(door, admitted, event)
        outcome = "answered"
    except Refusal as error:
        outcome = error.code
        raise
    finally:
        ends = [one.ended for one in answers if one.ended is not None]
        if outcome == "answered":
            door.ended(admitted, ends, outcome)
        else:
            with suppress(Refusal):  # there is no answer to withhold
                door.ended(admitted, ends, outcome)
    return answers
