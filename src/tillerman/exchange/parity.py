"""Two ways of steering one model, held against each other on the same prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tillerman.core.errors import ModelError
from tillerman.core.plan import Plan
from tillerman.models.opened import OpenModel
from tillerman.steering.steer import steer

_SHARE = 0.05  # of the steering's own effect: more than rounding


@dataclass(frozen=True)
class Parity:
    """Next tokens after ``n`` prompts: mean KL from ``steer`` to the other way, the largest difference of
    log-probabilities, the share of prompts with the same likeliest token, and the KL that steering itself makes.

    KL in nats per token."""

    n: int
    kl: float
    largest: float
    same: float
    moved: float

    @property
    def holds(self) -> bool:
        return self.kl <= max(1e-5, _SHARE * self.moved)


def parity(opened: OpenModel, plan: Plan, other: nn.Module, prompts: Sequence[tuple[int, ...]]) -> Parity:
    """``steer(opened, plan)`` beside ``other``, a model that is to do the same by itself."""
    plain = next_logprobs(opened, opened.model, prompts)
    steered = next_logprobs(opened, opened.model, prompts, lambda: steer(opened.model, plan, must_apply=False))
    return compared(plain, steered, next_logprobs(opened, other, prompts))


def compared(plain: Float[Tensor, "n v"], steered: Float[Tensor, "n v"], other: Float[Tensor, "n v"]) -> Parity:
    """From log-probabilities ``[prompts, vocabulary]``: unsteered, under ``steer``, and the other way."""
    same = (steered.argmax(-1) == other.argmax(-1)).float().mean()
    likely = steered > steered.max(-1, keepdim=True).values - 10  # of the rest a difference says nothing
    largest = ((steered - other).abs() * likely).max()
    return Parity(len(plain), _kl(steered, other), float(largest), float(same), _kl(steered, plain))


def ensure_same(found: Parity, what: str) -> None:
    """``ModelError`` where the other way does something else than ``steer``."""
    if not found.holds:
        raise ModelError(
            f"{what} does not do what steer does: KL {found.kl:.2g} nats per token between them, where steering itself "
            f"makes {found.moved:.2g}; nothing was kept. Please report the model's architecture"
        )


@torch.no_grad()
def next_logprobs(
    opened: OpenModel,
    model: nn.Module,
    prompts: Sequence[tuple[int, ...]],
    within: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Float[Tensor, "n v"]:
    """Of the token after each prompt, float64; one prompt at a time, so that no padding plays a part."""
    rows = []
    with within():
        for tokens in prompts:
            logits = model(input_ids=torch.tensor([tokens], device=opened.device), use_cache=False).logits[0, -1]
            rows.append(logits.double().log_softmax(-1).cpu())
    return torch.stack(rows)


def _kl(p: Tensor, q: Tensor) -> float:
    return float((p.exp() * (p - q)).sum(-1).mean().clamp_min(0))
