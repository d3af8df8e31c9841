"""The local engine on a pretrained model: chats under plans of their own, joining late, as ``steer`` makes them."""

from __future__ import annotations

import pytest
import torch

import tillerman
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.data.marked_scopes import after_instruction
from tillerman.models.running import manner_of

from ..serving.local.driving import alone, drive, job

pytestmark = pytest.mark.real
ASKED = ("Which planets have rings?", "Name a fruit.", "Why is the sky blue, and why is it red in the evening?", "Hi!")


@torch.inference_mode()
def test_rows_that_join_late_have_the_tokens_logprobs_and_receipts_that_they_have_alone(smollm2, tmp_path, monkeypatch):
    monkeypatch.setenv("TILLERMAN_CACHE", str(tmp_path))
    opened = tillerman.open_model(str(smollm2.parent), dtype="float32", device="cpu")
    assert manner_of(opened).joins
    prompts = [
        opened.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        for text in ASKED
    ]
    generator = torch.Generator().manual_seed(0)
    points = (HookPoint(8), HookPoint(18))
    made = opened.vector({p: torch.randn(opened.parts.width, generator=generator) for p in points}, name="random")
    scopes = (Scope("generated"), after_instruction(opened.tokenizer), Scope())
    plans = [(Intervention(made, made.strength(points[0], 0.2), "add", scope),) for scope in scopes]
    jobs = [job(prompt, plan, max_tokens=10) for prompt, plan in zip(prompts, [*plans, ()], strict=True)]
    for one, answer in zip(jobs, drive(opened, jobs, [0, 2, 2, 4], at_once=64), strict=True):
        tokens, logprobs, receipt = alone(opened, one)
        assert answer.ids == tokens
        assert answer.logprobs == pytest.approx(logprobs, abs=2e-5)
        assert tuple(dict(touched.tokens) for touched in answer.ended.touched) == receipt
