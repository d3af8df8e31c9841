"""vLLM behind the door: a process of its own, started, asked, watched and ended."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx

from tillerman.core.errors import ModelError
from tillerman.core.plan import Plan
from tillerman.core.shown import clipped
from tillerman.serving.engine import About, Chunk, Ended, Job, Taken, Touched
from tillerman.serving.engines.vllm.options import VllmSettings
from tillerman.serving.engines.vllm.setting import VERSION, Setting
from tillerman.serving.engines.vllm.vectors import too_many_reads
from tillerman.serving.lanes import lane_plan, problem
from tillerman.serving.pulls import block_after

_CHILD = "tillerman.serving.engines.vllm.child"
_CAUSE = re.compile(r"\b\w*(?:Error|Exception): \S.*")


class VllmEngine:
    """An ``Engine``. ``about`` says which model it is; ``setting`` which artefacts it serves, and at which blocks."""

    def __init__(self, model: str | Path, about: About, setting: Setting, options: VllmSettings | None = None) -> None:
        self._model, self._about, self._setting = str(model), about, setting
        self._options = options or VllmSettings()
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._client: httpx.AsyncClient | None = None

    @property
    def about(self) -> About:
        return self._about

    def problem(self, plan: Plan) -> str | None:
        why = problem(plan)
        if why is not None:
            return why
        layers = {block_after(point) for item in plan for point in item.steering.points}
        prepared = layers if self._setting.layers is None else self._setting.layers
        missing = sorted(layer for layer in layers if layer is not None and layer not in prepared)
        if missing:
            return f"block {missing[0]} is not prepared for steering; start the server anew with this artefact"
        for block, asked in lane_plan(plan, [""] * len(plan)).reads.items():
            if asked > self._setting.reads_at(block):
                return too_many_reads(block, asked, self._setting.reads_at(block))
        return None

    async def start(self) -> None:
        """Start the process and ask its workers. ``ModelError`` where it does not come up, or one has no plugin."""
        self._folder = Path(tempfile.mkdtemp(prefix="tillerman-vllm-"))
        socket = self._folder / "socket"
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [self._options.python or sys.executable, "-m", _CHILD, "--socket", str(socket), *self._arguments()],
                env={**os.environ, **self._setting.to_environment()},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # its workers end with it
            )
        transport = httpx.AsyncHTTPTransport(uds=str(socket))
        self._client = httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=None)
        try:
            told = await self._handshake()
            self._check(told)
        except BaseException:
            await self.close()
            raise
        named = f"vllm-{told['vllm']}"
        self._about = replace(self._about, engine=named, context=int(told["context"]))

    async def answer(self, job: Job) -> AsyncGenerator[Chunk | Ended, None]:
        lanes = lane_plan(job.plan, job.digests).text() if job.plan else ""
        own = f"{job.id}-{secrets.token_hex(4)}"  # vLLM takes no two of one name
        asked = {"id": own, "prompt": list(job.prompt), "lanes": lanes, "drawing": _plain(job)}
        ended: Ended | None = None
        made = 0
        try:
            async with self._asked().stream("POST", "/answer", json=asked) as response:
                async for line in response.aiter_lines():
                    told = json.loads(line)
                    if "ended" in told:
                        ended = _ended(told, job)
                        break
                    made += len(told["tokens"])
                    yield _chunk(told)
        except httpx.HTTPError:
            ended = None
        if ended is None:
            nothing = tuple(Touched({str(p): 0 for p in item.steering.points}) for item in job.plan)
            ended = Ended("error", len(job.prompt), made, nothing, why="the engine stopped while it answered")
        yield ended

    async def alive(self) -> str | None:
        if self._process is None or self._client is None:
            return "vLLM was not started"
        if self._process.poll() is not None:
            return f"vLLM's process ended with code {self._process.returncode}"
        try:
            response = await self._client.get("/alive", timeout=10)
        except httpx.HTTPError as error:
            return f"vLLM does not answer ({type(error).__name__})"
        return None if response.status_code == httpx.codes.OK else "vLLM's engine has died"

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None
        if self._process is not None:
            process, self._process = self._process, None
            await asyncio.to_thread(_end, process)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _arguments(self) -> list[str]:
        # Part of vLLM's own hash of a compiled model: without it a graph that does not steer would be taken again.
        own = {"version": VERSION, **self._setting.to_environment()}
        return [
            "--model",
            self._model,
            "--additional-config",
            json.dumps({"tillerman": own}),
            *self._options.args,
        ]

    def _asked(self) -> httpx.AsyncClient:
        if self._client is None:
            raise ModelError("vLLM was not started")
        return self._client

    async def _handshake(self) -> Mapping[str, Any]:
        until = time.monotonic() + self._options.start_seconds
        while time.monotonic() < until:
            if self._process is not None and self._process.poll() is not None:
                raise ModelError(f"vLLM ended with code {self._process.returncode} before it was ready: {self._log()}")
            try:
                response = await self._asked().get("/handshake", timeout=60)
            except httpx.HTTPError:
                await asyncio.sleep(0.2)
                continue
            if response.status_code != httpx.codes.OK:
                raise ModelError(f"vLLM's workers do not know the plugin: {self._log()}")
            told: Mapping[str, Any] = response.json()
            return told
        raise ModelError(f"vLLM was not ready after {self._options.start_seconds:.0f} s: {self._log()}")

    def _check(self, told: Mapping[str, Any]) -> None:
        for rank, worker in enumerate(told["workers"]):
            if worker["version"] != VERSION:
                raise ModelError(f"vLLM's worker {rank} has tillerman {worker['version']}, this is {VERSION}")
            if worker["layers"] is None or not self._setting_is(worker["layers"], worker["reads"]):
                raise ModelError(f"vLLM's worker {rank} is not prepared for steering: {self._log()}")

    def _setting_is(self, layers: Sequence[int], reads: Sequence[int]) -> bool:
        wanted = self._setting
        return wanted.layers in (None, tuple(layers)) and [wanted.reads_at(layer) for layer in layers] == list(reads)

    def _log(self) -> str:
        if self._folder is None:
            return "no log"
        text = (self._folder / "log").read_text(encoding="utf-8", errors="replace")
        # The first error is the cause; those after it are of processes that waited.
        found = list(dict.fromkeys(_CAUSE.findall(text)))[:2] or text.splitlines()[-2:]
        return " | ".join(clipped(line, 240) for line in found)


def _end(process: subprocess.Popen[bytes]) -> None:
    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sent)
            process.wait(timeout=15)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    with suppress(ProcessLookupError):  # a core or a worker that outlived its parent
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _plain(job: Job) -> dict[str, Any]:
    drawing = asdict(job.drawing)
    if drawing.pop("forced"):
        raise ModelError("vLLM was asked to take given tokens, which it does not offer")
    return {**drawing, "stop": list(job.drawing.stop), "logit_bias": dict(job.drawing.logit_bias)}


def _chunk(told: Mapping[str, Any]) -> Chunk:
    tokens = tuple(
        Taken(token, text, logprob, tuple((a, b, c) for a, b, c in others))
        for token, text, logprob, others in told["tokens"]
    )
    return Chunk(told["text"], tokens)


def _ended(told: Mapping[str, Any], job: Job) -> Ended:
    counts = told.get("touched") or [0] * len(job.plan)
    touched = tuple(
        Touched({str(point): int(count) for point in item.steering.points})
        for item, count in zip(job.plan, counts, strict=True)
    )
    return Ended(told["ended"], len(job.prompt), told["made"], touched, told["cached"], told.get("why", ""))
