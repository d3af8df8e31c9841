"""Batches over servers that listen: receipts, failures by name, servers that go away, and what is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tillerman.core.errors import DataError, EndpointError, UsageError
from tillerman.core.store import Store
from tillerman.fleet.answers import KEY, answers, checked
from tillerman.fleet.dispatch import Dispatch
from tillerman.fleet.jobs import read_jobs
from tillerman.fleet.servers import FleetServer, Row
from tillerman.serving.door import Door
from tillerman.serving.engine import Chunk, Ended, Job, Taken
from tillerman.serving.settings import Settings

from ..serving import made as serving
from .made import line, written


@dataclass
class EchoEngine(serving.ScriptEngine):
    """Says the seed that it was given, so that answers are told apart. ``breaks``: seeds that it fails on."""

    breaks: set[int] = field(default_factory=set)

    async def answer(self, job: Job) -> AsyncGenerator[Chunk | Ended, None]:
        self.jobs.append(job)
        await asyncio.sleep(self.pause)
        if job.drawing.seed in self.breaks:
            raise RuntimeError("broken")
        yield Chunk(f"seed {job.drawing.seed}", (Taken(0, "seed"),))
        self.midway()
        yield self.ended or Ended("stop", len(job.prompt), 1, serving.touched(job.plan, len(job.prompt) + 1))


def door(path: Path, engine: serving.ScriptEngine | None = None, text: str = "") -> Door:
    return serving.opened(path, engine or EchoEngine(), text, audited=False)


def run(
    path: Path, urls: Sequence[str], lines: Sequence[dict[str, Any]], store: Store | None = None, skip: bool = False
) -> list[Row]:
    jobs = read_jobs(written(path, lines))

    async def all() -> list[Row]:
        servers = [FleetServer(url) for url in urls]
        try:
            batch = await checked(jobs, servers)
            if not skip:
                batch.ensure_good()
            return await answers(batch, servers, store or Store(None, KEY), how=Dispatch(4, patience=0.5))
        finally:
            for server in servers:
                await server.close()

    return asyncio.run(asyncio.wait_for(all(), 60))


def said(row: Row) -> str:
    return str(row["choices"][0]["message"]["content"])


def engine_of(door: Door) -> EchoEngine:
    assert isinstance(door.engine, EchoEngine)
    return door.engine


def test_answers_stand_in_the_order_of_the_jobs_with_receipts_over_two_servers(tmp_path: Path) -> None:
    one, two = door(tmp_path / "1"), door(tmp_path / "2")
    lines = [line(f"j{i}", "honesty@0.3" if i % 2 else [], seed=i) for i in range(20)]
    with serving.listening(one) as a, serving.listening(two) as b:
        rows = run(tmp_path / "jobs.jsonl", [a, b], lines)
        assert run(tmp_path / "back.jsonl", [a], lines[::-1])[::-1] == rows
    assert [row["id"] for row in rows] == [f"j{i}" for i in range(20)]
    assert [said(row) for row in rows] == [f"seed {i}" for i in range(20)]
    assert [[act["artefact"] for act in row["steering"]["applied"]] for row in rows] == [[], ["honesty"]] * 10
    assert len(engine_of(one).jobs) > 20 and engine_of(two).jobs  # both had a part


def test_a_bad_job_is_told_before_any_is_begun_or_gets_an_error_of_its_own(tmp_path: Path) -> None:
    here = door(tmp_path / "1")
    lines = [line("good"), line("strong", "honesty@9"), line("who", "nobody@0.1"), line("odd", tools=[])]
    with serving.listening(here) as url:
        with pytest.raises(DataError, match=r"3 of 4 jobs .*line 2 \(strong\): .*over the cap.*line 3.*--skip-bad"):
            run(tmp_path / "jobs.jsonl", [url], lines)
        assert engine_of(here).jobs == []
        rows = run(tmp_path / "jobs.jsonl", [url], lines, skip=True)
    assert [row.get("error", {}).get("code") for row in rows] == [None, "over_cap", "unknown_artefact", "unsupported"]


def test_a_job_that_breaks_the_engine_fails_by_name_and_takes_none_with_it(tmp_path: Path) -> None:
    here = door(tmp_path / "1", EchoEngine(breaks={3}))
    with serving.listening(here) as url:
        rows = run(tmp_path / "jobs.jsonl", [url], [line(f"j{i}", seed=i) for i in range(8)])
    assert [row["id"] for row in rows if "error" in row] == ["j3"]
    assert rows[3]["error"]["code"] == "answer_lost" and "asked 4 times" in rows[3]["error"]["message"]
    assert [said(row) for row in rows[4:]] == [f"seed {i}" for i in range(4, 8)]


def test_an_answer_whose_receipt_is_not_its_plan_is_no_answer(tmp_path: Path) -> None:
    engine = EchoEngine(ended=Ended("stop", 5, 1, ()))
    with serving.listening(door(tmp_path / "1", engine)) as url:
        (row,) = run(tmp_path / "jobs.jsonl", [url], [line("a")])
    assert row["error"]["code"] == "not_applied" and "choices" not in row


def test_a_server_that_is_busy_or_asked_too_often_is_waited_for(tmp_path: Path) -> None:
    engine = EchoEngine(pause=0.05)
    with serving.listening(door(tmp_path / "1", engine, "[limits]\nrunning = 1\n")) as url:
        rows = run(tmp_path / "jobs.jsonl", [url], [line(f"j{i}", seed=i) for i in range(3)])
    assert [said(row) for row in rows] == ["seed 0", "seed 1", "seed 2"]


def test_jobs_of_a_server_that_goes_away_are_answered_by_the_other(tmp_path: Path) -> None:
    one, two = door(tmp_path / "1", EchoEngine(pause=0.01)), door(tmp_path / "2", EchoEngine(pause=0.01))
    lines = [line(f"j{i}", seed=i) for i in range(30)]

    def stop() -> None:  # it is asked to end in the middle
        one.stopping = len(engine_of(one).jobs) > 5

    engine_of(one).midway = stop
    with serving.listening(one) as a, serving.listening(two) as b:
        rows = run(tmp_path / "jobs.jsonl", [a, b], lines)
    assert [said(row) for row in rows] == [f"seed {i}" for i in range(30)]
    asked = [job.drawing.seed for here in (one, two) for job in engine_of(here).jobs]
    assert sorted(asked) == list(range(30))  # and nothing twice


def test_where_no_server_is_left_the_run_ends_and_goes_on_from_what_is_kept(tmp_path: Path) -> None:
    here = door(tmp_path / "1")
    lines = [line(f"j{i}", seed=i) for i in range(10)]

    def stop() -> None:
        here.stopping = len(engine_of(here).jobs) >= 4
        if here.stopping:
            engine_of(here).ill = "gone"

    engine_of(here).midway = stop
    with serving.listening(here) as url:
        store = Store(tmp_path / "kept", KEY)
        with pytest.raises(EndpointError, match=r"no server has answered for \d+ s"):
            run(tmp_path / "jobs.jsonl", [url], lines, store)
        store.close(finished=False)
        before = len(engine_of(here).jobs)
        engine_of(here).midway, engine_of(here).ill, here.stopping = (lambda: None), None, False
        again = Store(tmp_path / "kept", KEY)
        assert again.resumed == before >= 4
        rows = run(tmp_path / "jobs.jsonl", [url], lines, again)
    assert [said(row) for row in rows] == [f"seed {i}" for i in range(10)]
    assert len(engine_of(here).jobs) == 10


def test_a_changed_job_is_asked_anew_and_a_failed_one_again(tmp_path: Path) -> None:
    here = door(tmp_path / "1", EchoEngine(breaks={1}))
    store = Store(tmp_path / "kept", KEY)
    with serving.listening(here) as url:
        first = run(tmp_path / "jobs.jsonl", [url], [line("a", seed=0), line("b", seed=1)], store)
        assert "error" in first[1]
        engine_of(here).breaks = set()
        engine_of(here).jobs.clear()
        rows = run(tmp_path / "jobs.jsonl", [url], [line("a", "calm@0.2", seed=0), line("b", seed=1)], store)
    assert [said(row) for row in rows] == ["seed 0", "seed 1"]
    assert rows[0]["steering"]["applied"][0]["dose"] == pytest.approx(0.2)
    assert len(engine_of(here).jobs) == 2


def test_servers_that_do_not_serve_the_same_are_refused(tmp_path: Path) -> None:
    one = door(tmp_path / "1")
    other = serving.opened_with(EchoEngine(), Settings())
    other.name = "large"
    with (
        serving.listening(one) as a,
        serving.listening(other) as b,
        pytest.raises(UsageError, match=r"do not serve the same: tiny .* and large"),
    ):
        run(tmp_path / "jobs.jsonl", [a, b], [line("a")])


def test_what_is_no_server_of_ours_is_told(tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match="cannot be reached"):
        run(tmp_path / "jobs.jsonl", ["http://127.0.0.1:9"], [line("a")])


def test_rows_are_plain_json(tmp_path: Path) -> None:
    with serving.listening(door(tmp_path / "1")) as url:
        (row,) = run(tmp_path / "jobs.jsonl", [url], [{"id": "a", "prompt": "Once", "n": 2, "seed": 4}])
    assert json.loads(json.dumps(row)) == row and row["seed"] == 4
    assert [choice["text"] for choice in row["choices"]] == ["seed 4", "seed 5"]
