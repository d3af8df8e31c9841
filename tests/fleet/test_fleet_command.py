"""``tillerman fleet run`` as it is typed: workers of this machine, killed and started anew, and a run that goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tillerman.cli.commands.fleet import FleetAction, fleet
from tillerman.core.errors import ModelError, UsageError
from tillerman.core.store import Store
from tillerman.fleet.answers import KEY, answers, checked
from tillerman.fleet.dispatch import Dispatch
from tillerman.fleet.jobs import read_jobs
from tillerman.fleet.servers import Row
from tillerman.fleet.within import WithinProcess
from tillerman.fleet.workers import workers

from . import made

MAIN = [sys.executable, "-c", "from tillerman.cli.app import main; main()"]
LINES = [made.line(f"j{i}", f"calm@{0.01 * i}" if i % 3 else [], max_tokens=8, temperature=0.9) for i in range(16)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.pilot_folder(tmp_path_factory.mktemp("pilot") / "artefacts")


@pytest.mark.slow
def test_workers_that_are_killed_lose_nothing_and_the_answers_are_those_of_one_process(
    folder: Path, tmp_path: Path
) -> None:
    jobs = read_jobs(made.written(tmp_path / "jobs.jsonl", LINES))
    kept: list[str] = []

    async def run() -> list[Row]:
        async with workers(made.spec(folder, 4), 2) as pool:
            await pool.ready()

            def one_more(done: int) -> None:
                kept.append("answer")
                if len(kept) == 5:
                    os.kill(pool.pids[0], signal.SIGKILL)

            batch = await checked(jobs, pool.servers)
            how = Dispatch(8, revive=pool.revive)
            return await answers(batch, pool.servers, Store(None, KEY), how=how, progress=one_more)

    killed = asyncio.run(run())
    assert len(kept) == len(jobs)  # each was answered once
    assert [row["id"] for row in killed] == [job.id for job in jobs]
    within = WithinProcess(made.spec(folder, 1))
    assert within.answers(LINES) == killed
    within.close()


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_and_leaves_no_process(folder: Path, tmp_path: Path) -> None:
    made.written(tmp_path / "jobs.jsonl", [made.line(f"j{i}", max_tokens=60) for i in range(20)])
    where = ["--model", "pilot", "--artefacts", str(folder), "--device", "cpu", "--rows", "2"]
    command = [*MAIN, "fleet", "run", "jobs.jsonl", "--out", "out.jsonl", *where]
    values = tmp_path / "out.jsonl.partial" / "values.jsonl"
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 300
        while not (values.exists() and values.read_text().count("\n") > 4):
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.02)
        (worker,) = children(process.pid)
        process.kill()
    assert not (tmp_path / "out.jsonl").exists()
    while Path(f"/proc/{worker}/stat").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    before = values.read_text()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "finished pieces of an interrupted run" in done.stderr and "20 of 20 jobs answered" in done.stdout
    rows = made.rows_of(tmp_path / "out.jsonl")
    assert [row["id"] for row in rows] == [f"j{i}" for i in range(20)]
    assert before.count("\n") > 4 and not values.exists()


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(one) for one in found]


@pytest.mark.slow
def test_a_worker_that_does_not_come_up_is_told_by_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    async def run() -> None:
        async with workers(made.spec(tmp_path / "empty"), 1) as pool:
            await pool.ready()

    with pytest.raises(ModelError, match=r"worker 0 ended before it was ready: .*holds no artefact"):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "give --model and --artefacts"),
        ({"out": None}, "--out OUT.jsonl"),
        ({"url": ["http://a"], "model": "pilot"}, "omit these"),
        ({"url": ["http://a", "http://a"]}, "is given twice"),
        ({"url": ["a:8000"]}, "expected http://HOST:PORT"),
    ],
    ids=["nowhere", "no file", "both", "twice", "no address"],
)
def test_what_contradicts_itself_is_told_before_anything_starts(
    tmp_path: Path, more: dict[str, object], words: str
) -> None:
    jobs = made.written(tmp_path / "jobs.jsonl", LINES)
    with pytest.raises(UsageError, match=words):
        fleet(**{"action": FleetAction.RUN, "jobs": jobs, "out": tmp_path / "out.jsonl", **more})  # type: ignore[arg-type]
