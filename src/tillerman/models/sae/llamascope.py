"""LlamaScope (He et al. 2024, arXiv 2410.20526): ``hyperparams.json`` and ``checkpoints/final.safetensors``.

The weights work on activations of a data set's mean norm brought to sqrt(d); that is undone here. With
``s_in = sqrt(d) / norm.in`` and ``s_out = sqrt(d) / norm.out``: ``b_enc /= s_in; b_dec /= s_out;
W_dec *= s_in / s_out``. Mean L0 is near 50 on text like that of the training.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from tillerman.core.errors import DataError
from tillerman.models.sae.autoencoder import SAE, JumpRelu, Relu, TopK
from tillerman.models.sae.parts import SaeSource, hook_point, read_json, read_safetensors

CONFIG, WEIGHTS = "hyperparams.json", "checkpoints/final.safetensors"


def read(place: SaeSource) -> SAE:
    facts = read_json(place.path / CONFIG)
    into, out = facts.get("hook_point_in"), facts.get("hook_point_out")
    if out is not None and into != out:
        raise DataError(f"reads {into} and writes {out}: a transcoder, not an autoencoder", file=place.path / CONFIG)
    weights = read_safetensors(place.path / WEIGHTS)
    w_enc = weights("encoder.weight", None, None).T.contiguous()
    d, f = w_enc.shape
    s_in, s_out = (_scale(facts, side, d, place) for side in ("in", "out"))
    w_dec = weights("decoder.weight", d, f).T.contiguous() * (s_in / s_out)
    b_enc = weights("encoder.bias", f) / s_in
    if facts.get("sparsity_include_decoder_norm", True):
        norms = w_dec.norm(dim=1)
        w_enc, b_enc, w_dec = w_enc * norms, b_enc * norms, w_dec / norms[:, None]
    return SAE(
        name=place.path.name,
        point=place.point(hook_point(into, place.path / CONFIG), CONFIG),
        w_enc=w_enc,
        w_dec=w_dec,
        b_dec=weights("decoder.bias", d) / s_out if facts.get("use_decoder_bias", True) else torch.zeros(d),
        activation=_activation(facts, b_enc, place),
        centred=bool(facts.get("apply_decoder_bias_to_pre_encoder", False)),
    )


def _scale(facts: dict[str, Any], side: str, width: int, place: SaeSource) -> float:
    if facts.get("norm_activation", "dataset-wise") != "dataset-wise":
        raise DataError(
            f"norm_activation {facts['norm_activation']!r}: only 'dataset-wise' is known", file=place.path / CONFIG
        )
    norm = (facts.get("dataset_average_activation_norm") or {}).get(side)
    if not norm:
        raise DataError("names no dataset_average_activation_norm", file=place.path / CONFIG, field=side)
    return math.sqrt(width) / float(norm)


def _activation(facts: dict[str, Any], bias: torch.Tensor, place: SaeSource) -> Relu | JumpRelu | TopK:
    kind = facts.get("act_fn", "jumprelu")
    if kind == "relu":
        return Relu(bias)
    if kind == "topk":
        return TopK(bias, int(facts["top_k"]))
    if kind != "jumprelu" or "jump_relu_threshold" not in facts:
        raise DataError(f"act_fn {kind!r} is unknown, or names no jump_relu_threshold", file=place.path / CONFIG)
    # On the raw scale and not to be divided by s_in: in the published files it grows with the layer's norm.
    return JumpRelu(bias, torch.full_like(bias, float(facts["jump_relu_threshold"])))
