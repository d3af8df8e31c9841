"""What a monitor costs: CPU seconds with one against without, by turns, in ``generate`` and in the local engine.

    python benchmarks/monitors.py --model MODEL [--rows 8] [--tokens 32] [--rounds 5]

The monitor is of a random direction and never crossed, so that both make the same texts.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable

import torch

import tillerman
from tillerman.core.alarms import Alarm
from tillerman.core.hookpoint import HookPoint
from tillerman.core.monitors import Monitor
from tillerman.serving.engine import Drawing, Ended, Job
from tillerman.serving.engines.local import LocalEngine, LocalSettings


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="pilot")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    opened = tillerman.open_model(given.model)
    asked = [f"Tell me something about the number {k}, please." for k in range(given.rows)]
    prompts = [tuple(opened.tokenizer(text)["input_ids"]) for text in asked]
    drawn = torch.randn(opened.parts.width, generator=torch.Generator().manual_seed(0))
    alarm = Alarm("never", Monitor(drawn, HookPoint(opened.layers // 2), 1e9))
    sampling = tillerman.Sampling(given.tokens, min_new_tokens=given.tokens)
    plans = [()] * given.rows

    told(
        "generate",
        given.rounds,
        lambda: tillerman.continuations(opened, prompts, plans, sampling),
        lambda: tillerman.watched_continuations(opened, prompts, plans, sampling, [alarm]),
    )
    told(
        "local engine",
        given.rounds,
        lambda: served(opened, prompts, given.tokens, ()),
        lambda: served(opened, prompts, given.tokens, (alarm,)),
    )


def served(
    opened: tillerman.OpenModel, prompts: list[tuple[int, ...]], tokens: int, alarms: tuple[Alarm, ...]
) -> list[Ended]:
    ends = {int(one): -100.0 for one in [opened.tokenizer.eos_token_id or 0]}

    async def one(engine: LocalEngine, k: int) -> Ended:
        drawing = Drawing(tokens, temperature=0.0, logit_bias=ends)
        job = Job(str(k), prompts[k], (), (), "", drawing, alarms=alarms)
        (last,) = [part async for part in engine.answer(job) if isinstance(part, Ended)]
        return last

    async def run() -> list[Ended]:
        engine = LocalEngine(opened, LocalSettings())
        await engine.start()
        try:
            return await asyncio.gather(*(one(engine, k) for k in range(len(prompts))))
        finally:
            await engine.close()

    return asyncio.run(run())


def told(what: str, rounds: int, plain: Callable[[], object], watched: Callable[[], object]) -> None:
    ratios = []
    for _ in range(rounds + 1):  # the first one warms up
        seconds = []
        for act in (plain, watched):
            start = time.process_time()
            act()
            seconds.append(time.process_time() - start)
        ratios.append(seconds[1] / seconds[0])
    kept = sorted(ratios[1:])
    print(f"{what}: {statistics.median(kept):.3f} x CPU seconds ({kept[0]:.3f} to {kept[-1]:.3f}, {rounds} rounds)")


if __name__ == "__main__":
    main()
