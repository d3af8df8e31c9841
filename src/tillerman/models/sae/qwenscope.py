"""Qwen-Scope (Deng et al. 2026, arXiv 2605.11887): ``layer{n}.sae.pt``, matrices transposed, TopK without relu.

The only torch pickle that is read, and through ``weights_only`` alone. The files do not state k; the folder
they are published in does (``SAE-Res-Qwen3-8B-Base-W64K-L0_50``: 50).
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

# pickle's own error, without pickle: that module is not allowed anywhere in the package.
from torch._weights_only_unpickler import UnpicklingError  # type: ignore[attr-defined]

from tillerman.core.errors import DataError
from tillerman.core.hookpoint import HookPoint
from tillerman.models.sae.autoencoder import SAE, TopK
from tillerman.models.sae.parts import SaeSource, Weights

FILE = re.compile(r"layer(\d+)\.sae\.pt")
_ACTIVE = re.compile(r"L0_(\d+)")


def read(place: SaeSource) -> SAE:
    path = place.path
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, UnpicklingError) as error:
        raise DataError(f"not a file of tensors only ({error})", file=path) from None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise DataError("expected a dictionary of tensors", file=path)
    weights = Weights(path, found)
    active = _ACTIVE.findall(path.resolve().as_posix())
    if not active:
        raise DataError(
            "the file does not say how many atoms are active; put it into a folder named as published, with 'L0_50'",
            file=path,
        )
    w_enc = weights("W_enc", None, None).T.contiguous()
    d, f = w_enc.shape
    named = FILE.fullmatch(path.name)
    return SAE(
        name=f"{path.parent.name}/{path.name}",
        point=place.point(None if named is None else HookPoint(int(named[1])), path.name),
        w_enc=w_enc,
        w_dec=weights("W_dec", d, f).T.contiguous(),
        b_dec=weights("b_dec", d),
        activation=TopK(weights("b_enc", f), int(active[-1]), relu=False),
    )
