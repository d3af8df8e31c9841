"""Finished pieces of work as lines and files, each with a checksum: what was cut off is made again, what was changed by
hand is refused."""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from tillerman.core.errors import UsageError
from tillerman.core.seal import CHECKSUM, is_whole

Kept = dict[str, tuple[Any, float]]  # by key: the value, and the seconds it took to make


def line_of(key: str, value: Any, seconds: float) -> str:
    """A value as a line of JSON: key, value, seconds, checksum of the three."""
    piece = [key, value, seconds]
    return json.dumps([*piece, _checksum(piece)])


def read_lines(path: Path) -> Kept:
    """The values of a file of lines. The line that a killed run was writing is none; ``UsageError`` for one that no
    run has written so."""
    kept: Kept = {}
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue  # cut off, or the blank before the next
        if isinstance(found, list) and len(found) == 3:
            continue  # of before lines had a checksum
        if not isinstance(found, list) or len(found) != 4 or found[3] != _checksum(found[:3]):
            raise _changed(path, f"line {number} is", "that line")
        kept[found[0]] = found[1], found[2]
    return kept


def read_tensors(path: Path) -> tuple[dict[str, Tensor], float] | None:
    """Tensors and the seconds they took to make; None where the file is of before files had a checksum.

    ``SafetensorError`` for a file that is cut off, ``UsageError`` for one that was changed.
    """
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
        metadata = file.metadata() or {}
    if CHECKSUM not in metadata:
        return None
    if not is_whole(tensors, metadata, expected=True):
        raise _changed(path, "it is", "it")
    return tensors, float(metadata.get("seconds", 0))


def _checksum(piece: list[Any]) -> str:
    return blake2b(json.dumps(piece).encode(), digest_size=8).hexdigest()


def _changed(path: Path, what: str, part: str) -> UsageError:
    return UsageError(
        f"{path}: {what} not as the interrupted run wrote it; delete {part}, and this piece is made again, or the "
        f"folder {path.parent.name} to begin anew"
    )
