"""Progress for people: a bar in a terminal or a notebook, and lines with percent and time left in a log file."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

from tillerman.core.escaping import visible
from tillerman.core.rows import Progress, silent
from tillerman.core.shown import clipped

FIRST, EVERY = 5.0, 30.0  # seconds until a log file's first line about a stage, and between further ones
_COUNTS = 24  # columns that percent, counts and times take beside the title of a bar
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]"


class ProgressBar:
    """Watches a run: ``fit(..., watch=ProgressBar())`` shows each stage while it lasts.

    Where ``file`` (the error stream if not given) is no terminal, each stage gets a line when it is done, and a long
    one lines in between, without control characters. A stage within a stage is not shown: the outer one counts it.
    """

    def __init__(self, file: IO[str] | None = None) -> None:
        self._file = file
        self._busy = False

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Progress]:
        if self._busy:
            yield silent
            return
        self._busy = True
        try:
            with _shown(visible(title), total, self._file or sys.stderr) as progress:
                yield progress
        finally:
            self._busy = False


@contextmanager
def _shown(title: str, total: int, file: IO[str]) -> Iterator[Progress]:
    from tqdm.auto import tqdm  # chooses the notebook's widget, where there is one
    from tqdm.notebook import tqdm_notebook

    if issubclass(tqdm, tqdm_notebook):
        with tqdm(total=total or None, desc=title, leave=False) as bar:
            yield bar.update
    elif file.isatty():
        form = _BAR if total else None
        room = max(12, shutil.get_terminal_size().columns - _COUNTS)
        with tqdm(
            total=total or None, desc=clipped(title, room), leave=False, file=file, dynamic_ncols=True, bar_format=form
        ) as bar:
            yield bar.update
    else:
        lines = Lines(title, total, file)
        yield lines.progress
        lines.close()


@dataclass
class Lines:
    """A stage as lines of a log file. ``clock`` gives seconds."""

    title: str
    total: int  # 0: not known
    file: IO[str]
    clock: Callable[[], float] = time.monotonic
    _started: float = field(init=False)
    _next: float = field(init=False)
    _done: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._started = self.clock()
        self._next = self._started + FIRST

    def progress(self, done: int) -> None:
        self._done += done
        now = self.clock()
        if now < self._next:
            return
        self._next = now + EVERY
        took = now - self._started
        if self.total and self._done:
            left = took * max(0, self.total - self._done) / self._done
            self._write(f"{100 * self._done / self.total:.0f} %, {spoken_time(took)}, about {spoken_time(left)} left")
        else:
            self._write(f"{self._done} done, {spoken_time(took)}")

    def close(self) -> None:
        self._write(f"done, {spoken_time(self.clock() - self._started)}")

    def _write(self, words: str) -> None:
        self.file.write(f"{self.title}: {words}\n")
        self.file.flush()


def spoken_time(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3 min``, ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
