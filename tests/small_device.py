"""A stand-in for a device with little memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tillerman.models.opened import OpenModel


@contextmanager
def small_device(opened: OpenModel, most: int) -> Iterator[list[int]]:
    """The model has no memory for a pass of more than so many tokens; given is how many each pass had, refused ones
    too."""
    sizes: list[int] = []

    def before(_, __, kwargs):
        sizes.append(kwargs["input_ids"].numel())
        if sizes[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = opened.parts.decoder.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield sizes
    finally:
        handle.remove()
