"""SAELens: ``cfg.json`` and ``sae_weights.safetensors``, the layout since version 6 and the flat one before.

Since version 6 the hook point stands under ``metadata``; older files are flat (``hook_point`` or
``hook_name``), and ``activation_fn`` topk makes a TopK of the architecture ``standard``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tillerman.core.errors import DataError
from tillerman.models.sae.autoencoder import NORMALISATIONS, SAE, Activation, Gated, JumpRelu, Relu, TopK
from tillerman.models.sae.parts import SaeSource, Weights, hook_point, read_json, read_safetensors

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
ARCHITECTURES = ("standard", "jumprelu", "topk", "batchtopk", "matryoshka_batchtopk", "gated")


@dataclass(frozen=True)
class _Facts:
    """The configuration, old and new spelt alike."""

    path: Path
    values: dict[str, Any]

    def get(self, *names: str) -> Any:
        """The first of ``names`` that is set, at the top or under ``metadata``."""
        metadata = self.values.get("metadata") or {}
        for where in (self.values, metadata):
            for name in names:
                if where.get(name) is not None:
                    return where[name]
        return None

    @property
    def architecture(self) -> str:
        kind = str(self.get("architecture") or "standard")
        if kind not in ARCHITECTURES:
            raise DataError(f"architecture {kind!r}; known: {', '.join(ARCHITECTURES)}", file=self.path)
        topk = str(self.get("activation_fn", "activation_fn_str") or "relu") == "topk"
        return "topk" if kind == "standard" and topk else kind

    @property
    def k(self) -> int:
        k = self.get("k") or (self.get("activation_fn_kwargs") or {}).get("k")
        if not k:
            raise DataError("a TopK autoencoder whose configuration has no k", file=self.path)
        return int(k)

    @property
    def normalisation(self) -> str:
        kind = self.get("normalize_activations") or "none"
        return "expected_average_only_in" if kind is True else str(kind)  # a bare yes in the oldest files


def read(place: SaeSource) -> SAE:
    facts = _Facts(place.path / CONFIG, read_json(place.path / CONFIG))
    weights = read_safetensors(place.path / WEIGHTS)
    w_enc = weights("W_enc", None, None)
    d, f = w_enc.shape
    w_dec, b_dec = weights("W_dec", f, d), weights("b_dec", d)
    activation = _activation(facts, weights, f)
    if facts.get("finetuning_scaling_factor") is not False and "scaling_factor" in weights:
        w_dec = w_dec * weights("scaling_factor", f)[:, None]
    if facts.get("rescale_acts_by_decoder_norm") and isinstance(activation, TopK):
        norms = w_dec.norm(dim=1)
        w_enc, w_dec = w_enc * norms, w_dec / norms[:, None]
        activation = TopK(activation.bias * norms, activation.k)
    normalisation, scale = _normalisation(facts)
    centred = facts.get("apply_b_dec_to_input")
    return SAE(
        name=place.path.name,
        point=place.point(hook_point(facts.get("hook_name", "hook_point"), facts.path), CONFIG),
        w_enc=w_enc * scale,
        w_dec=w_dec / scale,
        b_dec=b_dec / scale,
        activation=activation,
        centred=True if centred is None else bool(centred),
        normalisation=normalisation,
    )


def _activation(facts: _Facts, weights: Weights, f: int) -> Activation:
    kind = facts.architecture
    if kind == "gated":
        return Gated(*(weights(name, f) for name in ("b_gate", "r_mag", "b_mag")))
    bias = weights("b_enc", f)
    if kind == "standard":
        return Relu(bias)
    if kind == "topk":
        return TopK(bias, facts.k)
    return JumpRelu(bias, _threshold(weights, f))


def _threshold(weights: Weights, f: int) -> Tensor:
    """Per atom; a BatchTopK checkpoint of a training holds one number for all."""
    if "topk_threshold" in weights and "threshold" not in weights:
        return torch.full((f,), float(weights("topk_threshold")))
    return weights("threshold", f)


def _normalisation(facts: _Facts) -> tuple[str, float]:
    """How a token is normalised, and the factor to be folded into the weights.

    ``expected_average_only_in`` multiplies every activation by one number. SAELens folds it in when it
    writes; where a file still names it (``norm_scaling_factor``), it is folded here.
    """
    kind = facts.normalisation
    if kind == "expected_average_only_in":
        return "none", float(facts.get("norm_scaling_factor", "scaling_factor") or 1.0)
    if kind not in NORMALISATIONS:
        raise DataError(
            f"normalize_activations {kind!r}; known: expected_average_only_in, {', '.join(NORMALISATIONS)}",
            file=facts.path,
        )
    return kind, 1.0
