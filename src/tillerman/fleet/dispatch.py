"""Jobs over servers: each is answered once, by whichever server is free; none is lost with a server that goes away."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tillerman.core.errors import EndpointError
from tillerman.fleet.jobs import GenerationJob
from tillerman.fleet.servers import AnswerLostError, ComeAgainError, FleetServer, NeverReachedError, Row, failure

_TWICE = 2  # a job that was lost so often is asked alone, so that what it does to a server is told from its neighbours'
_POLL = 0.2  # seconds


@dataclass(frozen=True)
class Dispatch:
    """``at_once``: requests in flight per server. ``patience``: seconds without any server, after which the run ends.
    ``revive`` is called for a server that does not answer, and may start it anew."""

    at_once: int = 32
    patience: float = 120.0
    revive: Callable[[FleetServer], Awaitable[None]] | None = None


@dataclass
class _Line:
    """What is left to do. ``suspects`` were lost twice beside others."""

    jobs: asyncio.Queue[GenerationJob] = field(default_factory=asyncio.Queue)
    suspects: list[GenerationJob] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)


async def answer_all(
    jobs: Sequence[GenerationJob],
    servers: Sequence[FleetServer],
    model: str,
    plans: Mapping[str, str],
    keep: Callable[[GenerationJob, Row], None],
    how: Dispatch | None = None,
) -> None:
    """``keep`` is told every answer once, as it comes. ``plans`` has each job's fingerprint. ``EndpointError`` where no
    server is left."""
    await _Run(servers, model, plans, keep, how or Dispatch()).all(jobs)


class _Run:
    def __init__(
        self,
        servers: Sequence[FleetServer],
        model: str,
        plans: Mapping[str, str],
        keep: Callable[[GenerationJob, Row], None],
        how: Dispatch,
    ) -> None:
        self._servers, self._model, self._plans, self._keep, self._how = servers, model, plans, keep, how
        self._line = _Line()
        self._up = {server: asyncio.Event() for server in servers}
        self._seen = time.monotonic()  # when a server was last known to be there

    async def all(self, jobs: Sequence[GenerationJob]) -> None:
        for job in jobs:
            self._line.jobs.put_nowait(job)
        watching = [asyncio.create_task(self._watch(server)) for server in self._servers]
        asking = [asyncio.create_task(self._ask(server)) for server in self._servers for _ in range(self._how.at_once)]
        done = asyncio.create_task(self._finish())
        tasks: list[asyncio.Task[None]] = [done, *watching, *asking]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()  # the others never end but by an error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _finish(self) -> None:
        await self._line.jobs.join()
        for job in self._line.suspects:
            await self._alone(job)

    async def _ask(self, server: FleetServer) -> None:
        line = self._line
        while True:
            await self._up[server].wait()
            job = await line.jobs.get()
            again: float | None = 0.0
            try:
                again = await self._once(server, job)
            finally:
                if again is not None:
                    line.jobs.put_nowait(job)
                line.jobs.task_done()
            # Once it is back in the line, so that another server may take it meanwhile.
            if again is not None:
                await asyncio.sleep(again)

    async def _once(self, server: FleetServer, job: GenerationJob) -> float | None:
        """None where this is done with; else the job goes back into the line, and this server waits so many seconds."""
        try:
            self._keep(job, await server.answer(job, self._model, self._plans[job.id]))
        except ComeAgainError as later:
            return later.seconds
        except NeverReachedError:
            self._up[server].clear()
            return 0.0
        except AnswerLostError:
            self._up[server].clear()
            self._line.lost[job.id] += 1
            if self._line.lost[job.id] < _TWICE:
                return 0.0
            self._line.suspects.append(job)
        self._seen = time.monotonic()
        return None

    async def _alone(self, job: GenerationJob) -> None:
        """With nothing beside it; lost again and again, it is to blame."""
        blamed = 0
        while blamed < _TWICE:
            while (server := next((one for one, up in self._up.items() if up.is_set()), None)) is None:
                await asyncio.sleep(_POLL)
            try:
                self._keep(job, await server.answer(job, self._model, self._plans[job.id]))
                return
            except ComeAgainError as later:
                await asyncio.sleep(later.seconds)
            except NeverReachedError:
                self._up[server].clear()
            except AnswerLostError as error:
                self._up[server].clear()
                blamed, words = blamed + 1, str(error)
        self._keep(
            job, failure(job, "answer_lost", f"no server could answer it, though asked {2 * _TWICE} times: {words}")
        )

    async def _watch(self, server: FleetServer) -> None:
        """Says when it is up. One that is down is looked at again and again, and started anew where that can be."""
        up, wait = self._up[server], _POLL
        while True:
            if up.is_set():
                wait = _POLL
                await asyncio.sleep(wait)
            elif await server.is_ready():
                self._seen = time.monotonic()
                up.set()
            else:
                if self._how.revive is not None:
                    await self._how.revive(server)
                self._ensure_some()
                await asyncio.sleep(wait)
                wait = min(2 * wait, 5.0)

    def _ensure_some(self) -> None:
        """``EndpointError`` where nobody has been there for as long as is waited."""
        gone = time.monotonic() - self._seen
        if gone <= self._how.patience or any(up.is_set() for up in self._up.values()):
            return
        names = ", ".join(server.name for server in self._servers)
        raise EndpointError(f"no server has answered for {gone:.0f} s: {names}; start them, then run the same command")
