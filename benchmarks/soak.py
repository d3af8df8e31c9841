"""A soak of the local engine behind its door: many users, many plans, for minutes.

    python benchmarks/soak.py --artefacts demo --minutes 20 --users 64 --plans 32

Each user asks again and again, greedily, one of the prompts under one of the plans; every fourth breaks its stream off
after a few tokens. Written down: answers, errors, receipts that are not the plan's, tokens that are not those of the
same request asked alone before, memory of this process after each tenth, and whether anything was left running.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import torch

from tillerman.core.errors import NotAppliedError
from tillerman.core.opening import Opening
from tillerman.fleet.replica import BatchOptions, ReplicaSpec, open_door
from tillerman.serving.client import ensure_applied
from tillerman.serving.door import Door
from tillerman.serving.http.app import create_app

QUESTIONS = (
    "Who are you?",
    "Tell me about yourself.",
    "What do you like to do on a free day, and why?",
    "Tell me a story about a boat and a storm, with an end that nobody would expect.",
)
CHAT = "/v1/chat/completions"


@dataclass
class Found:
    """What was seen."""

    counts: Counter[str] = field(default_factory=Counter)
    first_wrong: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)  # MB

    def wrong(self, kind: str, words: str) -> None:
        self.counts[kind] += 1
        self.first_wrong = [*self.first_wrong, f"{kind}: {words}"][:5]


def resident() -> float:
    """MB of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def requests(door: Door, plans: int, tokens: int) -> list[dict[str, Any]]:
    """Every question under every plan; the first plan is none."""
    names = sorted(door.rules.library)
    doses = [0.02 + 0.3 * i / plans for i in range(plans)]
    told: list[Any] = [[], *(f"{names[i % len(names)]}@{doses[i]:.3f}" for i in range(1, plans))]
    return [
        {
            "model": door.name,
            "messages": [{"role": "user", "content": question}],
            "steering": plan,
            "max_tokens": tokens,
            "temperature": 0,
        }
        for plan in told
        for question in QUESTIONS
    ]


async def text_of(http: httpx.AsyncClient, body: dict[str, Any]) -> str:
    response = await http.post(CHAT, json=body)
    if response.status_code != httpx.codes.OK:
        raise ValueError(f"{response.status_code} {response.text[:200]}")
    ensure_applied(response.json(), body["steering"], response.headers["X-Tillerman-Plan"])
    return str(response.json()["choices"][0]["message"]["content"])


async def broken_off(http: httpx.AsyncClient, body: dict[str, Any]) -> None:
    async with http.stream("POST", CHAT, json={**body, "stream": True}) as response:
        lines = response.aiter_lines()
        for _ in range(6):
            await anext(lines)


async def use(
    http: httpx.AsyncClient, asked: list[dict[str, Any]], alone: list[str], seed: int, end: float, found: Found
) -> None:
    draw = random.Random(seed)
    while time.monotonic() < end:
        which = draw.randrange(len(asked))
        try:
            if draw.random() < 0.25:
                await broken_off(http, asked[which])
                found.counts["broken off"] += 1
                continue
            text = await text_of(http, asked[which])
        except NotAppliedError as error:
            found.wrong("receipts that differ", str(error))
        except (ValueError, httpx.HTTPError, StopAsyncIteration) as error:
            found.wrong("errors", f"{type(error).__name__} {error}")
        else:
            found.counts["answers"] += 1
            if text != alone[which]:
                found.wrong("tokens that differ", f"{asked[which]['steering']}: {text!r} for {alone[which]!r}")


async def soak(args: argparse.Namespace) -> Found:
    settings = BatchOptions(args.rows, allow_unproven=True).settings()
    opening = Opening(device="cpu", dtype="float32")
    spec = ReplicaSpec(args.model, str(args.artefacts), {"device": opening.device, "dtype": opening.dtype}, settings)
    door = await open_door(spec)
    found = Found()
    # A real connection, so that a reader who goes away is one.
    import uvicorn

    config = uvicorn.Config(create_app(door), port=args.port, log_config=None, access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.05)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{args.port}", timeout=None, limits=limits) as http:
        asked = requests(door, args.plans, args.tokens)
        alone = [await text_of(http, body) for body in asked]
        print(f"{len(asked)} requests asked alone; {len(set(alone))} different answers", flush=True)
        seconds, began = 60 * args.minutes, time.monotonic()
        users = [
            asyncio.create_task(use(http, asked, alone, seed, began + seconds, found)) for seed in range(args.users)
        ]
        for tenth in range(1, 11):
            await asyncio.sleep(max(0.0, began + seconds * tenth / 10 - time.monotonic()))
            found.memory.append(resident())
            print(f"{seconds * tenth / 600:.1f} min: {dict(found.counts)}, {found.memory[-1]:.0f} MB", flush=True)
        await asyncio.gather(*users)
        metrics = (await http.get("/metrics")).text
        running = next(line for line in metrics.splitlines() if line.startswith("tillerman_answers_running"))
        found.counts["left running"] = int(float(running.split()[-1]))
    server.should_exit = True
    await serving
    await door.engine.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pilot")
    parser.add_argument("--artefacts", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--users", type=int, default=64)
    parser.add_argument("--plans", type=int, default=32)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--port", type=int, default=8765)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cpu = time.process_time()
    found = asyncio.run(soak(args))
    told = {"counts": dict(found.counts), "memory_mb": [round(one) for one in found.memory], "wrong": found.first_wrong}
    print(json.dumps({**told, "cpu_seconds": round(time.process_time() - cpu)}, indent=1))


if __name__ == "__main__":
    main()
