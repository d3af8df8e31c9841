"""Change activations during a forward pass. The only place, with ``capture``, that hangs hooks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tillerman.core.errors import UsageError
from tillerman.core.hookpoint import ROUTER_SITES, HookPoint
from tillerman.models.families import Anatomy
from tillerman.models.forward import DecoderInputs, inputs_reader
from tillerman.models.passes import Passes, owned
from tillerman.models.recomputation import checkpoints_bound
from tillerman.models.routing import with_logits, with_weights

_F = TypeVar("_F", bound=Callable[..., Any])
T = TypeVar("T")
Edit = Callable[[Tensor], Tensor]  # [b, s, d] -> [b, s, d]


@contextmanager
def edit_forward(
    parts: Anatomy,
    edits: Mapping[HookPoint, Edit],
    on_forward: Callable[[DecoderInputs], T],
    on_end: Callable[[T, Any], None] | None = None,
    passes: Passes[T] | None = None,
) -> Iterator[None]:
    """Apply ``edits`` at their hook points in every forward pass inside the block; of the threads, in this one's
    passes only, unless ``passes`` says otherwise.

    ``on_forward`` is told about each pass before its first block runs; what it gives is kept in ``passes``, and
    ``on_end`` gets it with what the decoder gave. Only our own hooks are removed at the end; weights, configuration
    and other hooks stay as they are. A deep copy of the model that is made inside the block is not edited.
    """
    hung: list[tuple[RemovableHandle, _Place]] = []
    read = inputs_reader(parts.decoder)
    passes = Passes(everywhere=False) if passes is None else passes

    def hang(module: nn.Module, act: Callable[..., Any], *, before: bool) -> None:
        place = _Place(module, act)
        register = module.register_forward_pre_hook if before else module.register_forward_hook
        hung.append((register(lambda m, *given: place(m, *given), with_kwargs=True), place))

    def announce(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if passes.concerned:
            inputs = read(args, kwargs)
            passes.begin(inputs, on_forward(inputs))
            if inputs.training and torch.is_grad_enabled():
                bound.renew()

    def ended(_: nn.Module, __: Any, ___: Any, output: Any) -> None:
        if passes.concerned:
            if on_end is not None and not passes.recomputing:
                on_end(passes.now, output)
            passes.end()

    def rows() -> int:
        return passes.inputs.rows if passes.concerned else 1

    renew_graphs(parts.causal)
    with owned(parts.decoder), checkpoints_bound(parts.decoder, passes) as bound:
        try:
            hang(parts.decoder, _not_compiled(announce), before=True)
            for point, plain in edits.items():
                edit = _not_compiled(_only_concerned(plain, passes))
                if parts.active is not None and point.site not in ROUTER_SITES:
                    edit = on_copy(edit, parts.active)
                before = point.site in ("resid_pre", "heads", "router_weights")
                hang(parts.part(point), _act_at(parts, point, edit, _not_compiled(rows)), before=before)
            hang(parts.decoder, _not_compiled(ended), before=False)
            yield
        finally:
            for handle, place in hung:
                handle.remove()
                place.clear()


def stop_passes(decoder: nn.Module, wanted: Callable[[], bool], why: str) -> Callable[[], None]:
    """Have passes of threads for which ``wanted`` is true raise ``UsageError``; what comes back puts an end to it."""

    def stop(_: nn.Module, __: Any) -> None:
        if wanted():
            raise UsageError(why)

    return decoder.register_forward_pre_hook(stop).remove


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


class _Place:
    """Where an edit hangs. A deep copy of the module has the same hooks and another identity: nothing is done
    there, then or later."""

    def __init__(self, module: nn.Module, act: Callable[..., Any]) -> None:
        self._module: nn.Module | None = module
        self._act: Callable[..., Any] | None = act

    def __call__(self, module: nn.Module, *given: Any) -> Any:
        if module is self._module and self._act is not None:
            return self._act(module, *given)
        if self._module is not None and getattr(module, "_is_replica", False):
            raise UsageError("torch.nn.DataParallel copies the model for every pass, and copies are not steered")
        return None

    def clear(self) -> None:
        self._module = self._act = None


def _act_at(parts: Anatomy, point: HookPoint, edit: Edit, rows: Callable[[], int]) -> Callable[..., Any]:
    """What the hook at a point does. Routers see the tokens of all rows in one line; ``rows`` says how many rows the
    pass has. The weights are edited where the experts take them, so after every edit of the logits, whichever was
    hung first."""
    if point.site == "router":
        logits = _not_compiled(with_logits)  # what it changes for the router's own code is not for a graph
        return lambda m, a, k, out: logits(edit, m, (a, k), out, rows())
    if point.site == "router_weights":
        experts = parts.width_at(point)
        return lambda m, a, k: (with_weights(edit, a, rows(), experts), k)
    if point.site in ("resid_pre", "heads"):
        return lambda m, a, k: with_input(edit, a, k)
    return lambda m, a, k, out: with_output(edit, out, rows)


def _only_concerned(edit: Edit, passes: Passes[Any]) -> Edit:
    def edited(h: Tensor) -> Tensor:
        return edit(h) if passes.concerned else h

    return edited


def with_input(edit: Edit, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The block's arguments with its hidden states edited; families pass them by position or name."""
    if args:
        return (edit(args[0]), *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": edit(kwargs["hidden_states"])}


def with_output(edit: Edit, output: Any, rows: Callable[[], int] = lambda: 1) -> Any:
    """Blocks return a tensor in transformers 5; attention, mixtures and older blocks a tuple led by it. Some parts
    give the tokens of all rows in one line, ``[b * s, d]``; the first GPT's blocks give a list."""
    several = isinstance(output, tuple | list)
    h = output[0] if several else output
    new = edit(h.view(rows(), -1, h.shape[-1])).view(h.shape) if h.ndim == 2 else edit(h)
    return type(output)((new, *output[1:])) if several else new


def on_copy(edit: Edit, index: int) -> Edit:
    """``edit`` for one of several copies of the stream side by side, ``[copies, b, s, d]``."""

    def of_one(h: Tensor) -> Tensor:
        if h.ndim != 4:  # a part that works on one copy
            return edit(h)
        new = edit(h[index])
        return torch.cat([h[:index], new[None], h[index + 1 :]])

    return of_one
