"""What atoms mean, in somebody's words."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from tillerman.core.errors import DataError

_INDEX, _TEXT = ("index", "feature", "atom"), ("description", "label")


def read_labels(path: Path, atoms: int) -> dict[int, str]:
    """``{"12": "sports"}``, or objects with ``index`` (or ``feature``) and ``description`` (or ``label``) as
    Neuronpedia exports them: a list, a list under ``explanations``, or one object a line; also gzipped. Of several
    explanations of an atom the first counts, and one without words none."""
    try:
        found = _parsed(path)
        rows = found.get("explanations", found) if isinstance(found, dict) else found
        pairs = rows.items() if isinstance(rows, dict) else [(_one(r, _INDEX), _one(r, _TEXT)) for r in rows]
        labels: dict[int, str] = {}
        for index, text in pairs:
            if str(text).strip():
                labels.setdefault(int(index), str(text).strip())
    except (OSError, EOFError, ValueError, TypeError, KeyError) as error:
        raise DataError(f'no labels of atoms ({error}); write {{"12": "sports"}}', file=path) from None
    outside = [index for index in labels if not 0 <= index < atoms]
    if outside:
        raise DataError(f"labels atom {outside[0]}, the autoencoder has atoms 0..{atoms - 1}", file=path)
    return labels


def _parsed(path: Path) -> Any:
    content = path.read_bytes()
    text = (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode("utf-8")
    try:
        return json.loads(text)
    except ValueError:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise
        return [json.loads(line) for line in lines]


def _one(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        if name in row:
            return row[name]
    raise KeyError(f"a row without {' or '.join(names)}")
