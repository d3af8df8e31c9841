"""One door for every file: by what it is, not by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tillerman.core.errors import ArtefactError
from tillerman.core.files import as_ours
from tillerman.core.foreign import foreign_file
from tillerman.exchange.array_files import read_numpy, read_safetensors
from tillerman.exchange.found import Found
from tillerman.exchange.gguf_files import read_gguf
from tillerman.exchange.json_files import read_json
from tillerman.exchange.outgoing import ARTEFACT
from tillerman.exchange.torch_files import read_torch

_READERS: Mapping[str, Callable[[Path], Found]] = {
    "torch": read_torch,
    "numpy": read_numpy,
    "gguf": read_gguf,
    "json": read_json,
}


def read_file(path: Path) -> Found:
    """What the file holds; ``ArtefactError`` says what it is where it holds no vector.

    Of a folder that an export baked the artefact is read that lies in it."""
    if path.is_dir() and (path / ARTEFACT).is_file():
        return Found("a folder that an export of Tillerman's made", {}, 1.0, (path / ARTEFACT).read_bytes())
    if not path.is_file():
        raise ArtefactError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}; name the file of a vector")
    with as_ours(path):
        foreign = foreign_file(path)
    if foreign is None:
        return read_safetensors(path)
    if not foreign.reader:
        raise ArtefactError(foreign.words(path))
    return _READERS[foreign.reader](path)
