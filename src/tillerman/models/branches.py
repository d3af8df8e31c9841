"""Many variants of the end of a prompt for the price of one prompt.

A *stem* is a batch of prompts, run once. Its *branches* are query tokens of one second pass, side by
side: each sees the stem and the tokens of its own branch, at the positions it would have had. So the
cells of a grid (the same last tokens under many edits), or the answers to one question, share all that
comes before them. ``docs/design/branches.md`` draws it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache

from tillerman.core.hookpoint import HookPoint
from tillerman.models.batches import Batch
from tillerman.models.edit import Edit, edit_forward
from tillerman.models.families import Anatomy
from tillerman.models.restart import Restart, entry, starting


class StemCache(DynamicCache):
    """Keys and values of a stem. Once ``columns`` is set, a pass reads them and leaves nothing behind. Those of the
    stem ``after`` which it comes are not copied but read there."""

    columns: int | None = None

    def __init__(self, after: StemCache | None = None) -> None:
        super().__init__()
        self.after = after

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **more: Any
    ) -> tuple[Tensor, Tensor]:
        new = (key_states, value_states)
        if self.columns is None:
            new = super().update(key_states, value_states, layer_idx, *args, **more)
        pairs = [*self._before(layer_idx, len(key_states)), new]
        keys, values = (side[0] if len(side) == 1 else torch.cat(side, dim=-2) for side in zip(*pairs, strict=True))
        return keys, values

    def _before(self, layer: int, rows: int) -> list[tuple[Tensor, Tensor]]:
        """What new tokens of so many rows see before their own; a stem of one row serves any number of them."""
        before = [] if self.after is None else self.after._before(layer, rows)
        if not self.columns:
            return before
        kept: Any = self.layers[layer]
        keys, values = (t[..., : self.columns, :].expand(rows, -1, -1, -1) for t in (kept.keys, kept.values))
        return [*before, (keys, values)]


@dataclass(frozen=True, eq=False)
class Stem:
    """A batch of prompts that was run once, left-padded; or one prompt that all rows of branches, or other stems,
    follow.

    ``real`` and ``positions`` are of the ``s`` shared columns; ``tail`` holds the last tokens, which were
    left out of them (short prompts may have padding there too), and ``entering[border]`` what enters a
    block at these tokens, unsteered.
    """

    cache: StemCache
    real: Bool[Tensor, "b s"]
    positions: Int[Tensor, "b s"]
    tail: Int[Tensor, "b t"]
    tail_real: Bool[Tensor, "b t"]
    entering: Mapping[int, Float[Tensor, "b t d"]]


@dataclass(frozen=True, eq=False)
class Branches:
    """Query tokens after a stem. Token ``q`` of row ``b`` belongs to branch ``owner[b, q]`` (-1: padding)
    and is its ``step[b, q]``-th token."""

    tokens: Int[Tensor, "b q"]
    owner: Int[Tensor, "b q"]
    step: Int[Tensor, "b q"]


class DeepEnoughError(Exception):
    """Ends a forward pass at the deepest hook point it is needed for."""


def stop(h: Tensor) -> Tensor:
    """An edit that ends the pass."""
    raise DeepEnoughError


@torch.inference_mode()
def run_stem(
    parts: Anatomy,
    batch: Batch,
    tail: int,
    borders: Sequence[int] = (),
    *,
    until: HookPoint | None = None,
    after: Stem | None = None,
    edits: Mapping[HookPoint, Edit] | None = None,
    restart: Restart | None = None,
) -> Stem:
    """One pass over the prompts, unsteered but for ``edits``. Their last ``tail`` columns are left to branches; what
    enters each border there is kept. ``until`` ends the pass at the deepest hook point that branches need. ``after``
    is a stem of one row that all prompts follow. Blocks below the border of ``restart`` keep nothing."""
    device = parts.device
    entering: dict[int, Tensor] = {}

    def keeper(border: int) -> Edit:
        def keep(h: Tensor) -> Tensor:
            entering[border] = h[:, h.shape[1] - tail :].clone()
            return h

        return keep

    cache = StemCache(None if after is None else after.cache)
    hung = {**(edits or {}), **{entry(parts, border): keeper(border) for border in borders}}
    if until is not None:
        hung[until] = stop
    tokens, positions, real = batch.tokens.to(device), batch.positions.to(device), batch.mask.to(device).bool()
    shared = tokens.shape[1] - tail
    with suppress(DeepEnoughError):
        if after is None:
            with edit_forward(parts, hung, lambda _: None), starting(parts, restart):
                parts.decoder(
                    input_ids=tokens,
                    attention_mask=batch.mask.to(device),
                    past_key_values=cache,
                    use_cache=True,
                    **placed(parts, positions),
                )
        else:
            begun = Stem(cache, after.real, after.positions, after.tail, after.tail_real, {})
            pass_over(parts, begun, Branches(tokens, torch.where(real, 0, -1), positions), hung, restart=restart)
    cache.columns = shared
    seen, places = real[:, :shared], positions[:, :shared]
    if after is not None:
        before = after.real.shape[1]
        seen = torch.cat([after.real.expand(len(real), -1), seen], 1)
        places = torch.cat([after.positions.expand(len(real), -1), places + before], 1)
    return Stem(cache, seen, places, tokens[:, shared:], real[:, shared:], entering)


def unshared(parts: Anatomy, batch: Batch) -> Stem:
    """A stem of no columns: all of the prompts is left to branches, for models that cannot share it."""
    tokens, real = batch.tokens.to(parts.device), batch.mask.to(parts.device).bool()
    return Stem(StemCache(), real[:, :0], tokens[:, :0], tokens, real, {})


@torch.inference_mode()
def run_branches(
    parts: Anatomy,
    stem: Stem,
    branches: Branches,
    edits: Mapping[HookPoint, Edit],
    *,
    restart: Restart | None = None,
) -> Float[Tensor, "b q d"]:
    """What the decoder gives at every query token, its last norm included. ``restart`` hands in what
    enters its border at the query tokens, and the blocks below it do not run."""
    return pass_over(parts, stem, branches, edits, restart=restart)


def pass_over(
    parts: Anatomy,
    stem: Stem,
    branches: Branches,
    edits: Mapping[HookPoint, Edit],
    *,
    restart: Restart | None = None,
) -> Float[Tensor, "b q d"]:
    """``run_branches`` under the grad mode of the caller. The stem's keys and values carry no gradient."""
    positions = branches.step + stem.real.sum(1, keepdim=True)
    seen: dict[str, Any]
    if stem.real.shape[1] == 0 and int(branches.owner.max()) == 0:
        # One branch that is the whole prompt: an ordinary pass, with the attention kernel of ordinary passes.
        seen = {"attention_mask": (branches.owner == 0).long(), "use_cache": False}
    else:
        mask = _mask(parts, stem, branches, positions)
        seen = {"attention_mask": mask, "past_key_values": stem.cache, "use_cache": True}
    with edit_forward(parts, edits, lambda _: None), starting(parts, restart):
        out: Tensor = parts.decoder(input_ids=branches.tokens, **seen, **placed(parts, positions)).last_hidden_state
    return out.to(positions.device)  # the last block of a split model is elsewhere


