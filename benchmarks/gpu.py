"""A real accelerator in one command of at most four minutes: the same numbers as the CPU, and tokens per second.

    python benchmarks/gpu.py --small SmolLM2-135M-Instruct           # on cuda, with a random model of 8 B beside it
    python benchmarks/gpu.py --small pilot --large tiny --device cpu   # what it does, in seconds

``--small`` is a model that ``open_model`` takes; it is opened, a vector is fitted, and the test items are answered
and continued, steered and unsteered, on the CPU and on the device. The large one is a random Llama, opened on the
device alone. Prints JSON, and a line where a number is not the CPU's.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import tillerman
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Plan
from tillerman.core.rows import Row
from tillerman.models.batches import token_budget
from tillerman.models.capture import capture
from tillerman.models.memory import logit_room
from tillerman.models.opened import OpenModel
from tillerman.steering.generation import Sampling, continuation_tokens

T = TypeVar("T")
SIZES = {
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4},
}
VOCABULARY = {"8b": 128_256, "tiny": 512}
EXPERIMENT = tillerman.Experiment(
    max_train=40,
    max_validation=16,
    max_test=16,
    null_draws=2,
    doses=(0.2, 0.6),
    neutral_tokens=1024,
    unrelated_items=8,
    generations=(),
    shots=2,
)
PARITY = 0.02  # of the largest activation or effect; half precision on one side is a hundredth


def main() -> int:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--small", default="pilot", help="a model that open_model takes")
    given.add_argument("--large", choices=sorted(SIZES), default="8b")
    given.add_argument("--device", default="cuda")
    given.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the small model")
    asked = given.parse_args()
    started = time.perf_counter()
    facts: dict[str, Any] = {
        "machine": platform.platform(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": device_name(asked.device),
    }
    facts["small"], faults = small(asked.small, asked.device, getattr(torch, asked.dtype))
    facts["large"] = large(asked.large, asked.device)
    facts["seconds"] = round(time.perf_counter() - started, 1)
    sys.stdout.write(json.dumps(facts, indent=1) + "\n")
    for fault in faults:
        sys.stderr.write(f"not the CPU's number: {fault}\n")
    return 1 if faults else 0


def device_name(device: str) -> str:
    place = torch.device(device)
    return str(torch.cuda.get_device_name(place)) if place.type == "cuda" else device


def timed(device: torch.device, work: Callable[[], T]) -> tuple[T, float]:
    """What it gives, and its seconds, the device waited for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    done = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return done, round(time.perf_counter() - started, 3)


def small(source: str, device: str, dtype: torch.dtype) -> tuple[dict[str, Any], list[str]]:
    """Fit on both sides; the device's vector steers on both, so that scores may be compared."""
    place = torch.device(device)
    data = tillerman.load_examples("sample:interest-in-science", limit=120)
    cpu = tillerman.open_model(source, device="cpu", dtype=torch.float32)
    there, opening = timed(place, lambda: tillerman.open_model(source, device=device, dtype=dtype))
    layer = cpu.layers // 2
    experiment = replace(EXPERIMENT, layers=(layer,))
    ours, fitting = timed(place, lambda: tillerman.fit(experiment, there, data))
    theirs, on_cpu = timed(torch.device("cpu"), lambda: tillerman.fit(experiment, cpu, data))
    point = HookPoint(layer)
    rows = [Row(tuple(cpu.tokenizer(e.question or "Well")["input_ids"]), 0) for e in data.examples[:16]]
    mine, reference = (capture(one, rows, [point])[point] for one in (there, cpu))
    apart = float((mine - reference).abs().max() / reference.abs().max())
    faults = [f"activations differ by {apart:.3g} of the largest"] if apart > PARITY else []
    if (ours.log.hook_point, round(ours.log.dose, 6)) != (theirs.log.hook_point, round(theirs.log.dose, 6)):
        faults.append(f"cell {ours.log.hook_point} at {ours.log.dose:g}, on the CPU {theirs.log.hook_point}")
    rates = {c.name: (c.rate.value, theirs.log.condition(c.name).rate.value) for c in ours.log.conditions}
    faults += [f"{name}: {a:.3f}, on the CPU {b:.3f}" for name, (a, b) in rates.items() if abs(a - b) > 1 / 16 + 1e-9]
    return {
        "model": source,
        "dtype": str(dtype).removeprefix("torch."),
        "open_s": opening,
        "fit_s": fitting,
        "fit_on_cpu_s": on_cpu,
        "activations_apart": apart,
        "rates_device_cpu": rates,
        "tokens_per_s": speeds(there, ours.artefact.plan(), [row.tokens for row in rows]),
    }, faults


def large(size: str, device: str) -> dict[str, Any]:
    """A random model: no numbers to compare, but times and memory of real ones."""
    place = torch.device(device)
    opened, opening = timed(place, lambda: random_model(size, place))
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(10, VOCABULARY[size], (64, 150), generator=generator).tolist()
    rows = [Row(tuple(row), 0) for row in tokens]
    point = HookPoint(opened.layers // 2)
    read, reading = timed(place, lambda: capture(opened, rows, [point])[point])
    vector = opened.vector({point: read[:32].mean(0) - read[32:].mean(0)}, name="halves")
    plan = (Intervention(vector, vector.strength(point, 0.2)),)
    return {
        "size": size,
        "open_s": opening,
        "token_budget": token_budget(opened.parts),
        "logit_room": logit_room(opened.parts),
        "captured_tokens_per_s": round(64 * 150 / reading),
        "tokens_per_s": speeds(opened, plan, [row.tokens for row in rows[:16]]),
        "peak_gb": round(torch.cuda.max_memory_allocated(place) / 1e9, 2) if place.type == "cuda" else None,
    }


def random_model(size: str, place: torch.device) -> OpenModel:
    """Made on the device in the type it has there: its weights would take minutes on the way."""
    heads = SIZES[size]["num_attention_heads"]
    config = LlamaConfig(
        **SIZES[size],  # type: ignore[arg-type]
        num_key_value_heads=max(1, heads // 4),
        vocab_size=VOCABULARY[size],
        max_position_embeddings=2048,
    )
    dtype = torch.float32 if place.type == "cpu" else torch.bfloat16
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with place:
            model = LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)
    words = {f"w{i}": i for i in range(VOCABULARY[size])}
    core = Tokenizer(WordLevel(words, unk_token="w0"))
    core.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="w0")
    return tillerman.open_model(model, tokenizer)


def speeds(opened: OpenModel, plan: Plan, prompts: list[tuple[int, ...]]) -> dict[str, float]:
    """Of 32 new tokens for each prompt, unsteered and steered; warmed up first."""
    sampling = Sampling(32, min_new_tokens=32)
    found = {}
    for name, one in (("unsteered", ()), ("steered", plan)):
        continuation_tokens(opened, prompts[:2], [one] * 2, Sampling(2))
        _, seconds = timed(
            opened.device, lambda one=one: continuation_tokens(opened, prompts, [one] * len(prompts), sampling)
        )  # type: ignore[misc]
        found[name] = round(32 * len(prompts) / seconds, 1)
    return found


if __name__ == "__main__":
    sys.exit(main())
