"""What a pass may hold on a model's devices: tokens, and logits, which count the vocabulary. A device that ran out of
memory holds half from then on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import nn

from tillerman.core.errors import ModelError
from tillerman.models.families import Anatomy

if TYPE_CHECKING:
    from tillerman.models.batches import Batch

CPU_LOGITS = 2**24  # held at once: two windows of neutral text at a vocabulary of 49,152
_BYTES_PER_LOGIT = 16  # the model's own, and as log-probabilities with what makes them, in float32
_LOG = logging.getLogger(__name__)
_HALVED: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
T = TypeVar("T")


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


def fitting(parts: Anatomy, work: Iterable[Batch], run: Callable[[Batch], T]) -> Iterator[tuple[Batch, T]]:
    """``run`` of each batch; of its two halves from the first on that a device has no memory for, which is said once.

    ``ModelError`` where half is still too much.
    """
    halved = False
    for batch in work:
        if not halved:
            try:
                done = run(batch)
            except torch.OutOfMemoryError:
                halved = True  # and on outside: the error holds what the pass had made
            else:
                yield batch, done
                continue
            _halve(parts)
        for half in batch.halves():
            yield half, _last_try(parts, half, run)


def _last_try(parts: Anatomy, batch: Batch, run: Callable[[Batch], T]) -> T:
    try:
        return run(batch)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{parts.device}: no memory for a pass of {len(batch.rows)} prompts of {batch.tokens.shape[1]} tokens, "
            "half of what was tried before; close what else uses the device, give shorter prompts, open the model in "
            "half precision or over several devices, or use the CPU"
        ) from error


def _halve(parts: Anatomy) -> None:
    _HALVED[parts.causal] = _HALVED.get(parts.causal, 0) + 1
    if parts.device.type in ("cuda", "xpu"):
        torch.get_device_module(parts.device).empty_cache()
    _LOG.warning("%s ran out of memory; passes hold half as much from here on", parts.device)
