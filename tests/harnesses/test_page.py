"""The page about other harnesses runs from top to bottom."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ..test_docs import ROOT, blocks

_TOLD = """
import json
right = found["results"]["agreeableness"]["acc,none"]
theirs = log.results.scores[0].metrics["accuracy"].value
print(json.dumps([right, theirs, steered.receipts["loglikelihood"].applied[0].touched]))
"""


@pytest.mark.slow
def test_the_page_runs_from_top_to_bottom(tmp_path: Path):
    """In a process of its own, as a reader runs it: without checks of types, which do not stand many threads."""
    parts = list(blocks(ROOT / "docs/harnesses.md"))
    assert all(wanted for _, _, wanted in parts)
    code = "\n".join([*(code for _, code, _ in parts), _TOLD])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    right, theirs, touched = json.loads(done.stdout.strip().splitlines()[-1])
    assert right == pytest.approx(theirs)
    assert touched
