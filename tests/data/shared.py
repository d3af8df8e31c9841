"""The real data shared by the project, where they are at hand; tests without them are skipped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def shared_data(path: str = "") -> Path:
    """A file or folder of the shared data: ``TILLERMAN_SHARED_DATA``, or ``../shared/data`` beside the repository."""
    given = os.environ.get("TILLERMAN_SHARED_DATA")
    root = Path(given) if given else Path(__file__).parents[2].parent / "shared" / "data"
    if not root.is_dir():
        pytest.skip(f"no shared data at {root}; set TILLERMAN_SHARED_DATA")
    return root / path
