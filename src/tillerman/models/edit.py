"""Change activations during a forward pass. The only place, with ``capture``, that hangs hooks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tillerman.core.hookpoint import ROUTER_SITES, HookPoint
from tillerman.models.families import Anatomy
from tillerman.models.forward import ForwardInfo, forward_reader
from tillerman.models.routing import with_logits, with_weights

_F = TypeVar("_F", bound=Callable[..., Any])
Edit = Callable[[Tensor], Tensor]  # [b, s, d] -> [b, s, d]


@contextmanager
def edit_forward(
    parts: Anatomy, edits: Mapping[HookPoint, Edit], on_forward: Callable[[ForwardInfo], None]
) -> Iterator[None]:
    """Apply ``edits`` at their hook points in every forward pass inside the block.

    ``on_forward`` is told about each pass before its first block runs. Only our own hooks are
    removed at the end; weights, configuration and other hooks stay as they are.
    """
    handles: list[RemovableHandle] = []
    read = forward_reader(parts.decoder)
    rows = 1

    def announce(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal rows
        info = read(args, kwargs)
        rows = len(info.real)
        on_forward(info)

    renew_graphs(parts.causal)
    try:
        handles.append(parts.decoder.register_forward_pre_hook(_not_compiled(announce), with_kwargs=True))
        for point, plain in edits.items():
            edit = _not_compiled(plain)
            module = parts.part(point)
            if point.site in ROUTER_SITES:
                handles.append(_hang_routed(module, point.site, parts.width_at(point), edit, lambda: rows))
            else:
                whole = edit if parts.active is None else on_copy(edit, parts.active)
                handles.append(_hang(module, point.site, whole, lambda: rows))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _not_compiled(function: _F) -> _F:
    """Kept out of compiled graphs: a plan may change between two passes, and a graph would freeze it."""
    return torch.compiler.disable(function)  # type: ignore[no-untyped-call, no-any-return]


def renew_graphs(model: nn.Module) -> None:
    """Have a compiled model compiled anew: graphs made without hooks would not meet them, and say nothing."""
    if "torch._dynamo" in sys.modules and any(map(_is_compiled, model.modules())):
        torch.compiler.reset()


def _is_compiled(module: nn.Module) -> bool:
    own = module.__dict__.get("forward")
    return (
        type(module).__name__ == "OptimizedModule"
        or module._compiled_call_impl is not None
        or getattr(own, "_torchdynamo_orig_callable", None) is not None
    )


def _hang(module: nn.Module, site: str, edit: Edit, rows: Callable[[], int]) -> RemovableHandle:
    if site in ("resid_pre", "heads"):
        return module.register_forward_pre_hook(lambda _, a, k: with_input(edit, a, k), with_kwargs=True)
    return module.register_forward_hook(lambda _, __, output: with_output(edit, output, rows()))


def _hang_routed(module: nn.Module, site: str, experts: int, edit: Edit, rows: Callable[[], int]) -> RemovableHandle:
    """Routers see the tokens of all rows in one line; ``rows`` says how many rows the pass has. The weights
    are edited where the experts take them, so after every edit of the logits, whichever was hung first."""
    if site == "router":
        logits = _not_compiled(with_logits)  # what it changes for the router's own code is not for a graph
        return module.register_forward_hook(lambda m, a, k, out: logits(edit, m, (a, k), out, rows()), with_kwargs=True)
    return module.register_forward_pre_hook(lambda _, args: with_weights(edit, args, rows(), experts))


def with_input(edit: Edit, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The block's arguments with its hidden states edited; families pass them by position or name."""
    if args:
        return (edit(args[0]), *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": edit(kwargs["hidden_states"])}


def with_output(edit: Edit, output: Any, rows: int = 1) -> Any:
    """Blocks return a tensor in transformers 5; attention, mixtures and older blocks a tuple led by it. Some parts
    give the tokens of all rows in one line, ``[b * s, d]``; the first GPT's blocks give a list."""
    several = isinstance(output, tuple | list)
    h = output[0] if several else output
    new = edit(h.view(rows, -1, h.shape[-1])).view(h.shape) if h.ndim == 2 else edit(h)
    return type(output)((new, *output[1:])) if several else new


def on_copy(edit: Edit, index: int) -> Edit:
    """``edit`` for one of several copies of the stream side by side, ``[copies, b, s, d]``."""

    def of_one(h: Tensor) -> Tensor:
        if h.ndim != 4:  # a part that works on one copy
            return edit(h)
        new = edit(h[index])
        return torch.cat([h[:index], new[None], h[index + 1 :]])

    return of_one
