"""The committed notebooks are those of their sources, small and whole, and run."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from .test_tutorial import walk as walk  # a fixture: how pages are compared

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "notebooks").glob("*.py"))
REAL = "6_a_real_model"
CHARACTERS = 60_000  # of a notebook with its outputs


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebooks_build", ROOT / "tools/notebooks/build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def committed(source: Path) -> Any:
    return json.loads(source.with_suffix(".ipynb").read_text(encoding="utf-8"))


def test_there_are_six() -> None:
    assert [path.stem[0] for path in SOURCES] == list("123456")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_is_that_of_its_source_with_outputs_that_are_small_and_no_errors(
    source: Path, build: ModuleType
) -> None:
    kept, made = committed(source)["cells"], build.notebook(source)["cells"]
    remedy = f"stale; run 'python tools/notebooks/build.py {source.stem}'"
    assert [(cell["cell_type"], cell["source"]) for cell in kept] == [
        (cell["cell_type"], cell["source"]) for cell in made
    ], remedy
    code = [cell for cell in kept if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code) and any(cell["outputs"] for cell in code)
    assert not [one for cell in code for one in cell["outputs"] if one["output_type"] == "error"]
    assert source.with_suffix(".ipynb").stat().st_size < CHARACTERS
    assert not re.search(r"/(tmp|root|home|work)/", json.dumps(kept))


def said(cells: Any) -> str:
    """What the cells print and end in, as text."""
    outputs = [one for cell in cells for one in cell.get("outputs", ())]
    return "\n".join(str(one.get("text") or one.get("data", {}).get("text/plain", "")) for one in outputs)


@pytest.mark.slow
@pytest.mark.parametrize("source", [one for one in SOURCES if one.stem != REAL], ids=lambda path: path.stem)
def test_a_notebook_runs_and_says_what_it_shows(source: Path, build: ModuleType, walk: ModuleType) -> None:
    kept, made = said(committed(source)["cells"]), said(build.executed(source)["cells"])
    assert walk.same(kept, made), f"stale; run 'python tools/notebooks/build.py {source.stem}'\n{made}"
