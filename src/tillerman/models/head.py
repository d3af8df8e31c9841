"""The language-model head, asked for chosen tokens only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tillerman.models.families import Anatomy

_LOGITS = 2**23  # held at once


def option_head(
    parts: Anatomy, options: Sequence[Sequence[int]], device: torch.device
) -> Callable[[Float[Tensor, "b c d"]], Float[Tensor, "c b o"]]:
    """The language-model head, for each row's own options only."""
    head = parts.causal.get_output_embeddings()  # type: ignore[no-untyped-call]
    longest = max(map(len, options))
    tokens = torch.tensor([[*row, *[row[0]] * (longest - len(row))] for row in options], device=device)
    if type(head) is nn.Linear and type(head.weight) is nn.Parameter and not head.weight.is_meta:
        weight = head.weight[tokens]  # [b, o, d]
        bias = 0.0 if head.bias is None else head.bias[tokens]
        return lambda hidden: _capped(parts, torch.einsum("bcd,bod->cbo", hidden, weight) + bias)
    # A quantised, split, offloaded or wrapped head is asked for the whole vocabulary.
    return lambda hidden: head(hidden).gather(2, tokens[:, None].expand(-1, hidden.shape[1], -1)).transpose(0, 1)


def all_logits(parts: Anatomy, hidden: Float[Tensor, "*n d"]) -> Float[Tensor, "*n v"]:
    """The language-model head as it is, for few positions."""
    head = parts.causal.get_output_embeddings()  # type: ignore[no-untyped-call]
    return _capped(parts, head(hidden))


def token_logprobs(parts: Anatomy, hidden: Float[Tensor, "n c d"], tokens: Int[Tensor, " n"]) -> Float[Tensor, "n c"]:
    """Log-probability of each token where ``hidden`` predicts it, a slice of the vocabulary's room at a time."""
    head = parts.causal.get_output_embeddings()  # type: ignore[no-untyped-call]
    size = max(1, _LOGITS // (hidden.shape[1] * int(parts.causal.config.get_text_config().vocab_size)))
    out = []
    for start in range(0, len(tokens), size):
        wanted = tokens[start : start + size]
        logits = _capped(parts, head(hidden[start : start + size])).float()
        chosen = logits.gather(2, wanted[:, None, None].expand(-1, logits.shape[1], 1)).squeeze(2)
        out.append(chosen - logits.logsumexp(2))
    return torch.cat(out)


def _capped(parts: Anatomy, logits: Tensor) -> Tensor:
    cap = getattr(parts.causal.config.get_text_config(), "final_logit_softcapping", None)  # Gemma 2
    return cap * torch.tanh(logits / cap) if cap else logits
