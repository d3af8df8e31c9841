"""Gradient checkpointing: what a backward pass runs anew belongs to the pass that ran it first."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointFunction

from tillerman.core.errors import UsageError
from tillerman.models.links import Link
from tillerman.models.passes import Passes

T = TypeVar("T")
_FUNCTION = "_gradient_checkpointing_func"  # where transformers keeps it on every module that it checkpoints
_ENDED = (
    "this backward pass recomputes what was checkpointed in a steering block that has ended, so it would do so "
    "unsteered: call backward inside the block"
)
_BY_HAND = (
    "reentrant checkpointing by hand hides from the block whether its backward pass comes inside it: checkpoint with "
    "use_reentrant=False, or use model.gradient_checkpointing_enable()"
)


class Checkpoints:
    """The checkpointing functions of a decoder, each told which pass it runs in."""

    def __init__(self, decoder: nn.Module, passes: Passes[Any]) -> None:
        self._decoder, self._passes = decoder, passes
        self._links: dict[nn.Module, Link] = {}

    def renew(self) -> None:
        """Find those that were set since the last pass: training often turns checkpointing on by itself."""
        for module in self._decoder.modules():
            there = module.__dict__.get(_FUNCTION)
            if there is not None and not (module in self._links and self._links[module].in_place):
                self._links[module] = Link(module, _FUNCTION, self._checkpointed)

    def remove(self) -> None:
        for link in self._links.values():
            link.remove()

    def _checkpointed(self, checkpoint: Callable[..., Any], run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        passes, first = self._passes, True
        inputs, state = passes.kept()

        def ran(*given: Any, **more: Any) -> Any:
            nonlocal first
            if first:
                first = False
                with passes.checkpointing():
                    return run(*given, **more)
            if passes.closed:
                raise UsageError(_ENDED)
            with passes.resumed(inputs, state):
                return run(*given, **more)

        return checkpoint(ran, *args, **kwargs)


@contextmanager
def checkpoints_bound(decoder: nn.Module, passes: Passes[T]) -> Iterator[Checkpoints]:
    """Inside the block, what a checkpoint recomputes is edited as it was; afterwards it is an error."""
    bound = Checkpoints(decoder, passes)
    try:
        yield bound
    finally:
        passes.closed = True
        bound.remove()


def ensure_seen_again(h: Tensor, passes: Passes[Any]) -> None:
    """Of what is checkpointed by hand: an error now where it is reentrant, and later, in the backward pass, where
    the block has ended by then."""
    if passes.inside_checkpoint or passes.recomputing:
        return
    if torch.is_grad_enabled():
        hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
        if h.requires_grad and hooks is not None and "_checkpoint_hook" in getattr(hooks[0], "__qualname__", ""):
            h.register_hook(lambda _: _ensure_open(passes))  # type: ignore[no-untyped-call]
    elif passes.inputs.training and _in_reentrant():
        raise UsageError(_BY_HAND)


def _ensure_open(passes: Passes[Any]) -> None:
    if passes.closed:
        raise UsageError(_ENDED)


def _in_reentrant() -> bool:
    code, frame = CheckpointFunction.forward.__code__, sys._getframe(1)
    while frame is not None:
        if frame.f_code is code:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
