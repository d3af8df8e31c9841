"""The audit: chained, whole, private by default, and never silently missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from tillerman.core.errors import FileError, LogError
from tillerman.serving.audit import FIRST, Audit, check_chain, last_lines, prompt_facts
from tillerman.serving.refusals import Refusal

FULL = Path("/dev/full")


def written(path: Path, *events: str) -> list[bytes]:
    audit = Audit(path)
    for number, event in enumerate(events):
        audit.write(event, {"id": number})
    audit.close()
    return path.read_bytes().splitlines(keepends=True)


def test_each_line_holds_the_hash_of_the_line_before_over_restarts(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    written(path, "admitted", "ended")
    lines = written(path, "refused")
    assert [json.loads(line)["event"] for line in lines] == ["admitted", "ended", "refused"]
    assert json.loads(lines[0])["chain"] == FIRST
    assert check_chain(path) == 3
    assert [line["event"] for line in last_lines(path, 2)] == ["ended", "refused"]


@settings(max_examples=25)
@given(st.integers(0, 3), st.sampled_from(["change", "remove", "swap"]))
def test_a_line_that_was_changed_taken_out_or_moved_shows(tmp_path_factory: pytest.TempPathFactory, at: int, how: str):
    path = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    lines = written(path, *"abcde")
    if how == "change":
        lines[at] = lines[at].replace(b'"id": ', b'"id": 1')
    elif how == "remove":
        del lines[at]
    else:
        lines[at], lines[at + 1] = lines[at + 1], lines[at]
    path.write_bytes(b"".join(lines))
    with pytest.raises(LogError, match="does not follow"):
        check_chain(path)


def test_a_line_cut_off_by_a_crash_is_kept_and_the_chain_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    lines = written(path, "a", "b")
    path.write_bytes(b"".join(lines) + b'{"time": "20')
    after = written(path, "c")
    assert after[2] == b'{"time": "20\n' and check_chain(path) == 3


def test_one_file_has_one_writer(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "audit.jsonl")
    with pytest.raises(FileError, match="another server writes this audit"):
        Audit(tmp_path / "audit.jsonl")
    audit.close()


@pytest.mark.skipif(not FULL.exists(), reason="a system without /dev/full")
def test_a_full_disk_is_a_refusal() -> None:
    audit = Audit(FULL)
    with pytest.raises(Refusal, match="the disk is full") as refused:
        audit.write("admitted", {})
    assert refused.value.status == 503
    audit.close()


def test_only_its_owner_reads_the_file(tmp_path: Path) -> None:
    written(tmp_path / "audit.jsonl", "a")
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o077 == 0


def test_of_a_prompt_its_hash_is_kept_and_its_text_only_if_asked() -> None:
    assert prompt_facts("secret", "none") == {}
    hashed = prompt_facts("secret", "hash")
    assert "secret" not in json.dumps(hashed) and len(hashed["prompt_sha256"]) == 64
    assert prompt_facts("secret", "text")["prompt"] == "secret"
