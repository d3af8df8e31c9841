"""Control vectors in GGUF files, as repeng, llama.cpp and EasySteer write and read them.

``direction.N`` is added to the output of block N, the first block 0; llama.cpp has none at block 0 and refuses the
whole file for one. Read and run: repeng 0.4.0, llama.cpp of llama-cpp-python 0.3.36.
"""

from __future__ import annotations

import base64
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from tillerman.core.errors import ArtefactError, ModelError
from tillerman.core.files import replacing
from tillerman.exchange.found import Found, Key, directions_in
from tillerman.exchange.outgoing import ARTEFACT, Outgoing

_ARCH = "controlvector"
_PREFIX = "direction."


def write_gguf(path: Path, vector: Outgoing) -> None:
    """Float32, one tensor per layer."""
    gguf = _library(path)
    with replacing(path) as part:
        writer = gguf.GGUFWriter(part, _ARCH)
        writer.add_string(f"{_ARCH}.model_hint", vector.model_type)
        writer.add_uint32(f"{_ARCH}.layer_count", len(vector.directions))
        writer.add_string(ARTEFACT, base64.b64encode(vector.carried).decode())
        for layer, direction in vector.by_layer.items():
            writer.add_tensor(f"{_PREFIX}{layer}", direction.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def read_gguf(path: Path) -> Found:
    """``ArtefactError`` for a file that holds no directions, as a model."""
    gguf = _library(path)
    try:
        reader = gguf.GGUFReader(path)
        found: dict[Key, Any] = {
            int(tensor.name.removeprefix(_PREFIX)): _values(gguf, tensor)
            for tensor in reader.tensors
            if tensor.name.startswith(_PREFIX)
        }
    except (ValueError, IndexError, OSError, KeyError) as error:
        raise ArtefactError(f"{path}: a damaged GGUF file ({error}); copy it again") from None
    if not found:
        raise ArtefactError(
            f"{path}: a GGUF file without tensors {_PREFIX}N, so no control vector; a model is opened with --model FILE"
        )
    whole = reader.get_field(ARTEFACT)
    packed = None if whole is None else base64.b64decode(bytes(whole.parts[-1]))
    return Found(
        "a control vector in GGUF (repeng, llama.cpp, EasySteer)", directions_in(found, str(path)), 1.0, packed
    )


def _values(gguf: ModuleType, tensor: Any) -> torch.Tensor:
    return torch.tensor(gguf.dequantize(tensor.data, tensor.tensor_type))  # a copy: the file is mapped


def _library(path: Path) -> ModuleType:
    try:
        import gguf
    except ImportError:
        raise ModelError(f"{path}: GGUF files need gguf: pip install 'tillerman[gguf]'") from None
    return gguf
