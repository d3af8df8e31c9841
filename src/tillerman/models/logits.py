"""Scores read off a model: next-token log-probabilities of options, of whole answers, of texts."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tillerman.core.errors import DataError
from tillerman.core.rows import Progress, Row, silent
from tillerman.models.batches import Batch, batches, padded, token_budget
from tillerman.models.edit import Edit, edit_forward
from tillerman.models.opened import OpenModel
from tillerman.models.restart import Restart, entry


@torch.inference_mode()
def option_logprobs(
    opened: OpenModel,
    prompts: Sequence[Sequence[int]],
    options: Sequence[Sequence[int]],
    *,
    budget: int | None = None,
    progress: Progress = silent,
) -> list[Float[Tensor, " k"]]:
    """``log p(option token | prompt)`` for each prompt's own option tokens; one position per prompt."""
    out: list[Tensor] = [torch.empty(0)] * len(prompts)
    for batch in batches(prompts, pad=opened.pad_id, budget=budget or token_budget(opened.parts)):
        logprobs = _logprobs(opened, batch, keep=1)[:, -1]
        for at, i in enumerate(batch.rows.tolist()):
            out[i] = logprobs[at, list(options[i])].cpu()
        progress(len(batch.rows))
    return out


@torch.inference_mode()
def answer_logprobs(
    opened: OpenModel, rows: Sequence[Row], *, budget: int | None = None, progress: Progress = silent
) -> Float[Tensor, " n"]:
    """Mean ``log p`` per token of each row from ``read_from`` on (at least the second token), in nats."""
    sums, _ = answer_sums(opened, rows, budget=budget, progress=progress)
    return sums / torch.tensor([len(row.tokens) - max(1, row.read_from) for row in rows])


@torch.inference_mode()
def answer_sums(
    opened: OpenModel, rows: Sequence[Row], *, budget: int | None = None, progress: Progress = silent
) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """``log p`` of each row from ``read_from`` on (at least the second token), summed, in nats, and whether
    each of these tokens was the most likely one.

    A prompt runs once for all its answers, and they go on over its cache. So steering that is under way
    knows where the prompt ends: to a scope, the answers are what comes after it.
    """
    prompts: dict[tuple[int, ...], list[int]] = {}
    for i, row in enumerate(rows):
        if len(row.tokens) <= max(1, row.read_from):
            raise DataError(
                f"{len(row.tokens)} tokens, read from {row.read_from}: a text of one token, with none "
                "before it, cannot be scored; give longer texts"
            )
        prompts.setdefault(row.tokens[: max(1, row.read_from)], []).append(i)
    sums, likeliest = torch.empty(len(rows)), torch.empty(len(rows), dtype=torch.bool)
    for some in _together(rows, prompts, budget or token_budget(opened.parts)):
        members = torch.tensor([prompts[prompt] for prompt in some]).flatten()
        answers = [rows[i].tokens[len(prompt) :] for prompt in some for i in prompts[prompt]]
        summed, first = _continued(opened, some, answers)
        sums[members], likeliest[members] = summed.cpu(), first.cpu()
        progress(len(members))
    return sums, likeliest


Prompt = tuple[int, ...]


def _together(rows: Sequence[Row], prompts: Mapping[Prompt, Sequence[int]], budget: int) -> Iterator[Sequence[Prompt]]:
    """Prompts that run together: all with as many answers, and so many that they fit the budget with these."""
    longest = {prompt: max(len(rows[i].tokens) for i in members) for prompt, members in prompts.items()}
    order = sorted(prompts, key=lambda prompt: (len(prompts[prompt]), longest[prompt]))
    start = 0
    for stop in range(1, len(order) + 1):
        if stop < len(order) and len(prompts[order[stop]]) == len(prompts[order[start]]):
            size = (stop + 1 - start) * len(prompts[order[start]]) * longest[order[stop]]
            if size <= budget:
                continue
        yield order[start:stop]
        start = stop


