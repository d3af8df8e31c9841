"""Find the decoder blocks of any model by what a pass does: a list of modules, each taking what the one before gave."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tillerman.core.errors import ModelError
from tillerman.models.families import device_of

_TOKENS = 5
# What models raise that want other inputs than text.
_FAILURES = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ImportError, AssertionError)


@dataclass(frozen=True, eq=False)
class Chain:
    """``blocks`` lie at ``path`` in ``decoder``, which is called with the tokens and lies at ``decoder_path`` in the
    model's ``base_model``."""

    decoder: nn.Module
    decoder_path: str
    blocks: tuple[nn.Module, ...]
    path: str


@dataclass
class _Seen:
    """What went into and came out of every module of interest in one pass."""

    order: list[nn.Module] = field(default_factory=list)
    taken: dict[nn.Module, Tensor] = field(default_factory=dict)
    given: dict[nn.Module, Tensor] = field(default_factory=dict)
    widths: dict[nn.Module, int] = field(default_factory=dict)  # of what every module gave first


@torch.inference_mode()
def find_chain(causal: PreTrainedModel) -> Chain:
    """The longest list of modules that hand the stream on to each other in a pass over text, once each.

    Two passes of five tokens. ``ModelError`` where no list does, or where an earlier token sees a later one.
    """
    base = causal.base_model
    lists = {
        name: tuple(part)
        for name, part in base.named_modules()
        if isinstance(part, nn.ModuleList) and not _inside(name)
    }
    modules = {name: part for name, part in base.named_modules() if not _inside(name)}
    seen = _watched(causal, {block for blocks in lists.values() for block in blocks} | set(modules.values()))
    width = int(causal.config.get_text_config().hidden_size)
    chains = {name: blocks for name, blocks in lists.items() if _hands_on(blocks, seen, width)}
    kind = causal.config.model_type
    if not chains:
        tried = ", ".join(name for name in lists if name) or "none"
        raise ModelError(
            f"model type {kind!r}: no list of modules in {type(base).__name__} hands a stream of width {width} on from "
            f"block to block in a pass over text (lists: {tried}), so there is nothing to guess; write a layout row "
            "(tillerman.models.families)"
        )
    name = max(chains, key=lambda one: len(chains[one]))
    pieces = name.split(".")
    holders = [".".join(pieces[:i]) for i in range(len(pieces))]  # from base_model inwards
    # The outermost that is called and gives a stream, not logits.
    holder = next((one for one in holders if seen.widths.get(modules[one]) == width), holders[-1])
    path = name[len(holder) + 1 :] if holder else name
    _ensure_causal(causal, chains[name][-1])
    return Chain(modules[holder], holder, chains[name], path)


def _inside(name: str) -> bool:
    """Whether this is a part of a block: experts may be a longer list than the blocks that hold them."""
    return any(part.isdecimal() for part in name.split("."))


def _hands_on(blocks: tuple[nn.Module, ...], seen: _Seen, width: int) -> bool:
    if not blocks or any(seen.order.count(block) != 1 or block not in seen.given for block in blocks):
        return False
    if any(h.shape[-1] != width or h.shape[-2] != _TOKENS for block in blocks for h in (seen.taken[block],)):
        return False
    return all(torch.equal(seen.given[one], seen.taken[following]) for one, following in pairwise(blocks))


def _watched(causal: PreTrainedModel, modules: set[nn.Module], last: int = 0) -> _Seen:
    """One pass over text, seen by all ``modules``."""
    seen = _Seen()

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.order.append(module)
        h = args[0] if args else kwargs.get("hidden_states")
        if isinstance(h, Tensor) and h.is_floating_point() and h.ndim > 2:
            seen.taken[module] = h.clone()  # some blocks add in place

    def after(module: nn.Module, _: Any, output: Any) -> None:
        h = output[0] if isinstance(output, tuple | list) else output
        h = next(iter(h.values()), None) if isinstance(h, dict) else h
        if isinstance(h, Tensor):
            seen.widths[module] = h.shape[-1]
        if isinstance(h, Tensor) and module in seen.taken:
            seen.given[module] = h.clone()

    tokens = torch.tensor([[3, 4, 5, 6, 7 + last]], device=device_of(causal))
    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(after).remove)
        try:
            causal(input_ids=tokens, use_cache=False)
        except _FAILURES as error:
            raise ModelError(
                f"model type {causal.config.model_type!r}: a pass over five tokens of text fails "
                f"({type(error).__name__}: {str(error)[:200]}), so there is nothing to guess; write a layout row"
            ) from error
    return seen


def _ensure_causal(causal: PreTrainedModel, block: nn.Module) -> None:
    """Change the last token: nothing before it may change."""
    one, other = (_watched(causal, {block}, last).given[block] for last in (0, 1))
    before = (one[..., :-1, :] - other[..., :-1, :]).abs().max()
    if before > 1e-3 * one.abs().max():
        raise ModelError(
            f"model type {causal.config.model_type!r}: an earlier token sees a later one, so this is no causal decoder "
            "but an encoder, or reads its whole prompt at once (PaliGemma); what it would write cannot be scored here"
        )
