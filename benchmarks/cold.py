"""What COLD-Steer costs, on one model in one run: ratios, not times.

    python benchmarks/cold.py prompts   # prompt processing, steered at half depth, against unsteered
    python benchmarks/cold.py fit       # gradients of 50 examples, batched against one at a time
    python benchmarks/cold.py steps     # cosine of finite difference and derivative, for steps of many lengths

The model is the random Llama of 46 M parameters of ``benchmarks/engine.py``.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch
import transformers

import tillerman
from engine import BLOCKS, PROMPT, WIDTH, new_model, prompts
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention
from tillerman.core.provenance import Provenance
from tillerman.core.steerings.lookahead import LookaheadSteering
from tillerman.models.gradients import Taught, activation_gradients, depths, parameter_gradient
from tillerman.models.lookahead import SecondStream, measured, run_to
from tillerman.models.opened import OpenModel

HALF = HookPoint(BLOCKS // 2 - 1)


SHORT = 40  # tokens: a question of the persona data


def taught(n: int, length: int = PROMPT) -> list[Taught]:
    return [Taught(row[:length], ((10,), (20,))) for row in prompts(n)]


def steering(opened: OpenModel, mode: str, n: int = 8) -> LookaheadSteering:
    gradient = parameter_gradient(opened, taught(n), HALF)
    depth = depths(opened.parts)
    made = Provenance("random-46M", "-", WIDTH, BLOCKS, "-", "-", "none", f"cold-{mode}")
    plain = LookaheadSteering(
        {HALF: 1.0},
        {HALF: 1.0},
        made,
        gradient,
        {name: depth[name] for name in gradient},
        {HALF: WIDTH},
        mode,
        1.0,
    )
    return measured(opened, plain, prompts(n), own_step=True)


def timed(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def prompting(opened: OpenModel, n: int) -> dict[str, object]:
    """A batch of ``n`` prompts of 150 tokens; unsteered and steered passes take turns."""
    ids = torch.tensor(prompts(n))
    result: dict[str, object] = {}

    @torch.no_grad()
    def run() -> object:
        return opened.model(input_ids=ids, attention_mask=torch.ones_like(ids), logits_to_keep=1)

    for mode in ("fd", "jvp"):
        one = steering(opened, mode)
        with tillerman.steer(opened.model, Intervention(one, one.strength(HALF, 0.1))):
            run()
        times = []
        for _ in range(7):
            plain = timed(run)
            with tillerman.steer(opened.model, Intervention(one, one.strength(HALF, 0.1))):
                times.append(timed(run) / plain)
        result[f"{mode} / unsteered"] = median(times)
    return result


def fitting(opened: OpenModel, n: int) -> dict[str, object]:
    """``n`` examples: all at once, against one pass forward and one whole pass back for each; CPU seconds."""
    result: dict[str, object] = {"examples": n}
    for length in (SHORT, PROMPT):
        kernel, ahead = _fitting(opened, taught(n, length))
        result |= {f"one at a time / kernel, {length} tokens": kernel, f"/ fd, jvp, {length} tokens": ahead}
    return result


def _fitting(opened: OpenModel, examples: list[Taught]) -> tuple[float, float]:
    def one_by_one() -> None:
        for example in examples:
            opened.model.zero_grad()
            kept = []
            handle = opened.parts.blocks[HALF.layer].register_forward_hook(
                lambda _, __, h, kept=kept: h.retain_grad() or kept.append(h)
            )
            said = []
            for answer in example.answers:  # the pair as two sequences, as the authors run it
                row = torch.tensor([(*example.prompt, *answer)])
                logits = opened.model(input_ids=row, use_cache=False).logits
                said.append(logits.log_softmax(-1)[0, -2, answer[0]])
            (-torch.nn.functional.logsigmoid(0.1 * (said[0] - said[1]))).backward()
            handle.remove()

    plain = timed(one_by_one)
    opened.model.zero_grad()
    kernel = timed(lambda: activation_gradients(opened, examples, [HALF]))
    ahead = timed(lambda: parameter_gradient(opened, examples, HALF))
    return plain / kernel, plain / ahead


def steps(opened: OpenModel, n: int) -> dict[str, object]:
    """FD against JVP in float32 and bfloat16; ``ours`` is what a fit takes, 1e-6 the paper's."""
    result: dict[str, object] = {}
    for dtype in (torch.float32, torch.bfloat16):
        opened.model.to(dtype)
        ids = torch.tensor(prompts(n))
        mask, positions = torch.ones_like(ids).bool(), torch.arange(PROMPT).expand_as(ids)
        exact = steering(opened, "jvp")
        with torch.no_grad():
            before = run_to(opened.parts, [HALF], ids, mask, positions)

        def change(one: LookaheadSteering) -> torch.Tensor:
            stream = SecondStream(opened.parts, one)
            ran = stream.run(ids, mask, positions, keep_cache=False)  # noqa: B023
            return stream.changes(ran, before)[HALF].float().flatten()  # noqa: B023

        derivative = change(exact)
        size = sum(float(p.detach().square().sum()) for p in opened.parts.decoder.parameters()) ** 0.5
        slope = sum(float(g.square().sum()) for g in exact.displacement.values()) ** 0.5
        share = torch.finfo(dtype).eps ** 0.5
        tried = {"1e-6": 1e-6, "share of |theta| / |g|": share * size / slope, "ours": steering(opened, "fd").epsilon}
        for name, epsilon in tried.items():
            cosine = torch.cosine_similarity(change(replace(exact, mode="fd", epsilon=epsilon)), derivative, dim=0)
            result[f"{dtype}, epsilon {name} ({epsilon:.2g})"] = float(cosine)
    return result


WORK: dict[str, tuple[Callable[[OpenModel, int], dict[str, object]], int]] = {
    "prompts": (prompting, 4),
    "fit": (fitting, 50),
    "steps": (steps, 4),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=WORK)
    parser.add_argument("-n", type=int, help="prompts or examples")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    work, usual = WORK[args.work]
    found = work(new_model(), args.n or usual)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "machine": platform.machine()}
    print(json.dumps({"work": args.work, "threads": args.threads, **versions, **found}, indent=1))


if __name__ == "__main__":
    main()
