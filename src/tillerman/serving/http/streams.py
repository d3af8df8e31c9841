"""Answers that are sent while they are made, and requests whose client goes away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Mapping
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from tillerman.serving.answering import ensure_done, events
from tillerman.serving.door import Admitted, Door
from tillerman.serving.engine import Ended
from tillerman.serving.http.replies import DONE, Shape, error_event
from tillerman.serving.refusals import Refusal

T = TypeVar("T")


async def stream(door: Door, admitted: Admitted, shape: Shape, *, usage: bool) -> AsyncGenerator[bytes, None]:
    """Server-sent events. The receipt stands beside the last ``finish_reason``, and in the chunk of ``usage``; what is
    not as it was asked ends in an ``error`` event, without ``[DONE]``."""
    ends: dict[int, Ended] = {}
    outcome, told, begun = "disconnected", False, False
    try:
        for place in range(len(admitted.jobs)):
            if opening := shape.opening(place):
                yield opening
        async with aclosing(events(door.engine, admitted.jobs)) as found:
            async for place, event in found:
                if not begun:
                    begun = True
                    door.metrics.first.observe(time.monotonic() - admitted.started)
                if isinstance(event, Ended):
                    ends[place] = event
                    ensure_done(door, admitted, event)
                    if len(ends) < len(admitted.jobs):
                        yield shape.finish(place, event, {})
                elif event.text or admitted.jobs[place].drawing.logprobs is not None:
                    yield shape.chunk(place, event)
        told = True
        door.ended(admitted, list(ends.values()), "answered")
        extra = extras(door, admitted, list(ends.values()))
        place, end = list(ends.items())[-1]
        yield shape.finish(place, end, extra)
        if usage:
            yield shape.last(list(ends.values()), extra)
        yield DONE
    except Refusal as refusal:
        outcome = refusal.code
        door.metrics.refused.labels(refusal.code).inc()
        yield error_event(refusal.to_json())
    finally:
        if not told:
            with suppress(Refusal):  # the text is out; its admission is written down
                door.ended(admitted, list(ends.values()), outcome)


def extras(door: Door, admitted: Admitted, ends: list[Ended]) -> dict[str, Any]:
    """What our answers have beside OpenAI's fields."""
    return {"steering": door.receipt(admitted, ends), "seed": admitted.seed}


class EventStream(Response):
    """Sends what a generator yields, and closes it when the client goes away."""

    def __init__(self, parts: AsyncGenerator[bytes, None], headers: Mapping[str, str]) -> None:
        self._parts = parts
        self.status_code, self.background = 200, None
        self.init_headers({**headers, "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await unless_gone(receive, self._send(send))
        finally:
            await self._parts.aclose()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for part in self._parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """What the work gives; None, and the work is cancelled, where the client goes away before."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    message: Message = {}
    while message.get("type") != "http.disconnect":
        message = await _next(receive)


async def _next(receive: Receive) -> Message:
    found: Awaitable[Message] = receive()
    return await found
