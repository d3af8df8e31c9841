"""The published reproductions are what their logs say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from tillerman.recipes.parse import SHIPPED

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("reproductions_build", ROOT / "tools/reproductions/build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_page_is_made_of_the_logs_as_they_are(build):
    (made,) = build.made().values()
    assert made == build.PAGE.read_text(encoding="utf-8"), "stale: run 'python tools/reproductions/build.py'"


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_every_recipe_has_a_published_run_and_a_section(build, name):
    text = build.PAGE.read_text(encoding="utf-8")
    assert f"\n## {name}\n" in text
    assert re.search(r"\| (holds|does not hold)[ :]", build.measured(name))
