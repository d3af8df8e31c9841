"""Texts that run as rows of one batch, token by token: new ones join between two passes, finished ones leave.

Rows are padded on the left to one width, so that all of them end in the last column. A model whose cache cannot be put
together so runs its rows from the first to the last one's end, or anew for every token: ``manner_of`` asks it.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tillerman.core.errors import ModelError, UsageError
from tillerman.models.batches import padded
from tillerman.models.forward import ForwardInfo
from tillerman.models.opened import OpenModel
from tillerman.models.roomy_cache import RoomyCache

_LOG = logging.getLogger(__name__)
_CACHES = ("past_key_values", "cache_params")  # what a model calls its cache: state-space models the second


@dataclass(frozen=True)
class Manner:
    """How a model's texts run: whether rows may ``join`` and leave; whether a pass holds the new tokens only, over a
    cache; whether texts of unequal length may stand side by side."""

    joins: bool = True
    cached: bool = True
    together: bool = True


MANNERS = (
    Manner(),
    Manner(joins=False),
    Manner(joins=False, cached=False),
    Manner(joins=False, together=False),
    Manner(joins=False, cached=False, together=False),
)


class Running:
    """A batch under way. ``tokens`` and ``real`` are of all its columns; the first ``past`` of them have been run."""

    def __init__(self, opened: OpenModel, manner: Manner, prompts: Sequence[Sequence[int]]) -> None:
        batch = padded(prompts, pad=opened.pad_id)
        self._opened, self._manner = opened, manner
        self.tokens: Int[Tensor, "b k"] = batch.tokens.to(opened.device)
        self.real: Bool[Tensor, "b k"] = batch.mask.to(opened.device).bool()
        self.past = 0
        self._cache: Any = RoomyCache() if manner.joins else None
        self._called = _CACHES[0]
        accepted = inspect.signature(type(opened.model).forward).parameters
        self._places = "position_ids" in accepted
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    @property
    def rows(self) -> int:
        return len(self.tokens)

    @property
    def width(self) -> int:
        return self.tokens.shape[1]

    def reach(self, upto: int) -> list[tuple[int, int]]:
        """Of each row's own tokens, which ones a pass up to this column holds: from, to."""
        ends = self.real[:, :upto].sum(1).tolist()
        starts = self.real[:, : self.past].sum(1).tolist() if self._manner.cached else [0] * self.rows
        return list(zip(starts, ends, strict=True))

    def info(self, upto: int) -> ForwardInfo:
        """What the pass up to this column is about."""
        past = self.past if self._manner.cached else 0
        info = ForwardInfo(past, self.real[:, :upto], self.tokens[:, past:upto])
        return replace(info, placed=info.positions) if self._places else info

    def run(self, upto: int) -> Float[Tensor, "b v"]:
        """The columns before ``upto`` that have not been run, and the logits after the last of them. A pass that
        fails leaves all as it was, where rows may join."""
        info = self.info(upto)
        given: dict[str, Any] = {} if info.placed is None else {"position_ids": info.placed}
        if self._manner.cached and self._cache is not None:
            given[self._called] = self._cache
        try:
            out = self._opened.model(
                input_ids=info.tokens,
                attention_mask=info.seen.long(),
                use_cache=self._manner.cached,
                **self._last_only,
                **given,
            )
        except BaseException:
            if self._manner.joins:
                self._cache.show(self.past)
            raise
        if self._manner.cached and self._cache is None:
            self._cache, self._called = _made(out)
        self.past = upto
        logits: Tensor = out.logits[:, -1]
        return logits

    def add(self, tokens: Sequence[int]) -> None:
        """A next token for every row."""
        self.tokens = torch.cat([self.tokens, torch.tensor(tokens, device=self.tokens.device)[:, None]], 1)
        self.real = torch.cat([self.real, self.real.new_ones(self.rows, 1)], 1)

    def keep(self, rows: Sequence[int]) -> Running:
        """Some of the rows, without the columns that are padding in all of them."""
        chosen = torch.tensor(rows, device=self.tokens.device)
        real = self.real[chosen]
        first = min(int(real.any(0).int().argmax()), self.past)
        cache = self._cache.kept(rows, first)
        return self._like(self.tokens[chosen, first:], real[:, first:], cache, self.past - first)

    def join(self, other: Running) -> Running:
        """The rows of both, each with one token left to run."""
        if self.width - self.past != other.width - other.past:
            raise UsageError("batches join where both have as many tokens left to run")
        width = max(self.width, other.width)
        past = max(self.past, other.past)
        tokens, real = (
            torch.cat([torch.nn.functional.pad(one, (width - one.shape[1], 0)) for one in pair])
            for pair in ((self.tokens, other.tokens), (self.real, other.real))
        )
        return self._like(tokens, real, self._cache.joined(other._cache, past), past)

    def _like(self, tokens: Tensor, real: Tensor, cache: RoomyCache, past: int) -> Running:
        made = Running.__new__(Running)
        made.__dict__.update(self.__dict__, tokens=tokens, real=real, _cache=cache, past=past)
        return made


