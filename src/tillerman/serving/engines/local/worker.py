"""The thread that owns the model: takes jobs in, runs their batches in turns, and survives what goes wrong in them."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial

import torch

from tillerman.core.errors import MismatchError, TillermanError
from tillerman.models.batches import spans
from tillerman.models.opened import OpenModel
from tillerman.models.running import manner_of
from tillerman.serving.engine import Ended
from tillerman.serving.engines.local.batch import RunningBatch
from tillerman.serving.engines.local.mailbox import Mailbox
from tillerman.serving.engines.local.row import AnswerRow
from tillerman.serving.engines.local.settings import LocalSettings, warnings_of
from tillerman.serving.engines.local.wording import Words
from tillerman.steering.generation import stop_tokens
from tillerman.steering.joining import JoiningPlans

_LOG = logging.getLogger(__name__)
_NO_MEMORY = "the device has no memory for this answer, not in half the batch either; fewer tokens may fit"
_CLOSED = "the engine was closed"


class Worker:
    """``take`` and ``close`` may be called from any thread, the rest is the worker's own."""

    def __init__(self, opened: OpenModel, settings: LocalSettings, context: int) -> None:
        self._opened, self._settings, self._context = opened, settings, context
        self._words, self._ends = Words(opened.tokenizer), frozenset(stop_tokens(opened))
        self._inbox: queue.SimpleQueue[Mailbox | None] = queue.SimpleQueue()
        self._waiting: deque[tuple[float, Mailbox]] = deque()
        self._batches: list[RunningBatch] = []
        self._most = settings.max_batch  # rows in one batch; less once a device has run out of memory
        self._closing = self._ended = False
        self._lock = threading.Lock()  # no job comes in once the last ones have been ended
        self.ready = threading.Event()
        self.fault: str | None = None
        self._thread = threading.Thread(target=self._main, name="tillerman-local-engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def runs(self) -> bool:
        return self._thread.is_alive()

    def take(self, box: Mailbox) -> None:
        with self._lock:
            if self._ended:
                box.end(_refused(box, self.fault or _CLOSED))
            elif self._inbox.qsize() + len(self._waiting) >= self._settings.max_waiting:
                box.end(_refused(box, f"{self._settings.max_waiting} requests are waiting already; try again later"))
            else:
                self._inbox.put(box)

    def close(self) -> None:
        """Returns when the thread has ended."""
        self._closing = True
        self._inbox.put(None)
        self._thread.join()

    @torch.inference_mode()
    def _main(self) -> None:
        plans = JoiningPlans(self._opened.parts)
        try:
            self._manner = manner_of(self._opened)
            if not self._manner.together:
                self._most = 1
            self.ready.set()
            while not self._closing:
                self._receive()
                self._begin()
                self._round(plans)
                if not self._batches:
                    plans.release()
        except BaseException as error:  # noqa: BLE001 # told to everybody who waits, and by alive()
            _LOG.exception("the local engine's worker has ended")
            self.fault = f"the local engine's worker ended with {type(error).__name__}"
        finally:
            self.ready.set()
            plans.release()
            self._end_all()

    def _end_all(self) -> None:
        for row in (row for batch in self._batches for row in batch.rows):
            if self.fault is None:
                row.end("cancelled")
            else:
                row.end("error", self.fault)
        self._batches = []
        with self._lock:
            self._ended = True
            self._drain()
        while self._waiting:
            box = self._waiting.popleft()[1]
            box.end(_refused(box, self.fault or _CLOSED))

    def _receive(self) -> None:
        """Put what has come into the line. An idle engine waits here, for the first job and then for others."""
        if not self._batches and not self._waiting:
            self._line_up(self._inbox.get())
        while not self._batches and self._waiting and not self._closing:
            left = self._waiting[0][0] + self._settings.max_wait_ms / 1000 - time.monotonic()
            if left <= 0 or len(self._waiting) >= self._settings.max_batch:
                break
            try:
                self._line_up(self._inbox.get(timeout=left))
            except queue.Empty:
                break
        self._drain()

    def _drain(self) -> None:
        while True:
            try:
                self._line_up(self._inbox.get_nowait())
            except queue.Empty:
                return

    def _line_up(self, box: Mailbox | None) -> None:
        if box is not None:
            self._waiting.append((time.monotonic(), box))

    def _begin(self) -> None:
        """Batches for the first in the line, as many as there are rows free. A closed batch waits for others, for a
        bounded time."""
        free = self._settings.max_batch - sum(not row.over for batch in self._batches for row in batch.rows)
        if not self._waiting or free < 1 or not self._worth_beginning(free):
            return
        rows: list[AnswerRow] = []
        while self._waiting and len(rows) < free:
            row = self._row(self._waiting.popleft()[1])
            if row is not None:
                rows.append(row)
        rows.sort(key=lambda row: len(row.box.job.prompt))
        at_once = self._settings.of_prompts(self._opened)
        for start, stop in spans([len(row.box.job.prompt) for row in rows], at_once, self._most):
            self._batches.append(RunningBatch(self._opened, self._manner, rows[start:stop], at_once))

    def _worth_beginning(self, free: int) -> bool:
        waited = time.monotonic() - self._waiting[0][0]
        full = len(self._waiting) >= min(free, self._most)
        return self._manner.joins or full or waited >= self._settings.max_wait_ms / 1000

    def _row(self, box: Mailbox) -> AnswerRow | None:
        """None where the job has ended before it began."""
        job = box.job
        if box.cancelled:
            return None
        try:
            if not job.prompt:
                raise TillermanError("the prompt has no tokens")
            every = (*job.plan, *(item for alarm in job.alarms for item in alarm.plan))
            allowed = warnings_of(self._opened, every, allow_mismatch=self._settings.allow_mismatch)
            room = min(self._context - len(job.prompt), self._settings.max_tokens)
            return AnswerRow(box, self._words, self._ends, room, allowed)
        except Exception as error:  # noqa: BLE001 # one job's fault is not the engine's
            box.end(_refused(box, _words_of(error)))
            return None

    def _round(self, plans: JoiningPlans) -> None:
        """A token for every row that answers, and one pass over new prompts."""
        answering = [batch for batch in self._batches if batch.answering]
        prompts = [batch for batch in self._batches if not batch.answering]
        for batch in (*answering, *prompts[:1]):
            self._guarded(batch, partial(batch.advance, plans))
        for batch in list(self._batches):
            self._guarded(batch, batch.drop)
        self._batches = [batch for batch in self._batches if not batch.over]
        self._join()

    def _join(self) -> None:
        kept: list[RunningBatch] = []
        for batch in self._batches:
            host = next((one for one in kept if one.takes(batch, self._most)), None)
            if host is None:
                kept.append(batch)
                continue
            try:
                host.join(batch)
            except Exception as error:
                if not _no_memory(error):
                    raise
                self._most = len(host.rows)
                kept.append(batch)
        self._batches = kept

    def _guarded(self, batch: RunningBatch, act: Callable[[], None]) -> None:
        """What goes wrong in a batch ends its rows, or halves it where memory has run out."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 # one batch's fault is not the engine's
            halves = self._halved(batch) if _no_memory(error) else []
            if halves:
                at = self._batches.index(batch)
                self._batches[at : at + 1] = halves
                return
            _LOG.exception("a batch of %d rows has failed", len(batch.rows))
            why = _NO_MEMORY if _no_memory(error) else _words_of(error)
            for row in batch.rows:
                row.end("error", why)

    def _halved(self, batch: RunningBatch) -> list[RunningBatch]:
        self._most = max(1, len(batch.rows) // 2)
        _LOG.warning("%s ran out of memory; batches have at most %d rows now", self._opened.device, self._most)
        if self._opened.device.type in ("cuda", "xpu"):
            torch.get_device_module(self._opened.device).empty_cache()
        try:
            return batch.halves()
        except Exception as error:
            if not _no_memory(error):
                raise
            return []


def _no_memory(error: BaseException) -> bool:
    """CPUs say it in words only."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def _words_of(error: BaseException) -> str:
    """For the client: our own errors speak of plans and models, others may speak of anything. A mismatch names the
    models, by paths where they have one."""
    if isinstance(error, MismatchError):
        return "the plan holds a vector that was not fitted on this model"
    return str(error) if isinstance(error, TillermanError) else f"the engine failed ({type(error).__name__})"


def _refused(box: Mailbox, why: str) -> Ended:
    return Ended("error", len(box.job.prompt), 0, (), why=why)
