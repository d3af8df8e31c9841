"""Jobs for a running engine, from an event loop as the door has one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from tillerman.models.opened import OpenModel
from tillerman.serving.engine import Job
from tillerman.serving.engines.local import LocalEngine, LocalSettings

from .driving import Answer, gathered

T = TypeVar("T")
PATIENCE = 60.0  # seconds, after which a test gives up


@asynccontextmanager
async def running(opened: OpenModel, **settings) -> AsyncIterator[LocalEngine]:
    engine = LocalEngine(opened, LocalSettings(**{"max_wait_ms": 1.0, **settings}))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()
        assert "tillerman-local-engine" not in [thread.name for thread in threading.enumerate()]


async def ask(engine: LocalEngine, job: Job) -> Answer:
    return gathered([one async for one in engine.answer(job)])


def with_engine(opened: OpenModel, act: Callable[[LocalEngine], Awaitable[T]], **settings) -> T:
    async def run() -> T:
        async with running(opened, **settings) as engine:
            return await asyncio.wait_for(act(engine), PATIENCE)

    return asyncio.run(run())


def answers(opened: OpenModel, jobs: Sequence[Job], **settings) -> list[Answer]:
    """All at once."""
    return with_engine(opened, lambda engine: asyncio.gather(*(ask(engine, job) for job in jobs)), **settings)
