"""GemmaScope 2 (Google DeepMind 2025), for Gemma 3: ``config.json`` and ``params.safetensors``.

``pre = x w_enc + b_enc; a = pre (pre > threshold); x' = a w_dec + b_dec``, as in GemmaScope, with names in lower case.
The hook point is in the configuration (``hf_hook_point_in``, as ``model.layers.9.output``), or in the folders it is
published in (``resid_post/layer_9_width_16k_l0_medium``).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tillerman.core.errors import DataError
from tillerman.core.hookpoint import HookPoint
from tillerman.models.sae.autoencoder import SAE, JumpRelu
from tillerman.models.sae.parts import SaeSource, read_json, read_safetensors

CONFIG, WEIGHTS = "config.json", "params.safetensors"
_LAYER = re.compile(r"layers?[._](\d+)")
_PARTS = {"output": "resid_post", "self_attn.o_proj.input": "heads"}  # what other parts hold differs by family


def read(place: SaeSource) -> SAE:
    facts = read_json(place.path / CONFIG)
    kind = facts.get("architecture", "jump_relu")
    if kind != "jump_relu":
        raise DataError(f"architecture {kind!r}; known: jump_relu", file=place.path / CONFIG)
    if facts.get("type", "sae") != "sae":
        raise DataError(f"a {facts['type']}, not an autoencoder of one hook point", file=place.path / CONFIG)
    weights = read_safetensors(place.path / WEIGHTS)
    w_enc = weights("w_enc", None, None)
    d, f = w_enc.shape
    found = None if place.at is not None else _point(place.path, facts)
    return SAE(
        name=place.path.name,
        point=place.point(found, CONFIG),
        w_enc=w_enc,
        w_dec=weights("w_dec", f, d),
        b_dec=weights("b_dec", d),
        activation=JumpRelu(weights("b_enc", f), weights("threshold", f)),
    )


def _point(folder: Path, facts: dict[str, Any]) -> HookPoint | None:
    """From the configuration; else, for the residual stream, from the folder that names the layer."""
    named = str(facts.get("hf_hook_point_in") or "")
    layer = _LAYER.search(named)
    if layer is not None:
        part = named[layer.end() :].strip(".")
        if part not in _PARTS:
            raise DataError(
                f"hf_hook_point_in {named!r}; known ends: {', '.join(_PARTS)}; name the hook point, e.g. "
                f"at=layers.{layer[1]}.mlp_out",
                file=folder / CONFIG,
            )
        return HookPoint(int(layer[1]), _PARTS[part])
    path = folder.resolve().as_posix()
    layers = _LAYER.findall(path)
    return HookPoint(int(layers[-1])) if layers and "/resid_post" in path else None
