"""Processes of this machine that answer jobs: started together, started anew when one dies, gone with this one."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from httpx import AsyncHTTPTransport

from tillerman.core.errors import EndpointError, ModelError
from tillerman.core.shown import clipped
from tillerman.fleet.replica import ReplicaSpec
from tillerman.fleet.servers import UNBOUNDED, FleetServer

_MODULE = "tillerman.fleet.worker"
_RESTARTS = 20  # of one worker in a run


@dataclass
class _Worker:
    server: FleetServer
    socket: Path
    log: Path
    process: subprocess.Popen[bytes]
    starts: int = 1


class WorkerPool:
    """Workers behind sockets of a folder that only its owner may open."""

    def __init__(self, spec: ReplicaSpec, count: int, folder: Path) -> None:
        self._spec = folder / "spec.json"
        self._spec.write_text(json.dumps(spec.to_json()), encoding="utf-8")
        threads = str(max(1, (os.cpu_count() or 1) // count))
        self._env = {"OMP_NUM_THREADS": threads, **os.environ}
        self._workers: list[_Worker] = []
        for number in range(count):
            socket, log = folder / f"{number}.sock", folder / f"{number}.log"
            server = FleetServer("http://localhost", transport=AsyncHTTPTransport(uds=str(socket), limits=UNBOUNDED))
            server.name = f"worker {number}"
            self._workers.append(_Worker(server, socket, log, self._process(socket, log)))

    @property
    def servers(self) -> list[FleetServer]:
        return [worker.server for worker in self._workers]

    @property
    def pids(self) -> list[int]:
        return [worker.process.pid for worker in self._workers]

    async def ready(self) -> None:
        """``ModelError`` with its last words for a worker that does not come up."""
        for worker in self._workers:
            while not await worker.server.is_ready():
                if worker.process.poll() is not None:
                    raise ModelError(f"{worker.server.name} ended before it was ready: {_last_words(worker.log)}")
                await asyncio.sleep(0.1)

    async def revive(self, server: FleetServer) -> None:
        """Another process in the place of one that has ended."""
        worker = next(one for one in self._workers if one.server is server)
        if worker.process.poll() is None:
            return
        if worker.starts > _RESTARTS:
            raise EndpointError(f"{server.name} has ended {worker.starts} times: {_last_words(worker.log)}")
        worker.starts += 1
        worker.process = self._process(worker.socket, worker.log)

    async def close(self) -> None:
        for worker in self._workers:
            worker.process.kill()  # it keeps nothing
            worker.process.wait()
            assert worker.process.stdin is not None
            worker.process.stdin.close()
            await worker.server.close()

    def _process(self, socket: Path, log: Path) -> subprocess.Popen[bytes]:
        socket.unlink(missing_ok=True)
        with log.open("ab") as words:
            return subprocess.Popen(
                [sys.executable, "-m", _MODULE, str(self._spec), str(socket)],
                stdin=subprocess.PIPE,  # closes with this process
                stdout=words,
                stderr=subprocess.STDOUT,
                env=self._env,
                start_new_session=True,  # Ctrl-C is this process's to hear
            )


@asynccontextmanager
async def workers(spec: ReplicaSpec, count: int) -> AsyncIterator[WorkerPool]:
    with tempfile.TemporaryDirectory(prefix="tillerman-fleet-") as folder:
        pool = WorkerPool(spec, count, Path(folder))
        try:
            yield pool
        finally:
            await pool.close()


def _last_words(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return clipped(lines[-1], 400) if lines else "it says nothing"
