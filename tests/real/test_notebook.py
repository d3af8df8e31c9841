"""The notebook of a real model runs on it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.real
def test_the_notebook_of_a_real_model_runs(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("notebooks_build", ROOT / "tools/notebooks/build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("TILLERMAN_REAL_MODELS", str(smollm2.parent.parent))
    cells = module.executed(ROOT / "notebooks/6_a_real_model.py")["cells"]
    text = "".join(str(one.get("text", "")) for cell in cells for one in cell.get("outputs", ()))
    plain, steered = (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(("uns", "ste")))
    assert plain and steered and plain != steered
