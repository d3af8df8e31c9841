"""From the worker's thread to a client's event loop: nobody waits for a slow reader, and nothing grows for one."""

from __future__ import annotations

import asyncio
import threading

from tillerman.serving.engine import Chunk, Ended, Job


class Mailbox:
    """Where the pieces of one answer lie until they are read: as one piece, so as much as the answer at most."""

    def __init__(self, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        self.job = job
        self.cancelled = False  # set by the reader, read between two passes
        self._loop = loop
        self._news = asyncio.Event()
        self._lock = threading.Lock()
        self._ended: Ended | None = None
        self._waiting: list[Chunk] = []

    def put(self, piece: Chunk) -> None:
        with self._lock:
            self._waiting.append(piece)
            first = len(self._waiting) == 1
        if first:
            self._tell()

    def end(self, ended: Ended) -> None:
        with self._lock:
            self._ended = self._ended or ended
        self._tell()

    async def read(self) -> list[Chunk | Ended]:
        """What has come since the last time, at least one thing."""
        while True:
            self._news.clear()
            found = self.collect()
            if found:
                return found
            await self._news.wait()

    def collect(self) -> list[Chunk | Ended]:
        """What has come since the last time."""
        with self._lock:
            pieces, self._waiting, ended = self._waiting, [], self._ended
        found: list[Chunk | Ended] = [_as_one(pieces)] if pieces else []
        return found if ended is None else [*found, ended]

    def _tell(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._news.set)
        except RuntimeError:  # the reader's event loop is closed
            self.cancelled = True


def _as_one(pieces: list[Chunk]) -> Chunk:
    if len(pieces) == 1:
        return pieces[0]
    return Chunk("".join(piece.text for piece in pieces), tuple(one for piece in pieces for one in piece.tokens))
