"""Scores read off a model: next-token log-probabilities of options, of whole answers, of texts."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tillerman.core.errors import DataError
from tillerman.core.rows import Progress, Row, silent
from tillerman.models.batches import Batch, batches, padded, spans, token_budget
from tillerman.models.edit import Edit, edit_forward
from tillerman.models.head import Predictions, can_be_asked
from tillerman.models.memory import fitting, positions_at_once
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
    longest = max(map(len, options), default=0)

    def run(batch: Batch) -> Float[Tensor, "b o"]:
        wanted = [options[i] for i in batch.rows.tolist()]
        tokens = torch.tensor([[*mine, *[mine[0]] * (longest - len(mine))] for mine in wanted])
        logprobs = next_logprobs(opened, batch)
        return logprobs.gather(1, tokens.to(logprobs.device)).cpu()

    rows = batches(
        prompts,
        pad=opened.pad_id,
        budget=budget or token_budget(opened.parts),
        most=positions_at_once(opened.parts),
    )
    for batch, found in fitting(opened.parts, rows, run, Batch.halves):
        for at, i in enumerate(batch.rows.tolist()):
            out[i] = found[at, : len(options[i])]
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
    order = list(prompts)

    def run(batch: Batch) -> tuple[list[int], Float[Tensor, " n"], Bool[Tensor, " n"]]:
        members = [i for at in batch.rows.tolist() for i in prompts[order[at]]]
        answers = [rows[i].tokens[max(1, rows[i].read_from) :] for i in members]
        return members, *_continued(opened, batch, answers)

    work = _together(rows, prompts, opened.pad_id, budget or token_budget(opened.parts))
    for _, (members, summed, first) in fitting(opened.parts, work, run, Batch.halves):
        sums[members], likeliest[members] = summed.cpu(), first.cpu()
        progress(len(members))
    return sums, likeliest


Prompt = tuple[int, ...]


def _together(rows: Sequence[Row], prompts: Mapping[Prompt, Sequence[int]], pad: int, budget: int) -> Iterator[Batch]:
    """Prompts that run together: all with as many answers, and so many that they fit the budget with these."""
    ids = list(prompts)
    by_answers: dict[int, list[int]] = {}
    for place, prompt in enumerate(ids):
        by_answers.setdefault(len(prompts[prompt]), []).append(place)
    for answers, places in sorted(by_answers.items()):
        longest = {place: max(len(rows[i].tokens) for i in prompts[ids[place]]) for place in places}
        order = sorted(places, key=longest.__getitem__)
        for start, stop in spans([longest[place] for place in order], budget // answers):
            some = padded([ids[place] for place in order[start:stop]], pad=pad)
            yield replace(some, rows=torch.tensor(order[start:stop]))


def _continued(
    opened: OpenModel, prompts: Batch, answers: Sequence[Prompt]
) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """Log-probability of answers, and whether they are the most likely; the same number after each prompt in turn."""
    device = opened.device
    after = padded(answers, pad=opened.pad_id, side="right")
    inputs = _inputs(opened, prompts.tokens, prompts.mask, prompts.positions, 1)
    first, cache = _run(opened, {**inputs, "use_cache": True}, 1)
    every = torch.arange(len(prompts.rows)).repeat_interleave(len(answers) // len(prompts.rows))
    said = first.rows(every)
    if after.tokens.shape[1] > 1:
        cache.reorder_cache(every.to(device))
        mask = torch.cat([prompts.mask[every], after.mask[:, :-1]], dim=1)
        positions = (prompts.mask.sum(1)[every][:, None] - 1) + after.mask[:, :-1].cumsum(1)
        inputs = _inputs(opened, after.tokens[:, :-1], mask, positions, keep := after.tokens.shape[1] - 1)
        rest, _ = _run(opened, {**inputs, "use_cache": True, "past_key_values": cache}, keep)
        said = said.before(rest)
    real = after.mask.to(device).bool()
    each, first_choice = said.of(after.tokens)
    # where, not multiply: what stands in padding may be infinite
    return torch.where(real, each, 0.0).sum(1), (first_choice | ~real).all(1)


@torch.inference_mode()
def text_predictions(opened: OpenModel, tokens: Int[Tensor, "b s"]) -> Predictions:
    """What every token of whole windows without padding says of the next one."""
    inputs = {"input_ids": tokens.to(opened.device), "use_cache": False, **_last(opened, tokens.shape[1])}
    return _run(opened, inputs, tokens.shape[1])[0]


@torch.inference_mode()
def kept_text_predictions(
    opened: OpenModel, tokens: Int[Tensor, "b s"], borders: Iterable[int]
) -> tuple[Predictions, dict[int, Restart]]:
    """``text_predictions``, and what entered each border: inside ``starting`` another pass over the same
    windows begins there."""
    kept: dict[int, Restart] = {}

    def keeper(border: int) -> Edit:
        def keep(h: Tensor) -> Tensor:
            kept[border] = Restart(border, h)
            return h

        return keep

    edits = {entry(opened.parts, border): keeper(border) for border in borders}
    with edit_forward(opened.parts, edits, lambda _: None):
        return text_predictions(opened, tokens), kept


def next_logprobs(opened: OpenModel, batch: Batch) -> Float[Tensor, "b v"]:
    """Log-probabilities of the token that follows each prompt of a left-padded batch, as the whole model makes them."""
    logits: Tensor = opened.model(
        **_inputs(opened, batch.tokens, batch.mask, batch.positions, 1), use_cache=False
    ).logits
    return logits[:, -1].float().log_softmax(-1)


def _run(opened: OpenModel, inputs: Mapping[str, Any], keep: int) -> tuple[Predictions, Any]:
    """What the last ``keep`` positions of a pass say, and its cache."""
    kept: list[Any] = []
    with _decoder_told(opened, kept):
        out = opened.model(**inputs)
    return _predictions(opened, kept, out.logits, keep), getattr(out, "past_key_values", None)


def _inputs(
    opened: OpenModel, tokens: Int[Tensor, "b s"], mask: Int[Tensor, "b k"], positions: Int[Tensor, "b s"], keep: int
) -> dict[str, Any]:
    device = opened.device
    placed = "position_ids" in inspect.signature(opened.parts.causal.forward).parameters
    return {
        "input_ids": tokens.to(device),
        "attention_mask": mask.to(device),
        **({"position_ids": positions.to(device)} if placed else {}),
        **_last(opened, keep),
    }


def _last(opened: OpenModel, keep: int) -> dict[str, Any]:
    """Of a pass, how many logits the model makes itself: one where its head can be asked for the others."""
    accepted = "logits_to_keep" in inspect.signature(opened.parts.causal.forward).parameters
    return {"logits_to_keep": 1 if can_be_asked(opened.parts) else keep} if accepted else {}


def _predictions(opened: OpenModel, kept: Sequence[Any], logits: Tensor, keep: int) -> Predictions:
    """Hidden states where they were kept, else the model's own logits."""
    if kept:
        return Predictions(opened.parts, kept[-1][0][:, -keep:], hidden=True)
    return Predictions(opened.parts, logits[:, -keep:], hidden=False)


@contextmanager
def _decoder_told(opened: OpenModel, kept: list[Any]) -> Iterator[None]:
    """What the decoder gives inside, where logits can be made of it."""
    if not can_be_asked(opened.parts):
        yield
        return
    with edit_forward(opened.parts, {}, lambda _: None, lambda _, output: kept.append(output)):
        yield
