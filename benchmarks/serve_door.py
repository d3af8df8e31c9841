"""The policy app's own time: CPU of one thread, per request and per streamed token, with an engine that takes none.

    python benchmarks/serve_door.py --artefacts demo

Asked as an ASGI app, without a network: keys, policy, plan, chat template and tokens, audit on disk, receipt, JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

from tillerman.core.plan import Plan
from tillerman.models.opened import open_model
from tillerman.serving.assembly import Parts, assemble
from tillerman.serving.engine import About, Chunk, Ended, Job, Taken, Touched
from tillerman.serving.engines.local.engine import LocalEngine
from tillerman.serving.http.app import create_app
from tillerman.serving.keys import hash_of
from tillerman.serving.settings import AuditSettings, KeySettings, Settings

KEY = "tlm-measured"


class IdleEngine:
    """Says a word a token, without a model; plans are checked as the local engine checks them."""

    def __init__(self, real: LocalEngine, words: int) -> None:
        self._real, self._chunk = real, Chunk(" word", (Taken(5, " word"),))
        self.words = words

    @property
    def about(self) -> About:
        return self._real.about

    def problem(self, plan: Plan) -> str | None:
        return self._real.problem(plan)

    async def start(self) -> None: ...

    async def answer(self, job: Job) -> AsyncGenerator[Chunk | Ended, None]:
        for _ in range(self.words):
            yield self._chunk
        done = tuple(Touched({str(point): 9 for point in item.steering.points}) for item in job.plan)
        yield Ended("stop", len(job.prompt), self.words, done)

    async def alive(self) -> str | None:
        return None

    async def close(self) -> None: ...


async def asked(app: Any, body: bytes) -> int:
    """One request; the status."""
    status = 0
    sent = [{"type": "http.request", "body": body, "more_body": False}]
    over = asyncio.Event()

    async def receive() -> Any:
        if sent:
            return sent.pop()
        await over.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    headers = [(b"host", b"x"), (b"content-type", b"application/json"), (b"authorization", f"Bearer {KEY}".encode())]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/chat/completions",
        "raw_path": b"/v1/chat/completions",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    await app(scope, receive, send)
    return status


async def measured(app: Any, body: Callable[[], dict[str, Any]], rounds: int) -> float:
    """Median over ten blocks, milliseconds of CPU per request."""
    found = []
    for _ in range(10):
        raws = [json.dumps(body()).encode() for _ in range(rounds)]
        began = time.thread_time()
        for raw in raws:
            assert await asked(app, raw) == 200
        found.append((time.thread_time() - began) / rounds * 1000)
    return statistics.median(found)


async def main(folder: Path) -> None:
    opened = open_model("pilot")
    engine = IdleEngine(LocalEngine(opened), 0)
    with tempfile.TemporaryDirectory() as there:
        keys = (KeySettings("measured", hash_of(KEY), admin=False),)
        settings = Settings(keys=keys, audit=AuditSettings(str(Path(there) / "audit.jsonl")))
        door = assemble(Parts(opened, engine, folder, lambda: settings))
        app = create_app(door)
        names = list(door.rules.library)
        body = {"model": "pilot", "messages": [{"role": "user", "content": "Tell me about yourself. " * 8}]}
        plans = {"unsteered": [], "one artefact": f"{names[0]}@0.1", "three artefacts": [f"{n}@0.1" for n in names[:3]]}
        for name, plan in plans.items():
            print(
                f"per request, {name}: {await measured(app, lambda plan=plan: {**body, 'steering': plan}, 50):.3f} ms"
            )
        doses = (number / 10_000 for number in range(1, 10_000))
        fresh = await measured(app, lambda: {**body, "steering": f"{names[0]}@{next(doses)}"}, 50)
        print(f"per request, one artefact at a dose that was never asked for: {fresh:.3f} ms")
        stream = {**body, "steering": plans["one artefact"], "stream": True}
        none = await measured(app, lambda: stream, 50)
        engine.words = 1000
        print(f"per streamed token: {(await measured(app, lambda: stream, 3) - none) / 1000:.4f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artefacts", type=Path, required=True, help="a folder that 'tillerman demo' wrote")
    asyncio.run(main(parser.parse_args().artefacts))
