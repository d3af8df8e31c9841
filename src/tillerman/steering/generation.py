"""Continue a prompt, steered or not, with the same random numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tillerman.core.errors import UsageError
from tillerman.core.plan import Plan
from tillerman.models.opened import OpenModel
from tillerman.steering.steer import steer


@dataclass(frozen=True)
class Sampling:
    """``temperature`` 0 takes the most likely token each time."""

    max_new_tokens: int = 60
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UsageError(f"max_new_tokens {self.max_new_tokens}: expected at least 1")
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature {self.temperature}: expected 0 or more")


@torch.inference_mode()
def continuation(opened: OpenModel, prompt: tuple[int, ...], plan: Plan, sampling: Sampling) -> str:
    """The text that follows ``prompt``. An empty plan leaves the model unsteered. The caller's random
    state is not touched."""
    tokens = torch.tensor([prompt], device=opened.device)
    options = {"do_sample": True, "temperature": sampling.temperature} if sampling.temperature else {"do_sample": False}
    with torch.random.fork_rng(devices=[] if opened.device.type == "cpu" else None):
        torch.manual_seed(sampling.seed)

        def run() -> torch.Tensor:
            out: torch.Tensor = opened.model.generate(  # type: ignore[operator]
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=sampling.max_new_tokens,
                pad_token_id=opened.pad_id,
                **options,
            )
            return out

        if plan:
            with steer(opened.model, plan):
                out = run()
        else:
            out = run()
    return str(opened.tokenizer.decode(out[0, len(prompt) :], skip_special_tokens=True))