def _continued(
    opened: OpenModel, prompts: Sequence[Prompt], answers: Sequence[Prompt]
) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """Log-probability of answers, and whether they are the most likely; the same number after each prompt in turn."""
    device = opened.device
    batch = padded(prompts, pad=opened.pad_id)
    after = padded(answers, pad=opened.pad_id, side="right")
    first, cache = _run(opened, batch.tokens, batch.mask, batch.positions, None, keep=1)
    every = torch.arange(len(prompts)).repeat_interleave(len(answers) // len(prompts))
    scores = first[every.to(device)]
    if after.tokens.shape[1] > 1:
        cache.reorder_cache(every.to(device))
        mask = torch.cat([batch.mask[every], after.mask[:, :-1]], dim=1)
        positions = (batch.mask.sum(1)[every][:, None] - 1) + after.mask[:, :-1].cumsum(1)
        rest, _ = _run(opened, after.tokens[:, :-1], mask, positions, cache, keep=after.tokens.shape[1] - 1)
        scores = torch.cat([scores, rest], dim=1)
    wanted, real = after.tokens.to(device), after.mask.to(device).bool()
    each = scores.gather(2, wanted[..., None]).squeeze(2)
    likeliest = ((scores.argmax(2) == wanted) | ~real).all(1)
    # where, not multiply: what stands in padding may be infinite
    return torch.where(real, each, 0.0).sum(1), likeliest


@torch.inference_mode()
def text_logprobs(opened: OpenModel, tokens: Int[Tensor, "b s"]) -> Float[Tensor, "b s v"]:
    """Log-probabilities of every next token of whole windows without padding."""
    logits: Tensor = opened.model(input_ids=tokens.to(opened.device), use_cache=False).logits
    return logits.float().log_softmax(-1)


@torch.inference_mode()
def kept_text_logprobs(
    opened: OpenModel, tokens: Int[Tensor, "b s"], borders: Iterable[int]
) -> tuple[Float[Tensor, "b s v"], dict[int, Restart]]:
    """``text_logprobs``, and what entered each border: inside ``starting`` another pass over the same
    windows begins there."""
    kept: dict[int, Restart] = {}

    def keeper(border: int) -> Edit:
        def keep(h: Tensor) -> Tensor:
            kept[border] = Restart(border, h)
            return h

        return keep

    edits = {entry(opened.parts, border): keeper(border) for border in borders}
    with edit_forward(opened.parts, edits, lambda _: None):
        return text_logprobs(opened, tokens), kept


def next_logprobs(opened: OpenModel, batch: Batch) -> Float[Tensor, "b v"]:
    """Log-probabilities of the token that follows each prompt of a left-padded batch."""
    return _logprobs(opened, batch, keep=1)[:, -1]


def _logprobs(opened: OpenModel, batch: Batch, keep: int) -> Float[Tensor, "b k v"]:
    """Log-probabilities at the last ``keep`` positions of a left-padded batch."""
    return _run(opened, batch.tokens, batch.mask, batch.positions, None, keep=keep, use_cache=False)[0]


def _run(
    opened: OpenModel,
    tokens: Int[Tensor, "b s"],
    mask: Int[Tensor, "b k"],
    positions: Int[Tensor, "b s"],
    cache: Any,
    *,
    keep: int,
    use_cache: bool = True,
) -> tuple[Float[Tensor, "b keep v"], Any]:
    """Log-probabilities at the last ``keep`` positions, and the cache."""
    accepted = inspect.signature(opened.parts.causal.forward).parameters
    device = opened.device
    extra: dict[str, Any] = {"logits_to_keep": keep} if "logits_to_keep" in accepted else {}
    if "position_ids" in accepted:
        extra["position_ids"] = positions.to(device)
    if cache is not None:
        extra["past_key_values"] = cache
    out = opened.model(input_ids=tokens.to(device), attention_mask=mask.to(device), use_cache=use_cache, **extra)
    return out.logits[:, -keep:].float().log_softmax(-1), getattr(out, "past_key_values", None)
