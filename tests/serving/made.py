"""Artefacts, folders and an engine for the tests of serving: honest ones, made by hand."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn

from tillerman.core.artefact import Artefact, save
from tillerman.core.cell import Cell
from tillerman.core.gates import Gate
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Plan, Scope
from tillerman.core.provenance import Card
from tillerman.serving.artefacts import Demands, Library, Shelf, read_library, read_shelf
from tillerman.serving.audit import Audit, check_chain, last_lines
from tillerman.serving.door import Door, Rules, make_rules
from tillerman.serving.engine import About, Chunk, Ended, Engine, Job, Taken, Touched
from tillerman.serving.http.app import create_app
from tillerman.serving.http.server import Address, bound, run
from tillerman.serving.keys import hash_of
from tillerman.serving.metrics import Metrics
from tillerman.serving.prompts import PromptReader
from tillerman.serving.settings import ArtefactSettings, Settings, read_settings

from .. import tiny
from ..reports.example_log import example_log

# |v| 3, mean |h| 2: dose 1.5 per unit of strength.
ANY = Demands(belongs=lambda artefact: (), problem=lambda plan: None)


def card() -> Card:
    return Card(json.loads(json.dumps(example_log().to_json())))


def artefact(
    layer: int = 0, strength: float = 0.2, scope: Scope | None = None, gate: Gate | None = None, seed: int = 1
) -> Artefact:
    vector = replace(tiny.vector(layer, seed=seed), provenance=tiny.provenance(""))  # of no model that it could miss
    cell = Cell((HookPoint(layer),), strength, "add", scope or Scope("all"))
    return Artefact(vector, cell, gate, card())


def folder(path: Path, artefacts: Mapping[str, Artefact] | None = None) -> Path:
    """A folder of artefacts: ``honesty`` and ``calm`` if not given."""
    path.mkdir(exist_ok=True)
    for name, one in (artefacts or {"honesty": artefact(), "calm": artefact(1, seed=2)}).items():
        save(path / f"{name}.safetensors", one)
    return path


def touched(plan: Plan, tokens: int) -> tuple[Touched, ...]:
    """What an honest engine tells of a plan."""
    told = []
    for item in plan:
        count = 0 if item.strength == 0 else tokens
        gate = None if item.gate is None else True
        told.append(Touched({str(point): count for point in item.steering.points}, gate))
    return tuple(told)


@dataclass
class ScriptEngine(Engine):
    """Answers every job with the same words, and tells of them what it was told to: honestly, if nothing else is."""

    words: tuple[str, ...] = ("Hel", "lo", " there")
    ended: Ended | None = None
    pause: float = 0.0
    fault: Exception | None = None
    midway: Callable[[], None] = lambda: None  # called after the last word
    cannot: str | None = None
    ill: str | None = None
    jobs: list[Job] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)

    @property
    def about(self) -> About:
        return About("script-1", "tiny", "0123456789abcdef", 3, 256)

    def problem(self, plan: Plan) -> str | None:
        return self.cannot

    async def start(self) -> None: ...

    async def answer(self, job: Job) -> AsyncGenerator[Chunk | Ended, None]:
        self.jobs.append(job)
        try:
            for number, word in enumerate(self.words[: job.drawing.max_tokens]):
                await asyncio.sleep(self.pause)
                wanted = job.drawing.logprobs
                others = tuple((n, f"t{n}", -1.0 - n) for n in range(wanted or 0))
                yield Chunk(word, (Taken(number, word, None if wanted is None else -0.5, others),))
            self.midway()
            if self.fault is not None:
                raise self.fault
        except (GeneratorExit, asyncio.CancelledError):
            self.cancelled.append(job.id)
            raise
        made = min(len(self.words), job.drawing.max_tokens)
        yield self.ended or Ended("stop", len(job.prompt), made, touched(job.plan, len(job.prompt) + made))

    async def alive(self) -> str | None:
        return self.ill

    async def close(self) -> None: ...


KEY, ADMIN = "tlm-alice", "tlm-admin"


def opened(path: Path, engine: Engine | None = None, text: str = "", audited: bool = True) -> Door:
    """A door over the tiny model's tokenizer, ``honesty`` and ``calm``; ``text`` is its ``serve.toml``. A reload reads
    ``path/artefacts``."""
    path.mkdir(exist_ok=True)
    (path / "serve.toml").write_text(text)
    prompts, serves = PromptReader(tiny.tokenizer(tiny.CHAT)), engine or ScriptEngine()

    def rules() -> Rules:
        settings = read_settings(path / "serve.toml")
        return make_rules(read_shelf(path / "artefacts", settings.artefacts, ANY), settings, prompts, serves)

    first = make_rules(Shelf(usual()), read_settings(path / "serve.toml"), prompts, serves)
    audit = Audit(path / "audit.jsonl") if audited else None
    door = Door(serves, "tiny", prompts, first, audit, Metrics())
    door.read_anew, door.checked = rules, 1.0
    return door


@cache
def usual() -> Library:
    """Read once: it takes a tenth of a second."""
    with TemporaryDirectory() as there:
        return read_library(folder(Path(there)), ArtefactSettings(), ANY)


def keyed(**more: str) -> str:
    """Settings with two keys: alice, who may use honesty, and an admin."""
    lines = [f"{name} = {value}" for name, value in {"allow": '["honesty"]', **more}.items()]
    return (
        f'[[keys]]\nname = "alice"\nsha256 = "{hash_of(KEY)}"\n'
        + "\n".join(lines)
        + f'\n[[keys]]\nname = "root"\nsha256 = "{hash_of(ADMIN)}"\nadmin = true\n'
    )


def audited(door: Door) -> list[dict[str, Any]]:
    assert door.audit is not None
    check_chain(door.audit.path)
    return last_lines(door.audit.path, 1000)


@contextmanager
def listening(door: Door, hosts: tuple[str, ...] | None = None) -> Iterator[str]:
    """The door behind a real server on a free port, in a thread of this process; its address."""
    made = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(door, hosts), log_config=None, lifespan="off", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: server.run(sockets=[made]), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{made.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


def running(
    door: Door, address: Address, ask: Callable[[str], None], told: Callable[[str], None] = lambda line: None
) -> None:
    """The server as the command runs it, asked from another thread, and stopped as an operator stops it."""

    async def both() -> None:
        listening_at = bound(address)
        up = asyncio.Event()
        serving = asyncio.create_task(run(door, address, listening_at, up.set, told))
        await asyncio.wait_for(up.wait(), 10)
        try:
            await asyncio.to_thread(ask, address.url(listening_at.getsockname()[1]))
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(serving, 10)

    asyncio.run(both())


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def opened_with(engine: Engine, settings: Settings) -> Door:
    """A door over another engine on the tiny model, unaudited."""
    prompts = PromptReader(tiny.tokenizer(tiny.CHAT))
    return Door(engine, "tiny", prompts, make_rules(Shelf(usual()), settings, prompts, engine), None, Metrics())


def script(door: Door) -> ScriptEngine:
    assert isinstance(door.engine, ScriptEngine)
    return door.engine
