"""Proof that steering fires: passed by an engine that steers, and by no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

import pytest

from tillerman.core.plan import Plan
from tillerman.reports.serving import ShownArtefact, proof_lines, proofs_table
from tillerman.serving.door import Door
from tillerman.serving.engine import About, Chunk, Ended, Engine, Job
from tillerman.serving.engines.local.engine import LocalEngine
from tillerman.serving.proof import ArtefactProof, Reference
from tillerman.serving.proving import prove
from tillerman.serving.reference import SteerReference
from tillerman.serving.settings import AuditSettings, Settings

from .. import tiny
from . import made

OPENED = tiny.opened("llama", tiny.CHAT)


@dataclass
class Bent(Engine):
    """A local engine with a fault: some jobs are answered as if they were others."""

    real: LocalEngine
    how: str

    @property
    def about(self) -> About:
        return self.real.about

    def problem(self, plan: Plan) -> str | None:
        return self.real.problem(plan)

    async def start(self) -> None:
        await self.real.start()

    async def answer(self, job: Job) -> AsyncGenerator[Chunk | Ended, None]:
        asked = job
        zero = bool(job.plan) and job.plan[0].strength == 0
        if self.how == "never steers" or (self.how == "steers neighbours" and not job.plan and self._beside):
            asked = replace(job, plan=() if self.how == "never steers" else self._plan)
        if self.how == "steers at dose 0" and zero:
            asked = replace(job, plan=(replace(job.plan[0], strength=1.0),))
        if job.plan and not zero:
            self._beside, self._plan = True, job.plan
        async for event in self.real.answer(asked):
            if isinstance(event, Ended) and self.how == "never steers" and job.plan:
                yield replace(event, touched=made.touched(job.plan, event.prompt_tokens + event.answer_tokens - 1))
            elif isinstance(event, Ended) and self.how == "counts wrongly" and job.plan:
                yield replace(event, touched=made.touched(job.plan, 1))
            elif isinstance(event, Ended) and self.how == "tells nothing":
                yield replace(event, touched=())
            else:
                yield event

    _beside = False
    _plan: Plan = ()

    async def alive(self) -> str | None:
        return await self.real.alive()

    async def close(self) -> None:
        await self.real.close()


def proofs(how: str) -> tuple[Door, tuple[ArtefactProof, ...]]:
    engine = Bent(LocalEngine(OPENED), how)
    settings = Settings(audit=AuditSettings(file=""))
    door = made.opened_with(engine, settings)
    return door, asyncio.run(_proved(door, SteerReference(OPENED)))


async def _proved(door: Door, reference: Reference) -> tuple[ArtefactProof, ...]:
    await door.engine.start()
    try:
        return await prove(door, sorted(door.rules.library), reference, dtype="float32")
    finally:
        await door.engine.close()


@pytest.mark.slow
def test_an_engine_that_steers_passes_and_the_server_is_ready() -> None:
    door, found = proofs("")
    assert [(one.name, one.dose, one.passed) for one in found] == [("calm", 1.0, True), ("honesty", 1.0, True)]
    assert door.checked > 0


@pytest.mark.parametrize(
    ("how", "check"),
    [
        ("never steers", "changes"),
        pytest.param("steers at dose 0", "dose 0 unsteered", marks=pytest.mark.slow),
        pytest.param("steers neighbours", "neighbour", marks=pytest.mark.slow),
        pytest.param("counts wrongly", "as steer", marks=pytest.mark.slow),
        pytest.param("tells nothing", "receipt", marks=pytest.mark.slow),
    ],
)
def test_an_engine_with_a_fault_does_not(how: str, check: str) -> None:
    door, found = proofs(how)
    assert check in [one.what for one in found[0].checks if not one.passed]
    assert door.checked == 0


def test_the_report_names_what_was_not_shown() -> None:
    good = ShownArtefact("calm", "ab" * 32, 1.0, (("changes", True, "x"), ("receipt", True, "as asked")), 1.04)
    bad = replace(good, name="honesty", checks=(("changes", False, "0 apart"), ("receipt", True, "as asked")))
    table = proofs_table("local-1", [good, bad])
    assert table.head[3:] == ("changes", "receipt", "time ×")
    assert [row[3] for row in table.rows] == ["yes", "NO"] and table.rows[0][-1] == "1.04"
    lines = proof_lines([good, bad])
    assert lines == ["honesty, changes: 0 apart", "honesty: steering does not do here what it says"]
    assert proof_lines([good]) == [
        "steering fires: 1 artefact, all checks passed; a steered answer takes at most 1.04 times as long as an "
        "unsteered one"
    ]
