"""A short run of the fuzzer over requests."""

from __future__ import annotations

from pathlib import Path

from .requests import run


def test_no_mutant_of_a_request_ends_in_a_fault_of_ours(tmp_path: Path) -> None:
    ends = run(150, 3, tmp_path)
    assert sum(ends.values()) == 150
    assert ends["malformed"] > 50 and len(ends) >= 4
