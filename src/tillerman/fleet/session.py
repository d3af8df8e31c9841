"""A batch from start to end: servers are found or started, jobs checked, answered and put in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass

from tillerman.core.errors import EndpointError, UsageError
from tillerman.core.rows import Progress
from tillerman.core.store import Store
from tillerman.fleet.answers import CheckedJobs, answers, checked
from tillerman.fleet.dispatch import Dispatch
from tillerman.fleet.jobs import GenerationJob
from tillerman.fleet.replica import ReplicaSpec
from tillerman.fleet.servers import FleetServer, Row
from tillerman.fleet.workers import workers


@dataclass(frozen=True)
class ManyServers:
    """Servers that run by themselves. ``at_once``: requests at a time to each."""

    urls: tuple[str, ...]
    key: str | None = None
    at_once: int = 32

    def __post_init__(self) -> None:
        twice = [url for url in self.urls if self.urls.count(url) > 1]
        if twice:
            raise UsageError(f"--url {twice[0]}: is given twice")
        for url in self.urls:
            if not url.startswith(("http://", "https://")):
                raise UsageError(f"--url {url}: expected http://HOST:PORT or https://...")


@dataclass(frozen=True)
class OwnWorkers:
    """``count`` processes of this machine."""

    spec: ReplicaSpec
    count: int = 1


Place = ManyServers | OwnWorkers


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[tuple[Sequence[FleetServer], Dispatch]]:
    """Servers that are ready, and how they are asked. ``EndpointError`` for one that is not there."""
    if isinstance(place, OwnWorkers):
        async with workers(place.spec, place.count) as pool:
            await pool.ready()
            at_once = 2 * place.spec.settings.engine.local.max_batch
            yield pool.servers, Dispatch(at_once, patience=float("inf"), revive=pool.revive)
        return
    servers = [FleetServer(url, place.key) for url in place.urls]
    try:
        for server in servers:
            if not await server.is_ready():
                raise EndpointError(f"{server.name}: is not ready ({server.name}/ready); start it, or leave it out")
        yield servers, Dispatch(place.at_once)
    finally:
        for server in servers:
            await server.close()


@dataclass(frozen=True)
class Watched:
    """How a run is kept and watched. ``store`` opens once all is checked; ``stage`` shows so many jobs."""

    store: Callable[[], AbstractContextManager[Store]]
    stage: Callable[[int], AbstractContextManager[Progress]]
    finish: Callable[[list[Row]], None]  # within the store: what it raises keeps the finished pieces


def check_batch(jobs: Sequence[GenerationJob], place: Place) -> CheckedJobs:
    """Whether they would be answered; none is."""

    async def run() -> CheckedJobs:
        async with opened(place) as (servers, _):
            return await checked(jobs, servers)

    return asyncio.run(run())


def run_batch(jobs: Sequence[GenerationJob], place: Place, watched: Watched, *, skip_bad: bool = False) -> None:
    """Answers to all jobs. ``DataError`` where some would be refused, unless they are to be skipped."""
    facts = [list(place.spec.opening.items())] if isinstance(place, OwnWorkers) else []

    async def run() -> None:
        async with opened(place) as (servers, how):
            batch = await checked(jobs, servers)
            if not skip_bad:
                batch.ensure_good()
            with watched.store() as store, watched.stage(len(jobs)) as progress:
                watched.finish(await answers(batch, servers, store, facts, how, progress))

    asyncio.run(run())
