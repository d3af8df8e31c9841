"""Areas of one concept and model, as a file, and many as one."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from tillerman.core.decoding import build
from tillerman.core.files import write_text

BAG, RANDOM = "words and characters", "random direction"


@dataclass(frozen=True)
class Found:
    """``counts``: texts with the concept and without it that were learned from, and the same of those asked.
    ``areas``: by detector, then by layer and pooling over tokens (``20 max``); of the text classifier by ``words``."""

    model: str
    name: str
    concept: int
    label: str
    counts: tuple[int, int, int, int]
    areas: dict[str, dict[str, float]]

    @property
    def key(self) -> tuple[str, str, int]:
        return self.model, self.name, self.concept


def path_of(folder: Path, key: tuple[str, str, int]) -> Path:
    return folder / f"{'-'.join(map(str, key))}.json"


def write(folder: Path, one: Found) -> None:
    write_text(path_of(folder, one.key), json.dumps(asdict(one)))


def read(folder: Path) -> list[Found]:
    return [build(Found, json.loads(path.read_bytes())) for path in sorted(folder.glob("*.json"))]


def pack(path: Path, many: Iterable[Found]) -> None:
    lines = "\n".join(json.dumps(asdict(one)) for one in sorted(many, key=lambda one: one.key))
    path.write_bytes(gzip.compress(lines.encode(), mtime=0))


def unpack(path: Path) -> list[Found]:
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    return [build(Found, json.loads(line)) for line in lines]
