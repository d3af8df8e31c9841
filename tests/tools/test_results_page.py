"""The published comparison of methods is what its log says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_of_results_is_made_of_its_log_as_it_is():
    spec = importlib.util.spec_from_file_location("results_build", ROOT / "tools/results/build.py")
    assert spec is not None and spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    (made,) = build.made().values()
    assert made == build.PAGE.read_text(encoding="utf-8"), "stale: run 'python tools/results/build.py'"
