"""Files of jobs: both forms of a line, seeds by name, and what is wrong told by its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tillerman.core.errors import DataError
from tillerman.fleet.jobs import read_jobs

from .made import line, written


def test_a_line_of_openais_batches_is_the_same_job(tmp_path: Path) -> None:
    plain = read_jobs(written(tmp_path / "a.jsonl", [line("a", max_tokens=3), {"id": 7, "prompt": "Once"}]))
    body = {name: one for name, one in line("a", max_tokens=3).items() if name != "id"}
    batch = [
        {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body},
        {"custom_id": "7", "method": "POST", "url": "/v1/completions", "body": {"prompt": "Once"}},
    ]
    assert read_jobs(written(tmp_path / "b.jsonl", batch)) == plain
    assert [job.route for job in plain] == ["/v1/chat/completions", "/v1/completions"]


def test_a_seed_depends_on_the_name_and_on_nothing_else(tmp_path: Path) -> None:
    there = written(tmp_path / "a.jsonl", [line("a"), line("b"), line("c", seed=5)])
    back = written(tmp_path / "b.jsonl", [line("c", seed=5), line("b"), line("a")])
    seeds = {job.id: job.body["seed"] for job in read_jobs(there)}
    assert {job.id: job.body["seed"] for job in read_jobs(back)} == seeds
    assert seeds["c"] == 5 and seeds["a"] != seeds["b"]
    assert {job.id: job.body["seed"] for job in read_jobs(there, seed=1)}["a"] != seeds["a"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"id": "a", "prompt": "x"}\n{"id": "a", "prompt": "y"}', r"jobs.jsonl:2: the id 'a' stands in line 1 too"),
        ('{"prompt": "x"}', "jobs.jsonl:1: a job needs an id"),
        ('{"id": true, "prompt": "x"}', "a job needs an id"),
        ('\n{"id": "a", "prompt": "x", "stream": true}', "jobs.jsonl:2: stream: a job is answered whole"),
        ('{"id": "a"}', "give messages .* or prompt, and not both"),
        ('{"id": "a", "prompt": "x", "messages": []}', "and not both"),
        ('{"id": "a", "prompt": "x"', "jobs.jsonl:1: the line is no JSON"),
        ('{"id": "a", "prompt": "x", "prompt": "y"}', "'prompt' stands twice"),
        ("[1]", "the line is no JSON object"),
        ("\n\n", "no job; write one a line"),
        ('{"custom_id": "a", "body": {"prompt": "x"}}', "a batch line has body, custom_id, method, url"),
        (
            '{"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"prompt": "x"}}',
            "has method POST and url /v1/completions",
        ),
    ],
)
def test_what_is_no_job_is_told_by_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=words):
        read_jobs(path)
