"""What a pass may hold on a model's devices: tokens, and logits, which count the vocabulary. A device that ran out of
memory holds half from then on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import nn

from tillerman.core.errors import ModelError
from tillerman.models.families import Anatomy

CPU_COPIES = 2**29  # bytes of keys and values of a beginning that rows share, once for each of them
CPU_KEPT = 2**27  # bytes of unsteered passes that a search comes back to
CPU_LOGITS = 2**24  # held at once: two windows of neutral text at a vocabulary of 49,152
_BYTES_PER_LOGIT = 16  # the model's own, and as log-probabilities with what makes them, in float32
_LOG = logging.getLogger(__name__)
_HALVED: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
T = TypeVar("T")
W = TypeVar("W")


def free_bytes(parts: Anatomy) -> int | None:
    """Free memory of the fullest accelerator that holds a part of the model; None where none says."""
    places = {p.device for p in parts.causal.parameters() if p.device.type in ("cuda", "xpu")}
    return min((int(torch.get_device_module(place).mem_get_info(place)[0]) for place in places), default=None)


def within(parts: Anatomy, amount: int) -> int:
    """Of an amount what the model's devices have shown to hold."""
    return max(1, amount >> _HALVED.get(parts.causal, 0))


def logit_room(parts: Anatomy) -> int:
    """Logits that a pass may hold: on an accelerator a sixteenth of what is free."""
    free = free_bytes(parts)
    return within(parts, CPU_LOGITS if free is None else free // 16 // _BYTES_PER_LOGIT)


def positions_at_once(parts: Anatomy) -> int:
    """For so many tokens the logits of the whole vocabulary may be held."""
    return max(1, logit_room(parts) // int(parts.causal.config.get_text_config().vocab_size))


def copies_at_once(parts: Anatomy, columns: int) -> int:
    """For so many rows keys and values of ``columns`` shared tokens may be copied, in all blocks."""
    free = free_bytes(parts)
    return max(1, within(parts, CPU_COPIES if free is None else free // 8) // (max(1, columns) * _seen_size(parts)))


def kept_room(parts: Anatomy) -> int:
    """Bytes of unsteered passes that may be kept for prompts that are asked again."""
    free = free_bytes(parts)
    return within(parts, CPU_KEPT if free is None else free // 16)


def kept_size(parts: Anatomy, shared: int, edited: int) -> int:
    """Bytes of what a pass keeps: keys and values of its ``shared`` tokens, and of its ``edited`` ones what enters
    each block."""
    states = (len(parts.blocks) + 1) * parts.width * parts.causal.dtype.itemsize
    return shared * _seen_size(parts) + edited * states


def _seen_size(parts: Anatomy) -> int:
    """Bytes of the keys and values of a token, in all blocks."""
    config = parts.causal.config.get_text_config()
    heads = int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
    width = heads * int(getattr(config, "head_dim", None) or parts.width // config.num_attention_heads)
    return 2 * width * len(parts.blocks) * int(parts.causal.dtype.itemsize)


def in_two(items: Sequence[T]) -> tuple[Sequence[T], ...]:
    """The first and the other half; of one item itself."""
    middle = len(items) // 2
    return (items[:middle], items[middle:]) if middle else (items,)


def fitting(
    parts: Anatomy, work: Iterable[W], run: Callable[[W], T], halves: Callable[[W], Iterable[W]]
) -> Iterator[tuple[W, T]]:
    """``run`` of each piece of work; of its two halves from the first on that a device has no memory for, which is
    said once.

    ``ModelError`` where half is still too much.
    """
    halved = False
    for piece in work:
        if not halved:
            try:
                done = run(piece)
            except torch.OutOfMemoryError:
                halved = True  # and on outside: the error holds what the pass had made
            else:
                yield piece, done
                continue
            _halve(parts)
        for half in halves(piece):
            yield half, _last_try(parts, half, run)


def _last_try(parts: Anatomy, piece: W, run: Callable[[W], T]) -> T:
    try:
        return run(piece)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{parts.device} has no memory for half a pass either; close what else uses the device, give shorter "
            "prompts, open the model in half precision or over several devices, or use the CPU"
        ) from error


def _halve(parts: Anatomy) -> None:
    _HALVED[parts.causal] = _HALVED.get(parts.causal, 0) + 1
    if parts.device.type in ("cuda", "xpu"):
        torch.get_device_module(parts.device).empty_cache()
    _LOG.warning("%s ran out of memory; passes hold half as much from here on", parts.device)
