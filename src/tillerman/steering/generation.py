"""Continue a prompt, steered or not, with the same random numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessorList

from tillerman.core.errors import MetricError, UsageError
from tillerman.core.plan import Plan
from tillerman.models.batches import Batch, padded
from tillerman.models.opened import OpenModel
from tillerman.models.prefill import prefilled
from tillerman.steering.draws import BROKEN, SharedDraws
from tillerman.steering.steer import steer_rows

_NO_PROBABILITY = "probability tensor contains"  # what torch says of a draw from numbers that are none


@dataclass(frozen=True)
class Sampling:
    """``temperature`` 0 takes the most likely token each time. Below ``min_new_tokens`` a text does not end.
    ``shared``: every row draws the same random numbers, so that a text depends on its own prompt and plan alone."""

    max_new_tokens: int = 60
    temperature: float = 0.0
    seed: int = 0
    min_new_tokens: int = 0
    shared: bool = False

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UsageError(f"max_new_tokens {self.max_new_tokens}: expected at least 1")
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature {self.temperature}: expected 0 or more")
        if not 0 <= self.min_new_tokens <= self.max_new_tokens:
            raise UsageError(f"min_new_tokens {self.min_new_tokens}: expected 0 to max_new_tokens")


def continuation(opened: OpenModel, prompt: tuple[int, ...], plan: Plan, sampling: Sampling) -> str:
    """The text that follows ``prompt``. An empty plan leaves the model unsteered. The caller's random
    state is not touched."""
    return continuations(opened, [prompt], [plan], sampling)[0]


def continuations(
    opened: OpenModel, prompts: Sequence[tuple[int, ...]], plans: Sequence[Plan], sampling: Sampling
) -> list[str]:
    """The texts that follow several prompts, as one batch, each under its own plan (empty: unsteered).

    At temperature 0 a text does not depend on the others; above, the random numbers are the batch's, if not shared.
    """
    said = continuation_tokens(opened, prompts, plans, sampling)
    return [str(text) for text in opened.tokenizer.batch_decode(said, skip_special_tokens=True)]


@torch.inference_mode()
def continuation_tokens(
    opened: OpenModel,
    prompts: Sequence[tuple[int, ...]],
    plans: Sequence[Plan],
    sampling: Sampling,
    *,
    unsteered: bool = False,
) -> list[list[int]]:
    """``continuations`` as tokens, the one that ends a text included. ``MetricError`` where a sampled token has no
    finite probability: steering has broken the model. ``unsteered`` (no block around the call edits the model) lets
    prompts without a plan that begin alike run their beginning once: steering has to see whole prompts pass."""
    if len(prompts) != len(plans) or not prompts:
        raise UsageError(f"{len(prompts)} prompts and {len(plans)} plans: expected one plan per prompt, at least one")
    begun = prefilled(opened, prompts) if unsteered and len(prompts) > 1 and not any(plans) else None
    batch = padded(prompts, pad=opened.pad_id) if begun is None else begun.batch
    steering = steer_rows(opened.model, plans) if any(plans) else nullcontext()
    with steering:
        return generated(opened, batch, sampling, {} if begun is None else {"past_key_values": begun.cache})


def generated(opened: OpenModel, batch: Batch, sampling: Sampling, options: Mapping[str, Any]) -> list[list[int]]:
    """The tokens that follow each row of a batch, under whatever edits the model now; ``options`` are more of what
    ``generate`` takes."""
    with torch.random.fork_rng(devices=_drawing(opened)):
        torch.manual_seed(sampling.seed)
        try:
            out = opened.model.generate(  # type: ignore[operator]
                input_ids=batch.tokens.to(opened.device),
                attention_mask=batch.mask.to(opened.device),
                max_new_tokens=sampling.max_new_tokens,
                min_new_tokens=sampling.min_new_tokens,
                pad_token_id=opened.pad_id,
                **_drawn_by(opened, sampling),
                **options,
            )
        except RuntimeError as error:
            if _NO_PROBABILITY not in str(error):
                raise
            raise MetricError(BROKEN) from None
    stops = stop_tokens(opened)
    return [_until(stops, row) for row in out[:, batch.tokens.shape[1] :].tolist()]


def _drawn_by(opened: OpenModel, sampling: Sampling) -> dict[str, Any]:
    """What ``generate`` is told of how a token is taken."""
    if not sampling.temperature:
        return {"do_sample": False}
    if not sampling.shared:
        return {"do_sample": True, "temperature": sampling.temperature}
    usual = opened.model.generation_config
    narrow = (None, None) if usual is None else (usual.top_k, usual.top_p)
    draws = SharedDraws(sampling.temperature, sampling.seed, *narrow)
    return {"do_sample": False, "logits_processor": LogitsProcessorList([draws])}


def _drawing(opened: OpenModel) -> list[torch.device]:
    """The CUDA devices of the model, whose random state a draw may change."""
    places = {p.device for p in opened.model.parameters()}
    return sorted((one for one in places if one.type == "cuda"), key=str)


def stop_tokens(opened: OpenModel) -> set[int]:
    """The tokens by which the model ends a text."""
    config = opened.model.generation_config
    ends = None if config is None else config.eos_token_id
    return {ends} if isinstance(ends, int) else set(ends or ())


def _until(stops: set[int], tokens: list[int]) -> list[int]:
    """What follows the end of a row is padding, of any token."""
    at = next((i for i, token in enumerate(tokens) if token in stops), len(tokens))
    return tokens[: at + 1]
