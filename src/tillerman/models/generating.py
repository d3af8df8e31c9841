"""Calls of ``generate`` on a live model, as a listener sees them: what begins, what is about to run, what ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Int
from torch import Tensor, nn
from transformers import GenerationMixin

from tillerman.core.errors import UsageError
from tillerman.models.forward import CONTINUOUS
from tillerman.models.links import Link

_TAKEN = (
    "this generate was taken from the model inside a steering block that has ended, so its text would be unsteered: "
    "call model.generate anew, or run it to its end inside the block"
)


@dataclass(frozen=True, eq=False)
class Prompt:
    """What ``generate`` was given: how many columns, cached ones among them, and the tokens and mask where they are
    known. ``draft`` for a call that proposes tokens to another one."""

    columns: int
    tokens: Int[Tensor, "b k"] | None
    mask: Int[Tensor, "b k"] | None
    draft: bool = False


@runtime_checkable
class Listener(Protocol):
    def begins(self, prompt: Prompt) -> None:
        """A call of ``generate`` in this thread."""

    def ends(self) -> None:
        """The latest of this thread's calls is over, with an exception or without."""

    def prepares(self, tokens: Int[Tensor, "b k"] | None) -> None:
        """The next pass is the main one of this thread's latest call; ``tokens`` are its text so far."""


@contextmanager
def heard(model: nn.Module, listener: Listener) -> Iterator[None]:
    """Tell ``listener`` of every ``generate`` inside the block, whatever its thread.

    Without a KV cache every step looks like a new, longer prompt, and other passes (guidance, drafts) may run
    between two steps; only ``generate`` knows. Its methods are wrapped on this instance alone, and the wrappers are
    taken off again, in any order where several blocks are open.
    """
    over = False

    def generating(generate: Any, *args: Any, **kwargs: Any) -> Any:
        if over:
            raise UsageError(_TAKEN)
        listener.begins(_prompt(args, kwargs))
        try:
            return generate(*args, **kwargs)
        finally:
            listener.ends()

    def preparing(prepare: Any, *args: Any, **kwargs: Any) -> Any:
        if not over:
            tokens = args[0] if args else kwargs.get("input_ids")
            listener.prepares(tokens if isinstance(tokens, Tensor) else None)
        return prepare(*args, **kwargs)

    def packing(pack: Any, *args: Any, **kwargs: Any) -> Any:
        if not over:
            raise UsageError(CONTINUOUS)
        return pack(*args, **kwargs)

    around = {
        "generate": generating,
        "prepare_inputs_for_generation": preparing,
        "init_continuous_batching": packing,
    }
    holders = [module for module in model.modules() if isinstance(module, GenerationMixin)]
    links: list[Link] = []
    try:
        for holder in holders:
            links += [Link(holder, name, how) for name, how in around.items() if name in dir(type(holder))]
        yield
    finally:
        over = True
        for link in links:
            link.remove()


def _prompt(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Prompt:
    named = (kwargs.get("inputs_embeds"), *args[:1], kwargs.get("inputs"), kwargs.get("input_ids"))
    given = next((one for one in named if isinstance(one, Tensor)), None)
    if given is None:  # a text from nothing begins with one token
        return Prompt(1, None, None)
    mask = kwargs.get("attention_mask")
    mask = mask if isinstance(mask, Tensor) and mask.ndim == 2 else None
    columns = int(given.shape[1])
    # Over a cache, the new tokens alone may be given: then the mask is longer.
    known = given if given.ndim == 2 and (mask is None or mask.shape[1] == columns) else None
    columns = columns if mask is None else max(columns, mask.shape[1])
    config = kwargs.get("generation_config", args[1] if len(args) > 1 else None)
    return Prompt(columns, known, mask, draft=bool(getattr(config, "is_assistant", False)))
