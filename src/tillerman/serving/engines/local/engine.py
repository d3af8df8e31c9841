"""Steered answers from a model in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from importlib.metadata import version

from tillerman.core.errors import UsageError
from tillerman.core.plan import Plan
from tillerman.models.opened import OpenModel
from tillerman.serving.engine import About, Chunk, Ended, Job
from tillerman.serving.engines.local.mailbox import Mailbox
from tillerman.serving.engines.local.settings import LocalSettings, problem_of
from tillerman.serving.engines.local.worker import Worker

_NO_LIMIT = 2**20  # of a model that counts no positions


class LocalEngine:
    """An ``Engine`` on an open model: everything that ``steer`` can do, a plan in every row.

    A thread of its own runs the model. Jobs join the rows that are under way between two tokens and leave when they
    end, so that a short answer does not wait for a long one. While answers are made the model is the engine's; a
    ``steer`` of another thread is refused then.
    """

    def __init__(self, opened: OpenModel, settings: LocalSettings | None = None) -> None:
        self._opened, self._settings = opened, settings or LocalSettings()
        self._about = About(
            engine=f"local-{version('tillerman')}",
            model=opened.id,
            fingerprint=opened.fingerprint,
            layers=opened.layers,
            context=opened.context or _NO_LIMIT,
            forces=True,
            watches=True,
        )
        self._worker: Worker | None = None

    @property
    def about(self) -> About:
        return self._about

    def problem(self, plan: Plan) -> str | None:
        return problem_of(self._opened, plan, allow_mismatch=self._settings.allow_mismatch)

    async def start(self) -> None:
        if self._worker is not None:
            raise UsageError("this engine runs already")
        self._worker = Worker(self._opened, self._settings, self._about.context)
        self._worker.start()
        await asyncio.to_thread(self._worker.ready.wait)
        if self._worker.fault is not None:
            raise UsageError(self._worker.fault)

    async def answer(self, job: Job) -> AsyncGenerator[Chunk | Ended, None]:
        if self._worker is None:
            raise UsageError("this engine does not run: await start() first")
        box = Mailbox(job, asyncio.get_running_loop())
        self._worker.take(box)
        try:
            while True:
                for one in await box.read():
                    yield one
                    if isinstance(one, Ended):
                        return
        finally:
            box.cancelled = True

    async def alive(self) -> str | None:
        if self._worker is None:
            return "the local engine does not run"
        if self._worker.fault is None and not self._worker.runs:
            return "the local engine's worker has ended"
        return self._worker.fault

    async def close(self) -> None:
        if self._worker is not None:
            await asyncio.to_thread(self._worker.close)
            self._worker = None
