"""The architecture's name of a model that need not be opened for it."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from tillerman.models.opened import EMBEDDED


def model_type_of(model_id: str) -> str:
    """``model_type`` of the configuration of an embedded model or a folder; else the model's name."""
    folder = Path(str(files("tillerman").joinpath(EMBEDDED[model_id]))) if model_id in EMBEDDED else Path(model_id)
    try:
        return str(json.loads((folder / "config.json").read_bytes())["model_type"])
    except (OSError, ValueError, LookupError):
        return model_id
