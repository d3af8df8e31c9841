"""What steering costs inside vLLM: tokens per CPU second with 0, 1, 8, 64 and 256 plans in one batch, against the same
process with the plugin's hooks and bookkeeping taken away.

    python benchmarks/serve_vllm.py MODEL [--requests 256] [--tokens 8] [--rounds 3] [--layers 3]

In an environment with vLLM (``make test-vllm`` makes one). MODEL is a folder. Vectors are random ones of a small dose
at ``--layers`` blocks in the middle; prompts are chat prompts of the model's template where it has one. All kinds are
run in turn in one process, forwards and backwards, and the fastest round of each counts.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1", HF_HUB_OFFLINE="1")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

import torch
from transformers import AutoConfig, AutoTokenizer

from tillerman.core.artefact import Artefact, save
from tillerman.core.cell import Cell
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention
from tillerman.core.provenance import Provenance
from tillerman.core.steerings.vector import SteeringVector
from tillerman.serving.lanes import lane_plan

QUESTIONS = ("How do I boil an egg?", "What is a good name for a cat?", "Why is the sky blue?", "Tell me a story.",
             "How can I sleep better?", "What should I cook tonight?")  # fmt: skip
BARE = -1  # no hooks, no bookkeeping


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--dtype", default="bfloat16")
    given = parser.parse_args()
    config = AutoConfig.from_pretrained(given.model)
    middle = config.num_hidden_layers // 2
    points = [HookPoint(middle + i) for i in range(given.layers)]
    folder = Path(tempfile.mkdtemp())
    vector = _vector(points, config.hidden_size, config.num_hidden_layers)
    save(folder / "random.safetensors", Artefact(vector, Cell.of(vector)))
    os.environ["TILLERMAN_ARTEFACTS"] = str(folder)
    measure(given, vector, hashlib.sha256((folder / "random.safetensors").read_bytes()).hexdigest())


def measure(given: argparse.Namespace, vector: SteeringVector, digest: str) -> None:
    from vllm import LLM

    llm = LLM(
        model=str(given.model),
        dtype=given.dtype,
        enforce_eager=True,
        max_model_len=256,
        max_num_seqs=given.requests,
        max_num_batched_tokens=4096,
        enable_prefix_caching=False,
    )
    runner = llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker.model_runner
    armed, hooks = vars(runner)["tillerman"], _hooks(runner.model)
    prompts = _prompts(given.model, given.requests)

    def run(plans: int) -> float:
        for module, saved in hooks:
            module._forward_hooks.clear()
            module._forward_hooks.update({} if plans == BARE else saved)
        armed.fill = (lambda *args: None) if plans == BARE else type(armed).fill.__get__(armed)
        asked = [_params(given.tokens, vector, digest, i % plans if plans > 0 else None) for i in range(len(prompts))]
        started = time.process_time()
        llm.generate(prompts, asked, use_tqdm=False)
        return time.process_time() - started

    kinds = [BARE, 0, *(k for k in (1, 8, 64, 256) if k <= given.requests)]
    run(BARE), run(8)
    seconds: dict[int, list[float]] = {kind: [] for kind in kinds}
    for turn in range(given.rounds):
        for kind in kinds if turn % 2 == 0 else reversed(kinds):
            seconds[kind].append(run(kind))
    base, middle = min(seconds[BARE]), statistics.median(seconds[BARE])
    for kind, taken in seconds.items():
        name = "no plugin" if kind == BARE else f"{kind} plans"
        rate = given.requests * given.tokens / min(taken)
        ratios = f"{base / min(taken):.3f} (fastest), {middle / statistics.median(taken):.3f} (median)"
        print(f"{name:10} {rate:6.0f} tokens per CPU second, {ratios}", flush=True)


def _vector(points: list[HookPoint], width: int, layers: int) -> SteeringVector:
    generator = torch.Generator().manual_seed(0)
    provenance = Provenance("any", "by hand", width, layers, "tok", "tpl", "none", "random")
    directions = {point: torch.randn(width, generator=generator) for point in points}
    return SteeringVector(directions, dict.fromkeys(points, 1000.0), provenance)


def _hooks(model: torch.nn.Module) -> list[tuple[torch.nn.Module, dict[int, Any]]]:
    return [(module, dict(module._forward_hooks)) for module in model.modules() if module._forward_hooks]


def _prompts(model: Path, count: int) -> list[dict[str, list[int]]]:
    tokenizer = AutoTokenizer.from_pretrained(model)
    asked = [QUESTIONS[i % len(QUESTIONS)] for i in range(count)]
    if not tokenizer.chat_template:
        return [{"prompt_token_ids": tokenizer(text)["input_ids"]} for text in asked]
    chats = [[{"role": "user", "content": text}] for text in asked]
    texts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
    return [{"prompt_token_ids": tokenizer(text, add_special_tokens=False)["input_ids"]} for text in texts]


def _params(tokens: int, vector: SteeringVector, digest: str, plan: int | None) -> Any:
    from vllm import SamplingParams

    extra = None
    if plan is not None:
        items = (Intervention(vector, 0.01 * (plan + 1)),)
        extra = {"tillerman": lane_plan(items, [digest]).text()}
    return SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False, extra_args=extra)


if __name__ == "__main__":
    main()
