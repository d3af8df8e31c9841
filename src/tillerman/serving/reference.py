"""What ``tillerman.steer`` does with a plan, for engines to be held against."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from tillerman.core.plan import Plan
from tillerman.models.opened import OpenModel
from tillerman.steering.steer import steer


class SteerReference:
    """Greedy answers of a model in this process, while nothing else asks it."""

    def __init__(self, opened: OpenModel) -> None:
        self._opened = opened

    @torch.inference_mode()
    def __call__(self, prompt: tuple[int, ...], plan: Plan, tokens: int) -> list[Mapping[str, int]]:
        """Per intervention the tokens changed at each hook point, when ``tokens`` are made."""
        opened = self._opened
        ids = torch.tensor([prompt], device=opened.device)
        with steer(opened, plan, must_apply=False) as steered:
            opened.model.generate(  # type: ignore[operator]
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=tokens,
                do_sample=False,
                pad_token_id=opened.pad_id,
            )
        return [one.tokens for one in steered.receipt.applied]
