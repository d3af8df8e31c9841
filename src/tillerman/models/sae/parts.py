"""What the readers of all file formats share: tensors by name, in a known orientation, in float32."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tillerman.core.errors import DataError, HookPointError
from tillerman.core.hookpoint import HookPoint

# Names of hook points as TransformerLens writes them.
_SITES = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_out",
    "hook_mlp_out": "mlp_out",
    "attn.hook_z": "heads",
}
_NAMED = re.compile(r"blocks\.(\d+)\.([\w.]+)")


@dataclass(frozen=True)
class SaeSource:
    """Where an autoencoder lies, and the hook point the user named for it, if any."""

    path: Path
    at: HookPoint | None = None

    def point(self, found: HookPoint | None, where: str) -> HookPoint:
        """The hook point the files name; the user's if they name none."""
        if found is not None and self.at is not None and found != self.at:
            raise HookPointError(f"{self.path}: made for {found}, not for {self.at}; leave the hook point out")
        if found is None and self.at is None:
            raise HookPointError(
                f"{self.path}: {where} does not say which layer it is for; name it, e.g. at=layers.3.resid_post"
            )
        return found or self.at  # type: ignore[return-value] # one of the two is given


class Weights:
    """Named tensors of one file; asking for one checks its shape."""

    def __init__(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        self._path, self._tensors = path, tensors

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __call__(self, name: str, *shape: int | None) -> Tensor:
        """float32; None in ``shape`` stands for any size."""
        if name not in self._tensors:
            raise DataError(f"no tensor {name!r}; it has {', '.join(sorted(self._tensors))}", file=self._path)
        tensor = self._tensors[name].float()
        fits = tensor.ndim == len(shape) and all(w in (None, n) for w, n in zip(shape, tensor.shape, strict=True))
        if not fits:
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise DataError(f"{name} has shape {list(tensor.shape)}, expected [{wanted}]", file=self._path)
        if not bool(torch.isfinite(tensor).all()):
            raise DataError(f"{name} holds values that are not finite", file=self._path)
        return tensor


def read_safetensors(path: Path) -> Weights:
    try:
        return Weights(path, load_file(path))
    except (OSError, SafetensorError) as error:
        raise DataError(f"an incomplete or invalid safetensors file ({error}); copy it again", file=path) from None


def read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read as JSON ({error})", file=path) from None
    if not isinstance(found, dict):
        raise DataError("expected a JSON object", file=path)
    return found


def hook_point(name: object, path: Path) -> HookPoint | None:
    """``blocks.3.hook_resid_post`` -> layers.3.resid_post; None if nothing is named."""
    if name is None or name == "":
        return None
    found = _NAMED.fullmatch(str(name))
    if found is None or found[2] not in _SITES:
        raise HookPointError(
            f"{path}: {name!r} names no supported hook point; known: blocks.N. and {', '.join(_SITES)}"
        )
    return HookPoint(int(found[1]), _SITES[found[2]])
