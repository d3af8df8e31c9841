"""Files of ``torch.save``: tensors only, read with ``weights_only=True``, so that no code of a file ever runs.

A ``.pt`` file is a zip archive of records; the artefact travels as one more record, which PyTorch leaves alone.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._weights_only_unpickler import UnpicklingError  # type: ignore[attr-defined]

from tillerman.core.errors import ArtefactError
from tillerman.core.files import replacing
from tillerman.exchange.found import Found, directions_in
from tillerman.exchange.outgoing import ARTEFACT, Outgoing


def write_layers(path: Path, vector: Outgoing) -> None:
    """``{layer: tensor}``, the ``layer_activations`` of steering-vectors; by hook point where sites other than the
    block's output are steered."""
    plain = all(point.site == "resid_post" for point in vector.directions)
    _write(path, vector.by_layer if plain else {str(point): v for point, v in vector.scaled.items()}, vector)


def write_one(path: Path, vector: Outgoing) -> None:
    """One tensor ``[d]``, as CAA and EasyEdit save each layer."""
    (direction,) = vector.scaled.values()
    _write(path, direction, vector)


def write_table(path: Path, vector: Outgoing) -> None:
    """A table ``[layers + 1, d]`` that begins with the embeddings, as persona-vectors save theirs; zeros elsewhere."""
    table = torch.zeros(vector.layers + 1, len(next(iter(vector.scaled.values()))))
    for layer, direction in vector.by_layer.items():
        table[layer + 1] = direction
    _write(path, table, vector)


def read_torch(path: Path) -> Found:
    """``ArtefactError`` for a file that holds more than tensors: it is not unpickled."""
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, ValueError, EOFError, KeyError, AttributeError) as error:
        why = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise ArtefactError(
            f"{path}: it holds more than tensors, and Python objects are never unpickled ({why}). Where you trust it, "
            "save its tensors alone: torch.save({layer: tensor, ...}, PATH); of a SteeringVector of steering-vectors, "
            "torch.save(vector.layer_activations, PATH)"
        ) from None
    return Found("a PyTorch file", directions_in(values, str(path)), 1.0, _kept(path))


def _write(path: Path, values: Tensor | Mapping[Any, Tensor], vector: Outgoing) -> None:
    with replacing(path) as part:
        torch.save(values.clone() if isinstance(values, Tensor) else {k: v.clone() for k, v in values.items()}, part)
        with zipfile.ZipFile(part, "a") as archive:
            root = archive.namelist()[0].split("/")[0]
            archive.writestr(f"{root}/{ARTEFACT}", vector.carried)


def _kept(path: Path) -> bytes | None:
    if not zipfile.is_zipfile(path):
        return None  # from before PyTorch 1.6
    with zipfile.ZipFile(path) as archive:
        ours = [name for name in archive.namelist() if name.endswith(f"/{ARTEFACT}")]
        return archive.read(ours[0]) if ours else None
