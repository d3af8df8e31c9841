"""Areas of one concept and model, as a file, and many as one."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from tillerman.core.decoding import build
from tillerman.core.files import write_text

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from packed import read_packed, write_packed

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
    write_packed(path, [asdict(one) for one in sorted(many, key=lambda one: one.key)])


def unpack(path: Path) -> list[Found]:
    return [build(Found, row) for row in read_packed(path)]
