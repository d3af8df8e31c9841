"""``tillerman restest`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tillerman.logs.second_look import SecondLookLog

from .running import run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = [{"id": k, "unsteered": k % 2, "cache": int(k % 2 or k % 8 == 0), "same": k % 2} for k in range(200)]
    (tmp_path / "arc.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "arc.jsonl"


def test_a_file_is_tested_and_the_log_can_be_judged_again(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "look"
    said = run("restest", file, "--out", out)
    assert "arc, cache (better, +12.5 pp)" in " ".join(said.split()) and f"page: {out / 'restest.html'}" in said
    assert sorted(path.name for path in out.iterdir()) == ["restest.html", "restest.json", "restest.md"]
    again = run("restest", "--rejudge", out / "restest.json", "--margin", "0.05", "--conditions", "same")
    assert "the same within ±5.0 pp" in " ".join(again.split()) and "cache" not in again
    found = json.loads(run("restest", file, "--json"))
    assert SecondLookLog.from_json(found) == SecondLookLog.read(out / "restest.json")


def test_what_cannot_be_tested_is_said_with_flags(file: Path, tmp_path: Path) -> None:
    assert "name the baseline with --baseline, one of id, unsteered" in run("restest", file, "--baseline", "x", code=1)
    assert "--conditions cach: a column of no file" in run("restest", file, "--conditions", "cach", code=2)
    assert "give FILES to test, or --rejudge LOG" in run("restest", code=2)
    assert "--rejudge takes a log's counts as they are" in run("restest", "--rejudge", file, "--graded", code=2)
    assert "--out wants a folder" in run("restest", file, "--out", file, code=2)
    assert "margin -1: expected a finite number above 0" in run("restest", file, "--margin", "-1", code=2)
    assert "'tillerman restest FILES --out FOLDER' writes one" in run("restest", "--rejudge", file, code=1)
    assert "no such file" in run("restest", tmp_path / "none.csv", code=1)
