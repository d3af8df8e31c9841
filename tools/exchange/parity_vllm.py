"""Hold three artefacts under ``steer`` against the same served by vLLM, in float32.

    python tools/exchange/parity_vllm.py MODEL

In an environment with vLLM (``make test-vllm`` makes one); MODEL is a folder. Printed: KL of steering itself, between
vLLM and ``steer``, and between both unsteered, which is what two implementations of one model differ by anyway.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

os.environ.update(VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1", HF_HUB_OFFLINE="1")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")

import torch
from three import Compared, three

import tillerman
from tillerman.core.artefact import save
from tillerman.core.files import sha256_of
from tillerman.exchange.parity import compared, next_logprobs
from tillerman.models.opened import OpenModel
from tillerman.serving.engine import About, Chunk, Drawing, Ended, Job
from tillerman.serving.engines.vllm.engine import VllmEngine
from tillerman.serving.engines.vllm.options import VllmSettings
from tillerman.serving.engines.vllm.setting import setting_of

ARGUMENTS = ("--dtype", "float32", "--enforce-eager", "--max-model-len", "512", "--max-num-seqs", "4",
             "--max-logprobs", "-1")  # fmt: skip


async def served(opened: OpenModel, source: str, found: Sequence[Compared], folder: Path) -> list[list[torch.Tensor]]:
    """Of each artefact, unsteered and steered: log-probabilities ``[prompts, vocabulary]`` of the next token."""
    digests = {}
    for one in found:
        path = folder / f"{one.name}.safetensors"
        save(path, one.artefact)
        digests[one.name] = sha256_of(path)
    about = About("vllm", opened.id, opened.fingerprint, opened.layers, 512)
    engine = VllmEngine(source, about, setting_of(folder, "auto", "auto"), VllmSettings(ARGUMENTS))
    await engine.start()
    try:
        made = []
        for one in found:
            plan = one.artefact.plan()
            steered = Job("", (), plan, (one.name,), "steered", _drawing(opened), (digests[one.name],))
            plain = Job("", (), (), (), "plain", _drawing(opened), ())
            made.append([torch.stack([await _next(engine, opened, job, p) for p in one.prompts])
                         for job in (plain, steered)])  # fmt: skip
        return made
    finally:
        await engine.close()


def _drawing(opened: OpenModel) -> Drawing:
    return Drawing(1, temperature=0.0, logprobs=_vocabulary(opened))


def _vocabulary(opened: OpenModel) -> int:
    return int(opened.model.get_output_embeddings().weight.shape[0])  # type: ignore[operator, union-attr, index]


async def _next(engine: VllmEngine, opened: OpenModel, job: Job, prompt: tuple[int, ...]) -> torch.Tensor:
    found = torch.full((_vocabulary(opened),), -torch.inf, dtype=torch.float64)
    asked = Job(
        f"{job.fingerprint}-{hash(prompt)}", prompt, job.plan, job.names, job.fingerprint, job.drawing, job.digests
    )
    async for event in engine.answer(asked):
        if isinstance(event, Ended) and event.ending == "error":
            raise SystemExit(event.why)
        if isinstance(event, Chunk):
            for other in event.tokens[0].others if event.tokens else ():
                found[other[0]] = other[2]
    if not found.isfinite().all():
        raise SystemExit(f"vLLM told the log-probabilities of {int(found.isfinite().sum())} tokens only")
    return found.log_softmax(-1)


def main(source: str) -> None:
    torch.set_num_threads(1)
    opened = tillerman.open_model(source, dtype="float32", device="cpu")
    found = list(three(opened))
    with tempfile.TemporaryDirectory() as folder:
        made = asyncio.run(served(opened, source, found, Path(folder)))
    for one, (plain_there, steered_there) in zip(found, made, strict=True):
        plain = next_logprobs(opened, opened.model, one.prompts)
        with tillerman.steer(opened, one.artefact):
            steered = next_logprobs(opened, opened.model, one.prompts)
        told = compared(plain, steered, steered_there)
        apart = compared(plain, plain, plain_there).kl
        sys.stdout.write(f"| `{one.name}` | {told.moved:.3g} | {told.kl:.1e} | {apart:.1e} |\n")


if __name__ == "__main__":
    main(sys.argv[1])
