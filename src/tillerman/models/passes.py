"""Which pass of a decoder each thread is in, also while a backward pass recomputes a part of it, and whose edits
a decoder has: one owner (a thread, or a task of an event loop) at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from torch import nn

from tillerman.core.errors import UsageError
from tillerman.models.forward import DecoderInputs, in_backward

T = TypeVar("T")
Owner = tuple[int, Any]  # a thread's ident, and the task that runs in it, if any

_LOCK = threading.Lock()
_OPEN: WeakKeyDictionary[nn.Module, list[Owner]] = WeakKeyDictionary()


class _OfThread(threading.local):
    state: Any = None
    inputs: DecoderInputs | None = None
    recomputing = False
    checkpointing = False
    backward = -1  # the backward pass that this pass is a part of


class Passes(Generic[T]):
    """Passes of all threads if ``everywhere``, else of the thread that made this alone.

    ``T`` is what whoever hung the edits keeps of a pass: the masks of its tokens, say.
    """

    def __init__(self, *, everywhere: bool) -> None:
        self._of_thread = _OfThread()
        self._thread = None if everywhere else threading.get_ident()
        self.closed = False

    @property
    def concerned(self) -> bool:
        """Whether the pass that this thread is in is edited."""
        return self._thread is None or self._thread == threading.get_ident() or self._of_thread.recomputing

    def begin(self, inputs: DecoderInputs, state: T) -> None:
        mine = self._of_thread
        mine.inputs, mine.state, mine.recomputing = inputs, state, inputs.again
        mine.backward = in_backward()

    def end(self) -> None:
        self._of_thread.inputs = self._of_thread.state = None

    @property
    def recomputing(self) -> bool:
        """Whether this pass was run before, and now gives its gradients."""
        return self._of_thread.recomputing

    @property
    def inputs(self) -> DecoderInputs:
        """What the decoder was given. ``UsageError`` for a block that is called without its decoder."""
        if self._of_thread.inputs is None:
            raise UsageError(
                "a part of the model was called by itself, and only the decoder knows which tokens a pass holds: "
                "call the whole model inside the block"
            )
        return self._of_thread.inputs

    @property
    def now(self) -> T:
        """What is kept of this thread's pass. ``UsageError`` where there is none, or another one is recomputed."""
        if self._of_thread.backward != in_backward() >= 0:
            raise UsageError(
                "a backward pass recomputes a part of the model that was checkpointed by hand, and nothing says which "
                "pass it belongs to: use model.gradient_checkpointing_enable(), or checkpoint the whole model"
            )
        state: T = self._of_thread.state if self.inputs is not None else None
        return state

    @contextmanager
    def resumed(self, inputs: DecoderInputs | None, state: T | None) -> Iterator[None]:
        """A pass that a backward pass recomputes in this thread, which need not be the one it ran in."""
        mine = self._of_thread
        before = mine.inputs, mine.state, mine.recomputing, mine.backward
        mine.inputs, mine.state, mine.recomputing, mine.backward = inputs, state, True, in_backward()
        try:
            yield
        finally:
            mine.inputs, mine.state, mine.recomputing, mine.backward = before

    @contextmanager
    def checkpointing(self) -> Iterator[None]:
        """What runs inside may be recomputed, and ``resumed`` then."""
        before, self._of_thread.checkpointing = self._of_thread.checkpointing, True
        try:
            yield
        finally:
            self._of_thread.checkpointing = before

    @property
    def inside_checkpoint(self) -> bool:
        return self._of_thread.checkpointing

    def kept(self) -> tuple[DecoderInputs | None, T | None]:
        """This thread's pass, for ``resumed``."""
        return self._of_thread.inputs, self._of_thread.state


@contextmanager
def owned(decoder: nn.Module) -> Iterator[None]:
    """Inside, edits of this decoder are the owner's. ``UsageError`` where another thread or task has some, which
    would act on its passes too."""
    me = _owner()
    with _LOCK:
        there = _OPEN.setdefault(decoder, [])
        if any(other != me for other in there):
            raise UsageError(
                "another thread or task steers or reads this model now, and its edits act on every pass: wait until "
                "its block has ended (a lock around the blocks does it), put the rows of both into one batch with "
                "tillerman.steer_rows, or open the model twice"
            )
        there.append(me)
    try:
        yield
    finally:
        with _LOCK:
            there.remove(me)


def _owner() -> Owner:
    try:
        return threading.get_ident(), asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return threading.get_ident(), None
