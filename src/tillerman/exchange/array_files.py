"""Plain files of arrays: safetensors, ``.npy`` and ``.npz``."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tillerman.core.errors import ArtefactError
from tillerman.core.files import replacing
from tillerman.core.foreign import foreign_tensors
from tillerman.exchange.found import Found, directions_in
from tillerman.exchange.outgoing import ARTEFACT, Outgoing


def write_safetensors(path: Path, vector: Outgoing) -> None:
    """A tensor per hook point, by its name."""
    tensors = {str(point): v.contiguous() for point, v in vector.scaled.items()}
    with replacing(path) as part:
        save_file(tensors, part, metadata={ARTEFACT: base64.b64encode(vector.carried).decode()})


def read_safetensors(path: Path) -> Found:
    """``ArtefactError`` for weights of a model, of an autoencoder or of an adapter, and for an artefact of ours."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtefactError(f"{path}: an incomplete or invalid safetensors file ({error}); copy it again") from None
    if "tillerman" in metadata:
        raise ArtefactError(f"{path}: an artefact of Tillerman's already; it needs no import")
    foreign = foreign_tensors({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    if not foreign.reader:
        raise ArtefactError(foreign.words(path))
    whole = metadata.get(ARTEFACT)
    packed = None if whole is None else base64.b64decode(whole)
    return Found("a plain safetensors file", directions_in(tensors, str(path)), 1.0, packed)


def read_numpy(path: Path) -> Found:
    """``.npy`` and ``.npz``, numbers only: an array of objects would be unpickled."""
    try:
        loaded = np.load(path, allow_pickle=False)
        values = {name: loaded[name] for name in loaded.files} if isinstance(loaded, np.lib.npyio.NpzFile) else loaded
    except (ValueError, OSError, EOFError) as error:
        raise ArtefactError(f"{path}: no array of numbers ({error}); save it as float32") from None
    return Found("a NumPy file", directions_in(values, str(path)))
