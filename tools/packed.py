"""Measurements as they are committed: gzipped JSON, the same bytes for the same values, one file for each model."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

ENDING = ".json.gz"


class Keyed(Protocol):
    @property
    def key(self) -> tuple[Any, ...]: ...  # the model's name first


One = TypeVar("One", bound=Keyed)


def write_packed(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(json.dumps(values).encode(), mtime=0))


def read_packed(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()))


def all_of(folder: Path, unpack: Callable[[Path], list[One]]) -> list[One]:
    """What the files of all models hold."""
    return [one for path in sorted(folder.glob(f"*{ENDING}")) for one in unpack(path)]


def add_to(
    folder: Path, new: Iterable[One], unpack: Callable[[Path], list[One]], pack: Callable[[Path, list[One]], None]
) -> None:
    """Newer measurements take the place of older ones of the same key."""
    known = {one.key: one for one in (*all_of(folder, unpack), *new)}
    for model in dict.fromkeys(key[0] for key in known):
        pack(folder / f"{model}{ENDING}", [one for key, one in known.items() if key[0] == model])
