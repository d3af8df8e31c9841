"""Ctrl-C and SIGTERM: the work ends in order, and the last line says how to go on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """Someone wants the program to end. Not a ``KeyboardInterrupt``, which typer takes for itself, without a word.

    ``kept``: folders of finished work that the stopped command left; ``keeps``: whether it can leave any."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.kept: list[Path] = []
        self.keeps: bool | None = None

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 143 for SIGTERM: as shells have it."""
        return 128 + self.number

    def words(self) -> str:
        if self.kept:
            return f"stopped; finished work is kept in {', '.join(map(str, self.kept))}: run the same command to go on"
        if self.keeps:
            return "stopped before anything was finished; run the same command again"
        more = "; with --out it keeps finished work and goes on from there" if self.keeps is False else ""
        return f"stopped; nothing is kept of unfinished work: run the same command to begin again{more}"


@contextmanager
def stoppable() -> Iterator[None]:
    """Within the block the first signal raises ``Stopped``, a second one ends at once. A signal that was ignored before
    (a job in the background, nohup) stays ignored."""
    asked: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if asked:
            os.write(2, b"stopped at once; finished work is kept: run the same command to go on\n")
            os._exit(128 + number)
        asked.append(number)
        raise Stopped(number)

    before = {one: signal.getsignal(one) for one in _SIGNALS}
    heard = [one for one, handler in before.items() if handler is not signal.SIG_IGN]
    for one in heard:
        signal.signal(one, stop)
    try:
        yield
    finally:
        for one in heard:
            signal.signal(one, before[one])
