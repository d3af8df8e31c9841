"""What vLLM says under the plugin is what transformers says under ``steer``, however its steps are cut."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from tillerman.core.plan import Scope
from tillerman.serving.lanes import lane_plan
from tillerman.steering.steer import steer

from . import models

pytestmark = pytest.mark.vllm
STEPS = 16
EXACT = 1e-5  # nats


def _params(asked, digests, steps=STEPS, **more):
    from vllm import SamplingParams

    names = [digests[name] for name, _, _ in asked]
    extra = {"tillerman": lane_plan(models.plan(asked), names).text()} if asked else None
    return SamplingParams(
        temperature=0, max_tokens=steps, ignore_eos=True, logprobs=5, detokenize=False, extra_args=extra, **more
    )


def _ask(llm, prompts, asked, digests, **more):
    params = [_params(one, digests, **more) for one in asked]
    return llm.generate([{"prompt_token_ids": list(p)} for p in prompts], params, use_tqdm=False)


def _reference(model, prompt, asked, steps=STEPS):
    """Tokens, log-probabilities ``[steps, vocabulary]`` and the tokens that each intervention touched."""
    ids = torch.tensor([prompt])
    plan = models.plan(asked)
    with torch.inference_mode(), steer(model, plan, must_apply=False) if plan else nullcontext() as block:
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=steps,
            min_new_tokens=steps,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            pad_token_id=0,
        )
    logprobs = torch.stack(out.logits)[:, 0].float().log_softmax(-1)
    touched = [max(one.tokens.values()) for one in block.receipt.applied] if plan else []
    return out.sequences[0, len(prompt) :].tolist(), logprobs, touched


def _ensure_equal(model, prompts, asked, outputs, steps=STEPS):
    for prompt, one, output in zip(prompts, asked, outputs, strict=True):
        tokens, logprobs, touched = _reference(model, prompt, one, steps)
        said = output.outputs[0]
        assert list(said.token_ids) == tokens, one
        for step, known in enumerate(said.logprobs):
            for token, told in known.items():
                assert abs(float(logprobs[step, token]) - told.logprob) < EXACT, one
        receipt = (output.kv_transfer_params or {}).get("tillerman")
        if not one:
            assert receipt is None
            continue
        # Strength 0 touches what it is on there, and adds nothing to it.
        assert receipt["touched"] == touched


def test_chunks_and_preemption_change_nothing(running, digests):
    prompts = models.prompts()
    with running("llama", max_num_batched_tokens=24, num_gpu_blocks_override=18, disable_log_stats=False) as llm:
        outputs = _ask(llm, prompts, models.PLANS, digests, steps=40)
        preempted = sum(one.value for one in llm.get_metrics() if one.name == "vllm:num_preemptions")
    _ensure_equal(models.model("llama"), prompts, models.PLANS, outputs, steps=40)
    assert preempted > 0


@pytest.mark.parametrize("family", models.FAMILIES)
def test_ten_plans_in_one_batch_say_what_steer_says(family, running, digests):
    prompts = models.prompts()
    with running(family) as llm:
        for _ in range(2):  # the second time over the first one's cached blocks
            outputs = _ask(llm, prompts, models.PLANS, digests)
            _ensure_equal(models.model(family), prompts, models.PLANS, outputs)
        assert sum(one.num_cached_tokens for one in outputs) > 0


def test_a_second_turn_does_not_take_the_first_ones_answer_from_the_cache(running, digests):
    asked = (("a", 1.0, Scope("generated")),)
    first = models.prompts()[4]
    with running("llama") as llm:
        (said,) = _ask(llm, [first], [asked], digests, steps=40)
        second = [*first, *said.outputs[0].token_ids, *first[:9]]
        outputs = _ask(llm, [second], [asked], digests)
        plain = _ask(llm, [second], [()], digests)
    model = models.model("llama")
    _ensure_equal(model, [second], [asked], outputs)
    _ensure_equal(model, [second], [()], plain)
    # The first prompt's whole blocks were not steered, and are shared with everybody.
    assert outputs[0].num_cached_tokens == len(first) // 32 * 32


def test_a_second_turn_finds_the_first_ones_answer_in_the_cache_where_both_steer_it_alike(running, digests):
    scope = Scope("assistant_turns", marker=models.MARKER, closing=(5,))
    asked = (("a", 1.0, scope), ("d", 1.0, scope))
    base = models.prompts()[4]
    first = [*base[30:], *models.MARKER]
    with running("llama") as llm:
        (said,) = _ask(llm, [first], [asked], digests, steps=40)
        second = [*first, *said.outputs[0].token_ids, 5, *base[:3], *models.MARKER]
        outputs = _ask(llm, [second], [asked], digests)
    _ensure_equal(models.model("llama"), [second], [asked], outputs)
    assert outputs[0].num_cached_tokens == (len(first) + 39) // 32 * 32 > len(first)


def test_many_plans_at_once_each_have_their_own(running, digests):
    prompt = models.prompts()[1]
    asked = [((name, strength / 20, Scope(scope)),) for strength in range(1, 11) for name in "abd"
             for scope in ("all", "generated")]  # fmt: skip
    with running("llama") as llm:
        outputs = _ask(llm, [prompt] * len(asked), asked, digests, steps=4)
    _ensure_equal(models.model("llama"), [prompt] * len(asked), asked, outputs, steps=4)


def test_several_answers_to_one_prompt_are_all_steered(running, digests):
    from vllm import SamplingParams

    asked = (("b", 2.0, Scope()),)
    text = lane_plan(models.plan(asked), [digests["b"]]).text()
    with running("llama") as llm:
        (said,) = llm.generate(
            [{"prompt_token_ids": models.prompts()[0]}],
            SamplingParams(n=3, temperature=1.0, seed=1, max_tokens=8, ignore_eos=True, detokenize=False,
                           extra_args={"tillerman": text}),
            use_tqdm=False,
        )  # fmt: skip
    assert len({tuple(one.token_ids) for one in said.outputs}) == 3
    assert said.kv_transfer_params["tillerman"]["touched"] == [len(models.prompts()[0]) + 7]
