"""Whether vLLM, the local engine and ``tillerman.steer`` say the same: tokens and log-probabilities of chats under
plans of every operator and scope that vLLM serves, mixed in one batch with unsteered ones, in float32.

    python benchmarks/serve_parity.py MODEL [--tokens 24] [--engine-args "--tensor-parallel-size 2"]

In an environment with vLLM (``make test-vllm`` makes one). MODEL is a folder of a chat model. Directions are random
ones, at two blocks in the middle, of dose 0.2 (``ablate``: all of it is taken). Every answer of ``steer`` is made
alone. The last line is the largest difference of each pair; the unsteered chats show what two implementations of one
model differ by, and *exact* (``steer`` in float64, norms too) how much of it is the rounding of each.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

os.environ.update(VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1", HF_HUB_OFFLINE="1")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")

import torch

import tillerman
from tillerman.core.artefact import Artefact, save
from tillerman.core.atoms import Atom
from tillerman.core.cell import Cell
from tillerman.core.files import sha256_of
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Plan, Scope
from tillerman.core.steerings.vector import SteeringVector
from tillerman.models.opened import OpenModel
from tillerman.serving.engine import About, Chunk, Drawing, Ended, Engine, Job
from tillerman.serving.engines.local.engine import LocalEngine
from tillerman.serving.engines.vllm.engine import VllmEngine
from tillerman.serving.engines.vllm.options import VllmSettings
from tillerman.serving.engines.vllm.setting import setting_of

ARGUMENTS = ("--dtype", "float32", "--enforce-eager", "--max-model-len", "512", "--max-num-seqs", "32")
CHATS = (
    [{"role": "user", "content": "Which planets have rings?"}],
    [{"role": "user", "content": "Name a fruit."}, {"role": "assistant", "content": "An apple."},
     {"role": "user", "content": "And one that is not red, please. Why is it another colour?"}],
)  # fmt: skip
Said = tuple[tuple[int, ...], tuple[float, ...]]  # tokens and their log-probabilities


@dataclass(frozen=True)
class Case:
    name: str
    job: Job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--engine-args", default="", help="more arguments of vLLM, in one text")
    given = parser.parse_args()
    torch.set_num_threads(1)
    opened = tillerman.open_model(str(given.model), dtype="float32", device="cpu")
    folder = Path(tempfile.mkdtemp())
    vectors, digests = write_artefacts(opened, folder)
    found = cases(opened, vectors, digests, given.tokens)
    steered = [by_steer(opened, case.job) for case in found]
    local = asyncio.run(by_engine(LocalEngine(opened), found))
    about = About("vllm", opened.id, opened.fingerprint, opened.layers, 512)
    settings = VllmSettings((*ARGUMENTS, *shlex.split(given.engine_args)))
    vllm = asyncio.run(by_engine(VllmEngine(given.model, about, setting_of(folder, "auto", "auto"), settings), found))
    exact = [by_steer(in_double(opened), case.job) for case in found]
    show(
        found,
        {
            "vLLM, steer": (vllm, steered),
            "local, steer": (local, steered),
            "vLLM, local": (vllm, local),
            "steer, exact": (steered, exact),
            "local, exact": (local, exact),
            "vLLM, exact": (vllm, exact),
        },
    )


def write_artefacts(opened: OpenModel, folder: Path) -> tuple[dict[str, SteeringVector], dict[str, str]]:
    """One of each operator; name -> digest of its file."""
    generator = torch.Generator().manual_seed(0)
    middle, width = opened.layers // 2, opened.parts.width
    points = (HookPoint(middle), HookPoint(middle + 3))
    made: dict[str, SteeringVector] = {}
    for operator in ("add", "ablate", "clamp", "clamp_atom"):
        directions = {point: torch.randn(width, generator=generator) for point in points}
        vector = opened.vector(directions, name=operator)
        atoms = {p: Atom(v / v.norm(), 0.0, 0.0) for p, v in directions.items()} if operator == "clamp_atom" else {}
        made[operator] = replace(vector, operator=operator, atoms=atoms)
        save(folder / f"{operator}.safetensors", Artefact(made[operator], Cell.of(made[operator])))
    return made, {name: sha256_of(folder / f"{name}.safetensors") for name in made}


def cases(
    opened: OpenModel, vectors: Mapping[str, SteeringVector], digests: Mapping[str, str], tokens: int
) -> list[Case]:
    """Each operator on each scope, operators in two orders, and unsteered chats among them."""
    after, turns = tillerman.after_instruction(opened.tokenizer), tillerman.assistant_turns(opened.tokenizer)
    scopes = (Scope(), Scope("generated"), after, turns, Scope("prompt"), Scope("positions", (0, 5, -1)))
    plans: list[tuple[str, tuple[tuple[str, Scope], ...]]] = [("unsteered", ())] * 2
    plans += [(f"{name} {scopes[i % len(scopes)]}", ((name, scopes[i % len(scopes)]),))
              for k, name in enumerate(vectors) for i in (k, k + 2, k + 3)]  # fmt: skip
    plans += [("add+ablate+clamp", (("add", after), ("ablate", after), ("clamp", turns))),
              ("clamp+ablate+add", (("clamp", turns), ("ablate", after), ("add", after)))]  # fmt: skip
    prompts = [_ids(opened, chat) for chat in CHATS]
    drawing = Drawing(tokens, temperature=0.0, logprobs=0)
    found = []
    for n, (name, parts) in enumerate(plans):
        plan = tuple(_item(vectors[one], scope) for one, scope in parts)
        names = tuple(one for one, _ in parts)
        job = Job(f"job-{n}", prompts[n % 2], plan, names, name, drawing, tuple(digests[one] for one in names))
        found.append(Case(name, job))
    return found


def _ids(opened: OpenModel, chat: list[dict[str, str]]) -> tuple[int, ...]:
    found = opened.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)
    return tuple(found["input_ids"])


def _item(vector: SteeringVector, scope: Scope) -> Intervention:
    strength = Cell.of(vector).at_dose(1.0 if vector.operator == "ablate" else 0.2, vector).strength
    return Intervention(vector, strength, vector.operator, scope)


@torch.inference_mode()
def by_steer(opened: OpenModel, job: Job) -> Said:
    ids = torch.tensor([job.prompt])
    with _steered(opened, job.plan):
        out = opened.model.generate(  # type: ignore[operator]
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=job.drawing.max_tokens, do_sample=False,
            output_logits=True, return_dict_in_generate=True, pad_token_id=opened.pad_id,
        )  # fmt: skip
    tokens = out.sequences[0, len(job.prompt) :].tolist()
    logprobs = torch.stack(out.logits)[:, 0].double().log_softmax(-1)
    return tuple(tokens), tuple(float(logprobs[i, token]) for i, token in enumerate(tokens))


def in_double(opened: OpenModel) -> OpenModel:
    """The same model, changed for good. Norms are asked of torch, since those of transformers round to float32."""
    opened.model.double()
    for module in opened.model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = partial(  # type: ignore[assignment]
                torch.nn.functional.rms_norm,
                normalized_shape=module.weight.shape,  # type: ignore[arg-type, union-attr]
                weight=module.weight,  # type: ignore[arg-type]
                eps=module.variance_epsilon,  # type: ignore[arg-type]
            )
    return opened


def _steered(opened: OpenModel, plan: Plan) -> AbstractContextManager[object]:
    return tillerman.steer(opened, plan) if plan else nullcontext()


async def by_engine(engine: Engine, found: Sequence[Case]) -> list[Said]:
    """All at once."""
    await engine.start()
    try:
        return await asyncio.gather(*(_one(engine, case.job) for case in found))
    finally:
        await engine.close()


async def _one(engine: Engine, job: Job) -> Said:
    taken = []
    async for event in engine.answer(job):
        if isinstance(event, Chunk):
            taken += event.tokens
        elif isinstance(event, Ended) and event.ending == "error":
            raise SystemExit(f"{job.fingerprint}: {event.why}")
    return tuple(one.token for one in taken), tuple(float(one.logprob or 0.0) for one in taken)


def show(found: Sequence[Case], pairs: Mapping[str, tuple[Sequence[Said], Sequence[Said]]]) -> None:
    rows = {name: [_apart(a, b) for a, b in zip(*sides, strict=True)] for name, sides in pairs.items()}
    print(f"{'':28}{''.join(f'{name:>16}' for name in rows)}")
    for n, case in enumerate(found):
        print(f"{case.name:28}{''.join(f'{apart[n]:16.1e}' for apart in rows.values())}")
    print(f"{'largest':28}{''.join(f'{max(apart):16.1e}' for apart in rows.values())}")


def _apart(a: Said, b: Said) -> float:
    """Infinite where a token differs. The token that ends an answer is shown by some and not by others."""
    shared = min(len(a[0]), len(b[0]))
    if a[0][:shared] != b[0][:shared] or abs(len(a[0]) - len(b[0])) > 1:
        return float("inf")
    return max((abs(x - y) for x, y in zip(a[1], b[1], strict=False)), default=0.0)


if __name__ == "__main__":
    main()
