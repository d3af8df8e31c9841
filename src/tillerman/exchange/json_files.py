"""Vectors in JSON: CAST's ``.svec``, the steering vectors of vllm-lens, and plain lists of numbers."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tillerman.core.errors import ArtefactError
from tillerman.core.files import write_text
from tillerman.exchange.found import Found, directions_in
from tillerman.exchange.outgoing import ARTEFACT, Outgoing

_DTYPES = {"float32": np.float32, "float16": np.float16, "int16": np.int16, "float64": np.float64}


def write_svec(path: Path, vector: Outgoing) -> None:
    """``{model_type, directions: {layer: [...]}, explained_variances}``."""
    values = {
        "model_type": vector.model_type,
        "directions": {str(layer): v.tolist() for layer, v in vector.by_layer.items()},
        "explained_variances": {str(layer): 0.0 for layer in vector.by_layer},
    }
    _write(path, values, vector)


def write_lens(path: Path, vector: Outgoing) -> None:
    """The JSON form of ``vllm_lens.SteeringVector``: the directions as fitted, and the strength as its ``scale``."""
    table = torch.stack(list(vector.directions.values()))
    values = {
        "activations": {
            "data": base64.b64encode(table.numpy().tobytes()).decode(),
            "dtype": "float32",
            "original_dtype": "torch.float32",
            "shape": list(table.shape),
        },
        "layer_indices": [point.layer for point in vector.directions],
        "scale": vector.strength,
        "norm_match": False,
        "position_indices": None,
    }
    _write(path, values, vector)


def read_json(path: Path) -> Found:
    """``ArtefactError`` for JSON that holds no direction, and for what vllm-lens does that a vector does not say."""
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{path}: damaged JSON ({error}); copy it again") from None
    if not isinstance(values, Mapping):
        return Found("a JSON list of numbers", directions_in(values, str(path)))
    whole = values.get(ARTEFACT)
    packed = base64.b64decode(whole) if isinstance(whole, str) else None
    if "activations" in values:
        return _lens(values, path, packed)
    return Found("an .svec of CAST", directions_in(values, str(path)), 1.0, packed)


def _lens(values: Mapping[str, Any], path: Path, packed: bytes | None) -> Found:
    if values.get("norm_match"):
        raise ArtefactError(
            f"{path}: norm_match is on: it is added in units of each token's norm, which no fixed vector does. Turn it "
            "off and give scale the strength"
        )
    try:
        table, layers = _decoded(values["activations"], path), [int(layer) for layer in values["layer_indices"]]
        strength = float(values.get("scale", 1.0))
    except (LookupError, TypeError, ValueError) as error:
        raise ArtefactError(f"{path}: no steering vector of vllm-lens ({error})") from None
    if table.ndim != 2 or len(table) != len(layers):
        raise ArtefactError(
            f"{path}: expected activations [layers, d] for {len(layers)} layers, got {list(table.shape)}; directions "
            "per position have no form here"
        )
    found = directions_in(dict(zip(layers, table, strict=True)), str(path))
    return Found("a steering vector of vllm-lens", found, strength, packed)


def _decoded(values: Mapping[str, Any], path: Path) -> Tensor:
    raw = base64.b64decode(values["data"])
    if values.get("compression") == "zstd":
        try:
            import zstandard
        except ImportError:
            raise ArtefactError(f"{path}: its tensor is packed by zstd: pip install zstandard") from None
        raw = zstandard.ZstdDecompressor().decompress(raw)
    array = np.frombuffer(raw, dtype=_DTYPES[values["dtype"]]).reshape(values["shape"])
    tensor = torch.from_numpy(array.copy())
    return tensor.view(torch.bfloat16) if values.get("original_dtype") == "torch.bfloat16" else tensor


def _write(path: Path, values: Mapping[str, Any], vector: Outgoing) -> None:
    write_text(path, json.dumps({**values, ARTEFACT: base64.b64encode(vector.carried).decode()}))
