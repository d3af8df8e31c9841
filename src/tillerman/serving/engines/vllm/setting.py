"""What the plugin is told by whoever starts vLLM: two environment variables, the same in each of its processes."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tillerman.core.errors import UsageError

FOLDER = "TILLERMAN_ARTEFACTS"  # a folder of artefacts
LAYERS = "TILLERMAN_LAYERS"  # auto: those that the artefacts steer; all; or 2,7
VERSION = importlib.metadata.version("tillerman")
KEY = "tillerman"  # where a request's plan and an answer's receipt stand


@dataclass(frozen=True)
class Setting:
    """Where artefacts lie, and which decoder blocks can be steered; None: all."""

    folder: Path
    layers: tuple[int, ...] | None

    def to_environment(self) -> dict[str, str]:
        """What ``read`` reads."""
        layers = "all" if self.layers is None else ",".join(map(str, self.layers))
        return {FOLDER: str(self.folder), LAYERS: layers}


def read(environment: Mapping[str, str] = os.environ) -> Setting | None:
    """None where no folder is named: then the plugin steers nothing, and refuses who asks for it."""
    if not environment.get(FOLDER):
        return None
    folder = Path(environment[FOLDER])
    if not folder.is_dir():
        raise UsageError(f"{FOLDER}: {folder} is not a folder")
    return setting_of(folder, environment.get(LAYERS) or "auto")


def setting_of(folder: Path, text: str) -> Setting:
    """``text``: auto, all, or layers such as 2,7."""
    if text == "all":
        return Setting(folder, None)
    if text == "auto":
        from tillerman.serving.engines.vllm.vectors import ServedVectors

        return Setting(folder, ServedVectors(folder).layers())
    try:
        return Setting(folder, tuple(sorted({int(part) for part in text.split(",")})))
    except ValueError:
        raise UsageError(f"{LAYERS} {text!r}: expected auto, all, or layers such as 2,7") from None
