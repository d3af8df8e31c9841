"""What serving costs: tokens per CPU second of the local engine, as ratios in one run.

    python benchmarks/serve_local.py --model PATH          # a real model's folder; rounds of both questions
    python benchmarks/serve_local.py --model PATH --rounds 1 --tokens 8

1. 32 rows at once, each under a plan of its own at three layers, against the same rows unsteered, a pass of each in
   turns; the steps of decoding count by their median.
2. 16 users at once, unsteered, against ``generate`` for one after another.

Prompts are short chats through the model's own chat template.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Sequence
from statistics import median

import torch

import tillerman
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Plan, Scope
from tillerman.models.opened import OpenModel
from tillerman.models.running import manner_of
from tillerman.serving.engine import Drawing, Ended, Job
from tillerman.serving.engines.local import LocalEngine, LocalSettings
from tillerman.serving.engines.local.batch import RunningBatch
from tillerman.serving.engines.local.mailbox import Mailbox
from tillerman.serving.engines.local.row import AnswerRow
from tillerman.serving.engines.local.wording import Words
from tillerman.steering.joining import JoiningPlans

DOSE = 0.1
QUESTIONS = [
    "What is the best way to learn a new language?",
    "How do I cook rice without burning it?",
    "Why is the sky blue, and why is it red in the evening?",
    "Give me three reasons to go outside every day.",
    "My neighbour plays loud music at night. What should I say to him?",
    "Explain in two sentences what a vaccine does.",
    "Which planets have rings?",
    "Write a short note to thank a colleague for help with a report.",
]


def prompts(opened: OpenModel, count: int) -> list[tuple[int, ...]]:
    """Chats of unequal length: every second one has a question and an answer before it."""
    made = []
    for i in range(count):
        asked = QUESTIONS[i % len(QUESTIONS)]
        before = [
            {"role": "user", "content": QUESTIONS[(i * 3 + 1) % len(QUESTIONS)]},
            {"role": "assistant", "content": "That depends on what you have at hand and on how much time there is."},
        ]
        chat = [*(before if i % 2 else []), {"role": "user", "content": asked}]
        ids = opened.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
        made.append(tuple(ids))
    return made


def plans(opened: OpenModel, count: int) -> list[Plan]:
    """One vector of its own for each row, at three layers, on the answer's tokens."""
    layers = [opened.layers * k // 4 for k in (1, 2, 3)]
    generator = torch.Generator().manual_seed(0)
    directions = {HookPoint(layer): torch.randn(opened.parts.width, generator=generator) for layer in layers}
    one = opened.vector(directions, name="random")
    vectors = [one.random_like(seed) for seed in range(count)]
    scopes = (Scope("generated"), Scope(), Scope("prompt"), Scope("last"))
    return [
        tuple(
            Intervention(vector.at(point), vector.strength(point, DOSE), "add", scopes[i % len(scopes)])
            for point in vector.points
        )
        for i, vector in enumerate(vectors)
    ]


def served(opened: OpenModel, jobs: Sequence[Job], rows: int) -> tuple[int, float, float]:
    """Tokens made, CPU seconds and seconds, of all jobs at once."""

    async def ended(engine: LocalEngine, job: Job) -> int:
        last = [one async for one in engine.answer(job)][-1]
        assert isinstance(last, Ended) and last.ending in ("stop", "length"), last
        return last.answer_tokens

    async def run() -> tuple[int, float, float]:
        engine = LocalEngine(opened, LocalSettings(max_batch=rows))
        await engine.start()
        cpu, wall = time.process_time(), time.perf_counter()
        counts = await asyncio.gather(*(ended(engine, job) for job in jobs))
        spent = sum(counts), time.process_time() - cpu, time.perf_counter() - wall
        await engine.close()
        return spent

    return asyncio.run(run())


@torch.inference_mode()
def one_by_one(opened: OpenModel, asked: Sequence[tuple[int, ...]], tokens: int) -> tuple[int, float, float]:
    """The same of ``generate``, a prompt at a time."""
    count, cpu, wall = 0, time.process_time(), time.perf_counter()
    for prompt in asked:
        ids = torch.tensor([prompt], device=opened.device)
        out = opened.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=opened.pad_id,
        )
        count += out.shape[1] - ids.shape[1]
    return count, time.process_time() - cpu, time.perf_counter() - wall


