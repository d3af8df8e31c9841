"""The pretrained models that ``make real-models`` has fetched."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FETCHED = Path(os.environ.get("TILLERMAN_REAL_MODELS") or ROOT / ".real-models")
REQUIRED = bool(os.environ.get("CI"))


def fetched(name: str) -> Path:
    """The file of weights of the model that the tool calls ``name``. One that is missing is a failure where ``CI`` is
    set, as in .ci/run, and a skip elsewhere."""
    sys.path.insert(0, str(ROOT / "tools" / "real_models"))
    try:
        model = importlib.import_module("pinned").MODELS[name]
    finally:
        sys.path.pop(0)
    path = FETCHED / model.folder / model.main
    if not path.is_file():
        (pytest.fail if REQUIRED else pytest.skip)(f"{path} is not there: make real-models")
    return path


@pytest.fixture(scope="session")
def smollm2() -> Path:
    return fetched("smollm2")


@pytest.fixture(scope="session")
def gemma3() -> Path:
    return fetched("gemma3")