def _made(out: Any) -> tuple[Any, str]:
    """The cache that the model made, and what it calls it."""
    for name in _CACHES:
        cache = getattr(out, name, None)
        if cache is not None:
            return cache, name
    raise ModelError("the model gives no cache")


_KNOWN: WeakKeyDictionary[OpenModel, Manner] = WeakKeyDictionary()
_FAULTS = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, NotImplementedError, ModelError)


def manner_of(opened: OpenModel) -> Manner:
    """The first of ``MANNERS`` under which rows of unequal length, one that joins late and one that leaves early, have
    the logits that each has alone. Asked once per model, by a few passes over short texts."""
    if opened not in _KNOWN:
        _KNOWN[opened] = next((one for one in MANNERS if _is_exact(opened, one)), MANNERS[-1])
        if not _KNOWN[opened].joins:
            _LOG.warning("rows of %s cannot join a running batch exactly; its batches are closed", opened.id)
    return _KNOWN[opened]


@torch.inference_mode()
def _is_exact(opened: OpenModel, manner: Manner) -> bool:
    vocabulary = int(opened.model.config.get_text_config().vocab_size)
    texts = [[(7 * k + 3 + j) % vocabulary for k in range(n)] for j, n in enumerate((9, 6))]
    longer = [[(5 * k + 2 + j) % vocabulary for k in range(3)] for j in range(2)]
    try:
        ours = _in_turns(opened, manner, texts, longer)
        theirs = [_alone(opened, text + more[:k]) for text, more in zip(texts, longer, strict=True) for k in (1, 2, 3)]
    except _FAULTS as error:
        _LOG.debug("%s does not run its texts so (%s): %s", opened.id, manner, error)
        return False
    apart = torch.stack([(a - b).abs().max() for a, b in zip(ours, theirs, strict=True)]).max()
    scale = torch.stack(theirs).std().clamp(min=1e-3)
    return bool(apart / scale <= (1e-3 if opened.model.dtype == torch.float32 else 0.2))


def _in_turns(opened: OpenModel, manner: Manner, texts: list[list[int]], more: list[list[int]]) -> list[Tensor]:
    """Logits after each text and its first, second and third further token: the second text joins when the first one
    is a token on, and stays alone at the end."""
    if manner.joins:
        first, second = (Running(opened, manner, [text]) for text in texts)
        first.run(5)  # in two pieces
        first.run(first.width)
        first.add(more[0][:1])
        found = [first.run(first.width)[0]]
        second.run(second.width)
        first.add(more[0][1:2])
        second.add(more[1][:1])
        both = first.join(second)
        a, b = both.run(both.width)
        both.add([more[0][2], more[1][1]])
        c, d = both.run(both.width)
        both.add([0, more[1][2]])
        left = both.keep([1])
        return [*found, a, c, b, d, left.run(left.width)[0]]
    batches = [[0, 1]] if manner.together else [[0], [1]]
    out: dict[int, list[Tensor]] = {0: [], 1: []}
    for members in batches:
        running = Running(opened, manner, [texts[i] for i in members])
        running.run(running.width)
        for k in range(3):
            running.add([more[i][k] for i in members])
            for i, logits in zip(members, running.run(running.width), strict=True):
                out[i].append(logits)
    return [*out[0], *out[1]]


def _alone(opened: OpenModel, text: list[int]) -> Tensor:
    logits: Tensor = opened.model(input_ids=torch.tensor([text], device=opened.device), use_cache=False).logits[0, -1]
    return logits