def placed(parts: Anatomy, positions: Int[Tensor, "b s"]) -> dict[str, Any]:
    accepted = inspect.signature(parts.decoder.forward).parameters
    return {"position_ids": positions} if "position_ids" in accepted else {}


def _mask(parts: Anatomy, stem: Stem, branches: Branches, positions: Int[Tensor, "b q"]) -> Tensor | dict[str, Tensor]:
    """Additive 4-D masks ``[b, 1, q, s + q]``, one per kind of attention layer."""
    own = (branches.owner[:, :, None] == branches.owner[:, None, :]) & (
        branches.step[:, :, None] >= branches.step[:, None, :]
    )
    before = stem.real[:, None, :].expand(*positions.shape, -1)
    seen = torch.cat([before, own], dim=2)
    config = parts.causal.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or ()
    window = getattr(config, "sliding_window", None)
    full = _additive(seen, parts.causal.dtype)
    if not window or (kinds and "sliding_attention" not in kinds):
        return full
    keys = torch.cat([stem.positions.expand(len(positions), -1), positions], dim=1)
    distance = positions[:, :, None] - keys[:, None, :]
    near = _additive(seen & (distance < window), parts.causal.dtype)
    return {"full_attention": full, "sliding_attention": near} if kinds else near


def _additive(seen: Bool[Tensor, "b q k"], dtype: torch.dtype) -> Float[Tensor, "b 1 q k"]:
    blocked = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return blocked.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]
