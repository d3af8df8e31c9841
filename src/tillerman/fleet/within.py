"""Answers to requests in the process that asks: the same door, checks and receipts, and no server between."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from tillerman.core.store import Store
from tillerman.fleet.answers import KEY, answers, checked
from tillerman.fleet.dispatch import Dispatch
from tillerman.fleet.jobs import job_of
from tillerman.fleet.replica import ReplicaSpec, open_door
from tillerman.fleet.servers import FleetServer, Row
from tillerman.serving.http.app import create_app


class WithinProcess:
    """A model that is opened once and answers many times. ``close`` ends its engine."""

    def __init__(self, spec: ReplicaSpec) -> None:
        self._runner = asyncio.Runner()
        self._door = self._runner.run(open_door(spec))
        self._at_once = 2 * spec.settings.engine.local.max_batch

    def answers(self, lines: Sequence[Mapping[str, Any]], seed: int = 0) -> list[Row]:
        """A row for each line, in order; a line that cannot be answered has an ``error``. ``DataError`` for one that is
        no job."""
        jobs = [job_of(dict(line), number, seed) for number, line in enumerate(lines, start=1)]

        async def run() -> list[Row]:
            app = httpx.ASGITransport(create_app(self._door), raise_app_exceptions=False)
            server = FleetServer("http://localhost", transport=app)
            try:
                batch = await checked(jobs, [server])
                return await answers(batch, [server], Store(None, KEY), how=Dispatch(self._at_once))
            finally:
                await server.close()

        return self._runner.run(run())

    def close(self) -> None:
        self._runner.run(self._door.engine.close())
        self._runner.close()
