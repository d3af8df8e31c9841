"""When artefacts are proved: those that a reload brings, and served ones again and again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tillerman.serving.door import Door
from tillerman.serving.engine import Chunk, Ended, Job, Touched
from tillerman.serving.http.app import create_app
from tillerman.serving.http.server import Address
from tillerman.serving.proof import Prover
from tillerman.serving.proving import Canary, ensure_new_proved

from . import made


@dataclass
class Steerable(made.ScriptEngine):
    """Its log-probabilities move with what is done to an answer. ``dead`` artefacts do nothing; ``full``: no answer."""

    dead: set[str] = field(default_factory=set)
    full: bool = False
    noise: float = 0.0  # as batches of other shapes have it; of every other answer

    async def answer(self, job: Job) -> AsyncGenerator[Chunk | Ended, None]:
        if self.full:
            yield Ended("error", 0, 0, tuple(Touched({}) for _ in job.plan), why="too many answers wait")
            return
        acts = zip(job.names, job.plan, strict=True)
        moved = sum(item.strength for name, item in acts if name not in self.dead)
        moved += self.noise * (len(self.jobs) % 2)
        async for event in super().answer(job):
            if isinstance(event, Chunk):
                tokens = tuple(replace(one, logprob=-0.5 - moved) for one in event.tokens)
                yield replace(event, tokens=tokens)
            else:
                yield event


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return made.opened(tmp_path, Steerable(), made.keyed(allow='["honesty", "calm"]'))


def engine_of(door: Door) -> Steerable:
    assert isinstance(door.engine, Steerable)
    return door.engine


def prover(door: Door) -> Prover:
    return Prover(door.engine, door.prompts, "float32", live=True)


def http(door: Door) -> TestClient:
    return TestClient(create_app(door), headers={"Authorization": f"Bearer {made.ADMIN}"})


def asked(door: Door, steering: object) -> int:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "steering": steering}
    return http(door).post("/v1/chat/completions", json=body).status_code


def test_a_reload_takes_in_a_new_artefact_only_if_it_steers(door: Door, tmp_path: Path) -> None:
    made.folder(tmp_path / "artefacts")
    assert http(door).post("/v1/admin/reload").status_code == 200
    door.prove_new = partial(ensure_new_proved, door, prover=prover(door))
    made.folder(tmp_path / "artefacts", {"brave": made.artefact(2, seed=5)})
    engine = engine_of(door)
    engine.dead = {"brave"}
    before = door.rules
    answer = http(door).post("/v1/admin/reload")
    assert answer.status_code == 409 and door.rules is before
    assert "brave, changes: log-probabilities 0 apart" in answer.json()["error"]["message"]
    engine.dead = {"honesty"}  # it is served already, and asked by the canary
    engine.jobs.clear()
    assert http(door).post("/v1/admin/reload").json()["artefacts"] == ["brave", "calm", "honesty"]
    assert {name for job in engine.jobs for name in job.names} == {"brave"}
    engine.jobs.clear()
    assert http(door).post("/v1/admin/reload").status_code == 200 and not engine.jobs


def test_an_artefact_that_stops_steering_is_not_served_until_it_does_again(door: Door) -> None:
    canary, engine = Canary(door, prover(door)), engine_of(door)

    def looked(times: int) -> None:
        for _ in range(times):
            asyncio.run(canary.look())

    looked(2)
    assert {name for job in engine.jobs for name in job.names} == {"honesty", "calm"}
    assert time.time() - door.checked < 60 and http(door).get("/ready").status_code == 200
    engine.dead = {"calm"}
    looked(2)
    told = http(door).get("/ready")
    assert told.status_code == 503 and told.json()["status"] == "not shown to steer any more: calm"
    assert "tillerman_artefacts_unproved 1.0" in http(door).get("/metrics").text
    statuses = [asked(door, one) for one in ("calm@0.1", ["honesty@0.1", "calm@0.1"], "honesty@0.1", [])]
    assert statuses == [503, 503, 200, 200]
    engine.dead = set()
    looked(1)  # what failed comes first
    assert http(door).get("/ready").status_code == 200 and asked(door, "calm@0.1") == 200


def test_an_engine_that_is_full_or_rounds_otherwise_is_not_taken_for_one_that_does_not_steer(door: Door) -> None:
    canary, engine = Canary(door, prover(door)), engine_of(door)
    engine.full = True
    for _ in range(2):
        asyncio.run(canary.look())
    assert not door.unproved and door.checked == 1.0
    engine.full, engine.noise = False, 1e-6
    for _ in range(2):
        asyncio.run(canary.look())
    assert not door.unproved and door.checked > 1.0
    engine.noise = 0.01
    asyncio.run(canary.look())
    assert door.unproved


def test_a_reload_forgets_what_was_found_of_an_artefact_that_was_replaced(door: Door, tmp_path: Path) -> None:
    made.folder(tmp_path / "artefacts")
    assert http(door).post("/v1/admin/reload").status_code == 200
    for one in door.rules.library.values():
        door.note_proof(one, "nothing")
    made.folder(tmp_path / "artefacts", {"calm": made.artefact(1, strength=0.1, seed=3)})
    old = door.rules.library["calm"]
    assert http(door).post("/v1/admin/reload").status_code == 200
    assert list(door.unproved) == ["honesty"]
    door.note_proof(old, "nothing")  # of the file that was there before
    assert list(door.unproved) == ["honesty"]


def test_a_running_server_proves_what_it_serves_again_and_again(tmp_path: Path) -> None:
    door = made.opened(tmp_path, Steerable(), "[engine]\ncanary_seconds = 0.02")
    door.canary = Canary(door, prover(door)).watch
    made.running(door, Address(port=0), lambda url: made.until(lambda: len(engine_of(door).jobs) > 20))
    assert {name for job in engine_of(door).jobs for name in job.names} == {"honesty", "calm"}
    quiet = made.opened(tmp_path / "quiet", Steerable(), "[engine]\ncanary_seconds = 0")
    quiet.canary = Canary(quiet, prover(quiet)).watch
    made.running(quiet, Address(port=0), lambda url: time.sleep(0.1))
    assert not engine_of(quiet).jobs


def test_a_reload_by_signal_tells_what_it_has_taken_in(door: Door, tmp_path: Path) -> None:
    said: list[str] = []
    made.folder(tmp_path / "artefacts", {"brave": made.artefact(2, seed=5)})

    def hang_up(url: str) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        made.until(lambda: bool(said))

    made.running(door, Address(port=0), hang_up, said.append)
    assert said == ["read anew: brave"]
