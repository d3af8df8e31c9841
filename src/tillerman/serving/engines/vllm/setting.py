"""What the plugin is told by whoever starts vLLM: environment variables, the same in each of its processes."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tillerman.core.errors import UsageError
from tillerman.serving.engines.vllm.options import READS_EXPECTED, READS_TEXT

FOLDER = "TILLERMAN_ARTEFACTS"  # a folder of artefacts
LAYERS = "TILLERMAN_LAYERS"  # auto: those that the artefacts steer; all; or 2,7
READS = "TILLERMAN_READS"  # how many operators of a request may read the stream at a block: auto; 2; or 7:1,9:2
VERSION = importlib.metadata.version("tillerman")
KEY = "tillerman"  # where a request's plan and an answer's receipt stand


@dataclass(frozen=True)
class Setting:
    """Where artefacts lie, which decoder blocks can be steered (None: all), and how many operators of a request may
    read the stream there (``ablate``, ``clamp``): at each block alike, or by block. At the others it is added only."""

    folder: Path
    layers: tuple[int, ...] | None
    reads: int | Mapping[int, int] = 0

    def reads_at(self, block: int) -> int:
        """The most at this block."""
        return self.reads if isinstance(self.reads, int) else self.reads.get(block, 0)

    def to_environment(self) -> dict[str, str]:
        """What ``read`` reads."""
        layers = "all" if self.layers is None else ",".join(map(str, self.layers))
        return {FOLDER: str(self.folder), LAYERS: layers, READS: _written(self.reads)}


def read(environment: Mapping[str, str] = os.environ) -> Setting | None:
    """None where no folder is named: then the plugin steers nothing, and refuses who asks for it."""
    if not environment.get(FOLDER):
        return None
    folder = Path(environment[FOLDER])
    if not folder.is_dir():
        raise UsageError(f"{FOLDER}: {folder} is not a folder")
    return setting_of(folder, environment.get(LAYERS) or "auto", environment.get(READS) or "auto")


def setting_of(folder: Path, layers: str, reads: str) -> Setting:
    """``layers``: auto, all, or such as 2,7. ``reads``: auto (as many as artefacts do there), 2, or 7:1,9:2."""
    from tillerman.serving.engines.vllm.vectors import ServedVectors

    there = ServedVectors(folder)
    most = there.reads() if reads == "auto" else _reads(reads)
    if layers == "all":
        return Setting(folder, None, most)
    if layers == "auto":
        return Setting(folder, there.layers(), most)
    try:
        return Setting(folder, tuple(sorted({int(part) for part in layers.split(",")})), most)
    except ValueError:
        raise UsageError(f"{LAYERS} {layers!r}: expected auto, all, or layers such as 2,7") from None


def _reads(text: str) -> int | dict[int, int]:
    if text == "auto" or not READS_TEXT.fullmatch(text):
        raise UsageError(f"{READS} {text!r}: {READS_EXPECTED}")
    if text.isdecimal():
        return int(text)
    pairs = (part.split(":") for part in text.split(","))
    return {int(block): int(most) for block, most in pairs}


def _written(reads: int | Mapping[int, int]) -> str:
    if isinstance(reads, int) or not reads:
        return str(reads or 0)
    return ",".join(f"{block}:{most}" for block, most in sorted(reads.items()))
