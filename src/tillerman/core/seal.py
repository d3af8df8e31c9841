"""A checksum over everything a safetensors file says, so that a flipped bit is told from another vector."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

import torch
from torch import Tensor

CHECKSUM = "checksum"  # the key of the metadata that holds it


def sealed(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata with the checksum of both beside it."""
    return {**metadata, CHECKSUM: checksum(tensors, metadata)}


def is_whole(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, expected: bool) -> bool:
    """Whether a file has the checksum of what is in it. One without is of before there were any, unless one is
    ``expected``: the file's head says that it was written with one."""
    if CHECKSUM not in metadata:
        return not expected
    return metadata[CHECKSUM] == checksum(tensors, metadata)


def checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], size: int = 16) -> str:
    """BLAKE2b of ``size`` bytes over names, types, shapes and bytes of all tensors, and all other metadata."""
    found = blake2b(digest_size=size)
    for key in sorted(set(metadata) - {CHECKSUM}):
        _add(found, key.encode(errors="surrogatepass"), metadata[key].encode(errors="surrogatepass"))
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        what = f"{name} {tensor.dtype} {list(tensor.shape)}".encode(errors="surrogatepass")
        _add(found, what, tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _add(found: blake2b, *parts: bytes | memoryview) -> None:
    """Each with its length before it, so that no two contents run together to the same bytes."""
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
