"""Prompts that begin alike, as exemplars make them, for ``generate``: what they begin with is run once, in one row."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from transformers import DynamicCache

from tillerman.models.batches import Batch, common_prefix, padded
from tillerman.models.grid import branch_fault
from tillerman.models.opened import OpenModel

LEAST = 512  # tokens that are saved; fewer are not worth a pass of its own


@dataclass(frozen=True, eq=False)
class Prefilled:
    """Prompts whose first tokens are in ``cache``, for every row; padding stands between these and the others."""

    batch: Batch
    cache: DynamicCache


@torch.inference_mode()
def prefilled(opened: OpenModel, prompts: Sequence[Sequence[int]]) -> Prefilled | None:
    """None where there is too little to share, or a model whose cache is not one of keys and values of all tokens.

    Padding would count as distance in a sliding window, so models that have one are left out.
    """
    # All share what the first and the last in lexical order do; each leaves a token.
    order = sorted(map(tuple, prompts))
    shared = min(common_prefix(order[0], order[-1]), *(len(prompt) - 1 for prompt in order))
    if shared * (len(prompts) - 1) < LEAST or not _plain(opened):
        return None
    device, accepted = opened.device, inspect.signature(opened.parts.causal.forward).parameters
    first = torch.tensor([list(prompts[0][:shared])], device=device)
    last_only = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
    cache = DynamicCache(config=opened.parts.causal.config.get_text_config())
    opened.model(input_ids=first, past_key_values=cache, use_cache=True, **last_only)
    cache.batch_repeat_interleave(len(prompts))
    rest = padded([prompt[shared:] for prompt in prompts], pad=opened.pad_id)
    tokens = torch.cat([first.cpu().expand(len(prompts), -1), rest.tokens], dim=1)
    mask = torch.cat([torch.ones(len(prompts), shared, dtype=torch.long), rest.mask], dim=1)
    return Prefilled(replace(rest, tokens=tokens, mask=mask), cache)


def _plain(opened: OpenModel) -> bool:
    """Whether every block keeps keys and values of all tokens."""
    config, usual = opened.parts.causal.config.get_text_config(), opened.model.generation_config
    kinds = set(getattr(config, "layer_types", None) or ("full_attention",))
    if kinds != {"full_attention"} or getattr(config, "sliding_window", None):
        return False
    return getattr(usual, "cache_implementation", None) is None and branch_fault(opened) is None
