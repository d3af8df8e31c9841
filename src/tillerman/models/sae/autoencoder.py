"""A sparse autoencoder (SAE): activations ``[d]`` as sums of a few of f atoms."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.atoms import Atom
from tillerman.core.errors import MismatchError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.shown import Shown

NORMALISATIONS = ("none", "constant_norm_rescale", "layer_norm")


@dataclass(frozen=True, eq=False)
class Relu:
    """``relu(x W_enc + b)``: the architecture ``standard``."""

    name = "standard"
    bias: Float[Tensor, " f"]

    def __call__(self, linear: Float[Tensor, "*b f"]) -> Float[Tensor, "*b f"]:
        return (linear + self.bias).relu()

    def form(self, i: int) -> tuple[float, float, float]:
        """Slope, bias and least of atom i: ``relu(slope * x + bias)`` where x, its column of ``x W_enc``, is above
        least."""
        return 1.0, float(self.bias[i]), -float(self.bias[i])


@dataclass(frozen=True, eq=False)
class JumpRelu:
    """``relu(pre) * (pre > threshold)``, ``pre = x W_enc + b`` (Rajamanoharan et al. 2024, arXiv 2407.14435). A
    BatchTopK autoencoder is one too once its mean threshold is stored."""

    name = "jumprelu"
    bias: Float[Tensor, " f"]
    threshold: Float[Tensor, " f"]

    def __call__(self, linear: Float[Tensor, "*b f"]) -> Float[Tensor, "*b f"]:
        pre = linear + self.bias
        return pre.relu() * (pre > self.threshold)

    def form(self, i: int) -> tuple[float, float, float]:
        return 1.0, float(self.bias[i]), float(self.threshold[i] - self.bias[i])


@dataclass(frozen=True, eq=False)
class TopK:
    """The k largest of ``x W_enc + b`` (Gao et al. 2024, arXiv 2406.04093), negative ones set to 0 if ``relu``."""

    name = "topk"
    bias: Float[Tensor, " f"]
    k: int
    relu: bool = True

    def __call__(self, linear: Float[Tensor, "*b f"]) -> Float[Tensor, "*b f"]:
        top = (linear + self.bias).topk(self.k, dim=-1)
        values = top.values.relu() if self.relu else top.values
        return torch.zeros_like(linear).scatter(-1, top.indices, values)

    def form(self, i: int) -> tuple[float, float, float]:
        raise UsageError(
            f"atom {i} cannot be clamped: whether an atom of a TopK autoencoder fires depends on all others; "
            "use operator add"
        )


@dataclass(frozen=True, eq=False)
class Gated:
    """``(x W_enc + b_gate > 0) * relu(x W_enc exp(r_mag) + b_mag)`` (Rajamanoharan et al. 2024, arXiv 2404.16014)."""

    name = "gated"
    b_gate: Float[Tensor, " f"]
    r_mag: Float[Tensor, " f"]
    b_mag: Float[Tensor, " f"]

    def __call__(self, linear: Float[Tensor, "*b f"]) -> Float[Tensor, "*b f"]:
        return (linear + self.b_gate > 0) * (linear * self.r_mag.exp() + self.b_mag).relu()

    def form(self, i: int) -> tuple[float, float, float]:
        return float(self.r_mag[i].exp()), float(self.b_mag[i]), -float(self.b_gate[i])


Activation = Relu | JumpRelu | TopK | Gated


@dataclass(frozen=True, eq=False, repr=False)
class SAE(Shown):
    """Reads and writes the activation at ``point``. Tensors are float32.

    ``encode``: ``activation((h - b_dec) W_enc)``, without ``- b_dec`` unless ``centred``. ``decode``:
    ``a W_dec + b_dec``. With a ``normalisation`` h is brought to length sqrt(d) (``constant_norm_rescale``) or
    to mean 0 and standard deviation 1 (``layer_norm``) first, and ``reconstruct`` undoes that.
    """

    name: str
    point: HookPoint
    w_enc: Float[Tensor, "d f"]
    w_dec: Float[Tensor, "f d"]
    b_dec: Float[Tensor, " d"]
    activation: Activation
    centred: bool = False
    normalisation: str = "none"
    labels: Mapping[int, str] = field(default_factory=dict)

    def shown(self) -> dict[str, object]:
        return {
            "name": self.name,
            "at": self.point,
            "atoms": self.atoms,
            "width": self.width,
            "architecture": self.architecture,
            "labels": len(self.labels),
        }

    @property
    def width(self) -> int:
        """d, of the activations."""
        return len(self.b_dec)

    @property
    def atoms(self) -> int:
        """f."""
        return len(self.w_dec)

    @property
    def architecture(self) -> str:
        return self.activation.name

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the decoder: which file it was, wherever it lay."""
        return hashlib.blake2b(self.w_dec.cpu().contiguous().numpy().tobytes(), digest_size=8).hexdigest()

    def encode(self, h: Float[Tensor, "*b d"]) -> Float[Tensor, "*b f"]:
        x, _, _ = self._normalised(h)
        return self.activation((x - self.b_dec if self.centred else x) @ self.w_enc)

    def decode(self, latents: Float[Tensor, "*b f"]) -> Float[Tensor, "*b d"]:
        """On the scale of the normalised activation, where there is a normalisation."""
        return latents @ self.w_dec + self.b_dec

    def reconstruct(self, h: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        _, middle, size = self._normalised(h)
        return self.decode(self.encode(h)) * size + middle

    def atom(self, i: int) -> Atom:
        """What clamping an atom needs; a ``UsageError`` where its activation depends on more."""
        if self.normalisation != "none":
            raise UsageError(f"atom {i} cannot be clamped: this autoencoder normalises every token; use operator add")
        slope, bias, least = self.activation.form(i)
        row = self.w_enc[:, i]
        shift = float(row @ self.b_dec) if self.centred else 0.0
        return Atom(slope * row, bias - slope * shift, slope * (least + shift))

    def to(self, device: torch.device | str) -> SAE:
        moved: SAE = _moved(self, device)
        return replace(moved, activation=_moved(self.activation, device))

    def check_fits(self, point: HookPoint, width: int) -> None:
        """``MismatchError`` unless it was made for this hook point and width."""
        if point != self.point:
            raise MismatchError(f"the autoencoder {self.name} was made for {self.point}, not for {point}")
        if width != self.width:
            raise MismatchError(
                f"the autoencoder {self.name} reads activations of width {self.width}, the model has width {width} "
                f"at {self.point}: it was made for another model"
            )

    def _normalised(self, h: Float[Tensor, "*b d"]) -> tuple[Tensor, Tensor | float, Tensor | float]:
        """``x = (h - middle) / size``, middle and size per token."""
        h = h.float()
        if self.normalisation == "constant_norm_rescale":
            size = h.norm(dim=-1, keepdim=True) / self.width**0.5
            return h / size, 0.0, size
        if self.normalisation == "layer_norm":
            middle = h.mean(-1, keepdim=True)
            size = h.std(-1, keepdim=True) + 1e-5
            return (h - middle) / size, middle, size
        return h, 0.0, 1.0


def _moved(value: Any, device: torch.device | str) -> Any:
    own = {f.name: getattr(value, f.name) for f in fields(value)}
    return replace(value, **{name: v.to(device) for name, v in own.items() if isinstance(v, Tensor)})
