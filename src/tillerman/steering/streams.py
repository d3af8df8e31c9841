"""Which text each pass of a block belongs to. Many may be under way at once: threads, a second prompt for guidance,
drafts, prompts that take turns. Each has its own prompt, so its own scopes and gates."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tillerman.core.errors import UsageError
from tillerman.models.forward import DecoderInputs, ForwardInfo
from tillerman.models.generating import Prompt
from tillerman.steering.gatekeeper import Gatekeeper
from tillerman.steering.scopes import Sequences


class Stream:
    """The passes over one batch of texts, with what is known of these texts."""

    def __init__(self, *, keep_text: bool, prompt: Prompt | None = None) -> None:
        self.sequences, self.gates = Sequences(keep_text=keep_text, prompt=prompt), Gatekeeper()
        self.cache: Callable[[], object | None] = lambda: None  # the one that stands for it, if any
        self._seen: Bool[Tensor, "b k"] | None = None
        self._tokens: Int[Tensor, "b k"] | None = None

    def observe(self, inputs: DecoderInputs) -> ForwardInfo:
        info = inputs.info(self._seen)
        inputs.ensure_a_text_each(info)
        self._seen, self._tokens = info.seen, info.tokens
        self.sequences.observe(info)
        self.gates.observe(self.sequences)
        return info

    @property
    def rows(self) -> int:
        return 1 if self._seen is None else len(self._seen)

    @property
    def columns(self) -> int:
        return 0 if self._seen is None else self._seen.shape[1]

    def fork(self) -> Stream:
        """The same text so far, over a copy of its cache."""
        twin = copy.copy(self)
        twin.sequences, twin.gates = copy.copy(self.sequences), self.gates.copy()
        return twin

    def goes_on_in(self, inputs: DecoderInputs) -> bool:
        """Whether these tokens are those of the last pass and more: how a text without a cache grows."""
        now, before = inputs.tokens, self._tokens
        if now is None or before is None or len(now) != len(before) or now.shape[1] <= before.shape[1]:
            return False
        return torch.equal(now[:, : before.shape[1]], before)


@dataclass(eq=False)
class _Call:
    """A ``generate`` that runs: its main stream, and those that were met between its steps."""

    stream: Stream
    prompt: Prompt
    awaited: bool = False  # the next pass is the main one
    beside: list[Stream] = field(default_factory=list)
    drafts: Stream | None = None


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.calls: list[_Call] = []


class Streams:
    """Hears of every ``generate`` and every pass of a block, and says which stream a pass belongs to.

    The main pass of a ``generate`` is announced by it. Any other pass is told by its cache; without one it begins a
    text of its own, or (inside ``generate``) goes on with the text it repeats.
    """

    def __init__(self, *, keep_text: bool) -> None:
        self._keep_text = keep_text
        self._of_thread = _OfThread()
        self._opener = threading.get_ident()
        self._by_cache: WeakKeyDictionary[Any, Stream] = WeakKeyDictionary()
        self._lock = threading.Lock()
        self._running: dict[int, list[_Call]] = {}  # thread -> its calls
        self._idle: Callable[[], None] = lambda: None

    def begins(self, prompt: Prompt) -> None:
        calls = self._of_thread.calls
        if prompt.draft and calls:
            outer = calls[-1]
            outer.drafts = outer.drafts or self._new(outer.prompt)
            call = _Call(outer.drafts, outer.prompt)
        else:
            call = _Call(self._new(prompt), prompt)
        calls.append(call)
        with self._lock:
            self._running[threading.get_ident()] = calls

    def ends(self) -> None:
        self._of_thread.calls.pop()
        with self._lock:
            if not self._of_thread.calls:
                self._running.pop(threading.get_ident(), None)
            if not self._running:
                self._idle()

    def when_idle(self, act: Callable[[], None]) -> None:
        """``act`` once no ``generate`` of the block runs any more."""
        with self._lock:
            self._idle = act
            if not self._running:
                act()

    def prepares(self, tokens: Int[Tensor, "b k"] | None) -> None:
        if not self._of_thread.calls:
            self._ensure_begun_here()
            return
        call = self._of_thread.calls[-1]
        call.awaited = True
        if tokens is not None:
            call.stream.sequences.tell(tokens)
            call.stream.gates.tell(tokens)

    @property
    def running(self) -> int:
        """How many threads are inside a ``generate`` that began in this block."""
        with self._lock:
            return len(self._running)

    @property
    def in_call(self) -> bool:
        """Whether this thread is inside a ``generate`` that began in this block."""
        return bool(self._of_thread.calls)

    def of(self, inputs: DecoderInputs) -> Stream:
        """The stream that a pass belongs to."""
        if inputs.again:  # a whole pass that is recomputed for its gradients: alone, and without a trace
            return self._new(None)
        call = self._of_thread.calls[-1] if self._of_thread.calls else None
        if call is not None and call.awaited:
            call.awaited = False
            return self._bound(call.stream, inputs.cache)
        if inputs.past > 0:
            return self._by_cache.get(inputs.cache) or self._bound(self._copied(inputs), inputs.cache)
        if call is None:
            return self._bound(self._new(None), inputs.cache)
        for stream in call.beside:
            if stream.cache() is None and stream.goes_on_in(inputs):
                return stream
        call.beside.append(self._new(Prompt(inputs.length, None, None)))
        return self._bound(call.beside[-1], inputs.cache)

    def learn(self, stream: Stream, output: Any) -> None:
        """After a pass: the cache that the decoder made for a stream that had none."""
        if stream.cache() is None:
            made = (getattr(output, name, None) for name in ("past_key_values", "cache_params"))
            self._bound(stream, next((cache for cache in made if cache is not None), None))

    def _copied(self, inputs: DecoderInputs) -> Stream:
        """For a cache that the block has not seen: filled before it, or the copy of one that it has seen."""
        there = dict.fromkeys(self._by_cache.values())
        alike = [one for one in there if one.columns == inputs.past and inputs.rows % one.rows == 0]
        if len(alike) > 1 and self._keep_text:
            raise UsageError(
                f"this pass goes on over the copy of a cache, and {len(alike)} texts of this length were seen in the "
                "block: which of them it continues decides what is steered; run the prompt over this cache inside the "
                "block, or let model.generate have the whole text"
            )
        return alike[0].fork() if len(alike) == 1 else self._new(None)

    def _new(self, prompt: Prompt | None) -> Stream:
        return Stream(keep_text=self._keep_text, prompt=prompt)

    def _bound(self, stream: Stream, cache: object | None) -> Stream:
        if cache is not None and stream.cache() is not cache:  # once per stream, not at every step
            self._by_cache[cache] = stream
            stream.cache = ref(cache)
        return stream

    def _ensure_begun_here(self) -> None:
        if threading.get_ident() != self._opener:
            raise UsageError(
                "a generate of another thread was under way when this steering block began, so its text would be "
                "steered from the middle on: open the block before it, or wait until it has ended"
            )