def jobs(asked: Sequence[tuple[int, ...]], chosen: Sequence[Plan], tokens: int, temperature: float) -> list[Job]:
    return [
        Job(str(i), prompt, plan, tuple("random" for _ in plan), "", Drawing(tokens, temperature=temperature, seed=i))
        for i, (prompt, plan) in enumerate(zip(asked, chosen, strict=True))
    ]


@torch.inference_mode()
def in_turns(opened: OpenModel, asked: Sequence[tuple[int, ...]], own: Sequence[Plan], tokens: int) -> None:
    """The same rows steered and not, a pass of each in turns: what else the machine does meets both alike."""
    words, loop = Words(opened.tokenizer), asyncio.new_event_loop()
    steering = JoiningPlans(opened.parts)

    def batch(chosen: Sequence[Plan]) -> RunningBatch:
        given = jobs(asked, chosen, tokens + 1, 0.0)
        rows = [AnswerRow(Mailbox(job, loop), words, frozenset(), tokens + 1, ()) for job in given]
        return RunningBatch(opened, manner_of(opened), rows, LocalSettings().of_prompts(opened))

    both = batch(own), batch([()] * len(asked))
    prompt: tuple[list[float], list[float]] = ([], [])
    steps: tuple[list[float], list[float]] = ([], [])
    turn = 0
    while len(steps[0]) < tokens - 1:
        for which in (0, 1) if turn % 2 else (1, 0):
            into = steps if both[which].answering else prompt
            before = time.thread_time()
            both[which].advance(steering)
            into[which].append(time.thread_time() - before)
        turn += 1
    steering.release()
    whole = [sum(prompt[k]) + (tokens - 1) * median(steps[k]) for k in (0, 1)]
    rate = len(asked) * tokens / whole[0]
    parts = f"{sum(prompt[1]) / sum(prompt[0]):.2f} of prompts, {median(steps[1]) / median(steps[0]):.2f} of steps"
    what = f"{len(asked)} rows, {len(asked)} plans, against unsteered"
    print(f"| {what} | {rate:.1f} | **{whole[1] / whole[0]:.2f}** ({parts}) | |", flush=True)


def compare(
    what: str,
    rounds: int,
    first: Callable[[], tuple[int, float, float]],
    second: Callable[[], tuple[int, float, float]],
) -> None:
    """In turns, after a warm-up of each; the ratio is first over second, of tokens per second."""
    cpu, wall = [], []
    rates: list[float] = []
    for i in range(rounds + 1):
        (n, c, w), (n2, c2, w2) = first(), second()
        if i or rounds == 1:
            cpu.append((n / c) / (n2 / c2))
            wall.append((n / w) / (n2 / w2))
            rates.append(n / c)
        if rounds == 1:
            break
    ratios = ", ".join(f"{one:.2f}" for one in cpu)
    print(f"| {what} | {median(rates):.1f} | **{median(cpu):.2f}** ({ratios}) | {median(wall):.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=["plans", "users"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    opened = tillerman.open_model(args.model, dtype=args.dtype, device="cpu")
    print("| question | tokens per CPU second | ratio of CPU seconds | ratio of seconds |")
    print("|---|---|---|---|", flush=True)
    if args.only != "users":
        asked, own = prompts(opened, 32), plans(opened, 32)
        for _ in range(args.rounds):
            in_turns(opened, asked, own, args.tokens)
    if args.only != "plans":
        asked = prompts(opened, 16)
        users = jobs(asked, [()] * 16, args.tokens, 0.0)
        compare(
            "16 users at once, against one at a time by generate",
            args.rounds,
            lambda: served(opened, users, 16),
            lambda: one_by_one(opened, asked[: len(QUESTIONS)], args.tokens),  # a rate: half of them tell it
        )


if __name__ == "__main__":
    main()
