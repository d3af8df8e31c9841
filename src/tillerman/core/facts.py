"""A digest of plain facts: the same for the same things, whatever they are called."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from tillerman.core.provenance import Provenance

_LARGE = 2**16  # numbers
_KNOWN: MutableMapping[Tensor, tuple[int, bytes]] = WeakTensorKeyDictionary()
NO_FACT = {"fact": False}  # metadata of a dataclass's field that ``digest_of`` passes over


def digest_of(*facts: Any) -> str:
    """128 bits over numbers, texts, tensors and arrays (dtype, shape, every bit), and over tuples, lists, sets,
    mappings (in any order) and dataclasses of them.

    How a thing came about is no part of what it is: a ``Provenance`` says nothing here, nor does a field whose
    metadata are ``NO_FACT``. ``TypeError`` for what is none of these.
    """
    found = hashlib.blake2b(digest_size=16)
    for part in _parts(facts):
        found.update(part)
    return found.hexdigest()


def _large(value: Tensor) -> bytes:
    """A digest of its own, made once: a displacement of all parameters is a fact of every cell of a grid."""
    known = _KNOWN.get(value)
    if known is None or known[0] != value._version:
        found = hashlib.blake2b(digest_size=16)
        for part in _bits(value):
            found.update(part)
        known = _KNOWN[value] = value._version, found.digest()
    return b"large " + known[1]


def _bits(value: Tensor) -> Iterator[bytes]:
    """Kind, type, shape and every bit; of a sparse tensor those of its places and entries."""
    if value.is_sparse:
        yield f"sparse {tuple(value.shape)} ".encode()
        whole = value.coalesce()
        yield from _bits(whole.indices())
        yield from _bits(whole.values())
        return
    plain = value.detach().cpu().contiguous()
    yield f"tensor {plain.dtype} {tuple(plain.shape)} ".encode()
    yield plain.flatten().view(torch.uint8).numpy().tobytes() if plain.numel() else b""


def _parts(value: Any) -> Iterator[bytes]:
    """Pieces that two different values never share: each says its kind and length."""
    if value is None or isinstance(value, bool | int | float | Path):
        yield f"{type(value).__name__} {value!r};".encode()
    elif isinstance(value, str):
        yield f"str {len(value)} {value};".encode("utf-8", "surrogatepass")
    elif isinstance(value, Tensor):
        yield _large(value) if value.numel() > _LARGE else b"".join(_bits(value))
    elif isinstance(value, np.ndarray):
        yield f"array {value.dtype} {value.shape} ".encode() + np.ascontiguousarray(value).tobytes()
    elif isinstance(value, tuple | list):
        yield f"list {len(value)} ".encode()
        if all(type(one) is int and -(2**63) <= one < 2**63 for one in value):  # rows of tokens, at the speed of memory
            yield b"of int " + array("q", value).tobytes()
        else:
            for one in value:
                yield from _parts(one)
    elif isinstance(value, set | frozenset):
        yield f"set {sorted(map(digest_of, value))};".encode()
    elif isinstance(value, Mapping):
        yield f"map {sorted((digest_of(key), digest_of(one)) for key, one in value.items())};".encode()
    elif isinstance(value, Provenance):
        yield b"provenance;"
    elif is_dataclass(value) and not isinstance(value, type):
        kept = [field.name for field in fields(value) if field.metadata.get("fact", True)]
        yield f"{type(value).__qualname__} {len(kept)} ".encode()
        for name in kept:
            yield f"{name}=".encode()
            yield from _parts(getattr(value, name))
    else:
        raise TypeError(f"{type(value).__name__}: no plain fact; give numbers, texts, tensors, or dataclasses of them")
