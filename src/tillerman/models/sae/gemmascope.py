"""GemmaScope (Lieberum et al. 2024, arXiv 2408.05147): ``params.npz``.

``pre = x W_enc + b_enc; a = relu(pre) (pre > threshold); x' = a W_dec + b_dec``. No input normalisation. The
file names no hook point; the folders it is published in name the layer (``layer_20/width_16k/...``).
"""

from __future__ import annotations

import re
from zipfile import BadZipFile

import numpy as np
import torch

from tillerman.core.errors import DataError
from tillerman.core.hookpoint import HookPoint
from tillerman.models.sae.autoencoder import SAE, JumpRelu
from tillerman.models.sae.parts import SaeSource, Weights

FILE = "params.npz"


def read(place: SaeSource) -> SAE:
    try:
        with np.load(place.path, allow_pickle=False) as arrays:
            weights = Weights(place.path, {name: torch.from_numpy(arrays[name]) for name in arrays.files})
    except (OSError, ValueError, BadZipFile) as error:
        raise DataError(f"an incomplete or invalid npz file ({error}); copy it again", file=place.path) from None
    w_enc = weights("W_enc", None, None)
    d, f = w_enc.shape
    # The cache of the hub holds links to files whose names say nothing.
    layers = re.findall(r"layer_(\d+)", place.path.absolute().as_posix())
    layers = layers or re.findall(r"layer_(\d+)", place.path.resolve().as_posix())
    found = HookPoint(int(layers[-1])) if layers else None
    return SAE(
        name=place.path.parent.name or place.path.name,
        point=place.point(None if place.at is not None else found, FILE),
        w_enc=w_enc,
        w_dec=weights("W_dec", f, d),
        b_dec=weights("b_dec", d),
        activation=JumpRelu(weights("b_enc", f), weights("threshold", f)),
    )
