"""What one forward pass is about: which of its tokens are real, and where they stand.

Positions are absolute: counted over the KV cache, with padding left out, so that a plan means the
same tokens whatever the batch, the padding side or the cache.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from tillerman.core.errors import UsageError

CONTINUOUS = (
    "continuous batching (generate_batch, cache_implementation='paged') packs the tokens of many requests into one "
    "row, and nothing in a pass says which is whose: run it outside the block, or call model.generate with a batch"
)

PACKED = (
    "`position_ids` begin anew within a row, so that it holds several texts (packing), and scopes and gates mean one "
    "text a row: give each text a row of its own, padded, with an attention mask"
)


@dataclass(frozen=True)
class ForwardInfo:
    """One call of the decoder. ``past`` is the number of columns already in the cache."""

    past: int
    seen: Bool[Tensor, "b k"]  # all columns up to this call's last; False for padding
    tokens: Int[Tensor, "b s"] | None  # None where the caller gave embeddings
    placed: Int[Tensor, "_ s"] | None = None  # the positions that the caller gave, if any

    @property
    def columns(self) -> range:
        """The columns of this call in the sequence as the caller sees it, padding counted."""
        return range(self.past, self.seen.shape[1])

    @cached_property
    def real(self) -> Bool[Tensor, "b s"]:
        """False for padding."""
        return self.seen[:, self.past :]

    @cached_property  # a step that adds one token rarely asks for it
    def positions(self) -> Int[Tensor, "b s"]:
        """Absolute, among real tokens."""
        return (self.seen.long().cumsum(1)[:, self.past :] - 1).clamp(min=0)


@dataclass(frozen=True, eq=False)
class DecoderInputs:
    """What a call of the decoder was given. ``cache`` tells the streams of passes apart that run side by side."""

    tokens: Int[Tensor, "b s"] | None
    rows: int
    length: int
    past: int
    device: torch.device
    cache: object | None
    mask: Any
    placed: Int[Tensor, "_ s"] | None
    training: bool = False
    again: bool = False  # run anew by a backward pass, for its gradients

    def info(self, before: Bool[Tensor, "b k"] | None) -> ForwardInfo:
        """``before`` are the columns of earlier passes of the same stream, for masks that leave them out."""
        if before is None or before.shape[0] != self.rows or before.shape[1] < self.past:
            before = torch.ones(self.rows, self.past, dtype=torch.bool, device=self.device)
        real = _real_columns(self.mask, before[:, : self.past], self.length)
        return ForwardInfo(self.past, real, self.tokens, self.placed)

    def ensure_a_text_each(self, info: ForwardInfo) -> None:
        """``UsageError`` for rows in which several texts are packed. Padding may have any position."""
        if self.placed is None or self.length < 2:
            return
        back = self.placed[:, 1:] < self.placed[:, :-1]
        real = info.real.to(back.device)
        if bool((back & real[:, 1:] & real[:, :-1]).any()):
            raise UsageError(PACKED)


InputsReader = Callable[[tuple[Any, ...], dict[str, Any]], DecoderInputs]


def inputs_reader(decoder: nn.Module) -> InputsReader:
    """A function from the decoder's call arguments to ``DecoderInputs`` (GPT-2 passes some by position)."""
    # Of the class: an instance may have been wrapped by someone who takes (*args, **kwargs).
    names = tuple(inspect.signature(type(decoder).forward).parameters)[1:]
    counted: WeakKeyDictionary[Any, int] = WeakKeyDictionary()  # columns in caches that do not count them

    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> DecoderInputs:
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        if given.get("cache") is not None and given.get("past_key_values") is None:
            raise UsageError(CONTINUOUS)
        tokens, embeddings = given.get("input_ids"), given.get("inputs_embeds")
        shaped: Tensor = embeddings if tokens is None else tokens  # type: ignore[assignment] # one of the two is given
        rows, length = shaped.shape[:2]
        cache = given.get("past_key_values")
        cache = given.get("cache_params") if cache is None else cache  # what state-space models call it
        past = 0 if cache is None else _columns_in(cache, counted)
        if cache is not None:
            counted[cache] = past + length
        mask, placed = given.get("attention_mask"), _in_text(given.get("position_ids"))
        again = torch.is_grad_enabled() and in_backward() >= 0
        return DecoderInputs(tokens, rows, length, past, shaped.device, cache, mask, placed, decoder.training, again)

    return read


def _in_text(positions: Tensor | None) -> Int[Tensor, "_ s"] | None:
    """Models that see give a position per axis of an image too: ``[4, b, s]`` begins with those in the text."""
    if positions is None or positions.ndim == 2:
        return positions
    return positions[0] if positions.ndim == 3 and positions.shape[0] == 4 else None


def _columns_in(cache: Any, counted: Mapping[Any, int]) -> int:
    try:
        return int(cache.get_seq_length())
    except ValueError:  # a state that stands for all tokens so far, without a count of them
        return counted.get(cache, 0)


def in_backward() -> int:
    """Which backward pass this thread works on, -1 for none: what runs in one is a recomputation."""
    return int(torch._C._current_graph_task_id())


def _real_columns(mask: Any, before: Bool[Tensor, "b p"], length: int) -> Bool[Tensor, "b k"]:
    """Which of all columns up to this pass's last are real tokens, from a 2-D or a prepared 4-D mask.

    ``before`` stands in for older columns where the mask does not show them (a sliding window)."""
    columns = before.shape[1] + length
    if isinstance(mask, dict):  # one prepared mask per kind of layer; the full one sees all keys
        mask = mask.get("full_attention", next(iter(mask.values()), None))
    if mask is None or not isinstance(mask, Tensor):
        return torch.cat([before, before.new_ones(len(before), length)], dim=1)
    if mask.ndim == 2:
        real = mask[:, :columns].bool()
        missing = columns - real.shape[1]  # a mask for the new columns only: older ones were real
        return torch.cat([real.new_ones(len(before), missing), real], dim=1) if missing > 0 else real
    # Real is what any query sees: the last one alone may look back over a window only.
    seen = (mask if mask.dtype == torch.bool else mask == 0)[:, 0].any(1).expand(len(before), -1).to(before.device)
    if seen.shape[1] >= columns:
        return seen[:, :columns]
    return torch.cat([before, seen[:, -length:]], dim=1)
