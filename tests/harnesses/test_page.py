"""The page about other harnesses runs from top to bottom."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..test_docs import ROOT, blocks, compiled


@pytest.mark.slow
def test_the_page_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs/harnesses.md"
    names: dict[str, object] = {}
    for line, code, wanted in blocks(page):
        assert wanted
        exec(compiled(page, line, code), names)
    assert names["steered"].receipts["loglikelihood"].applied[0].touched
    right, theirs = names["found"]["results"]["agreeableness"]["acc,none"], names["log"].results.scores[0].metrics
    assert right == pytest.approx(theirs["accuracy"].value)
