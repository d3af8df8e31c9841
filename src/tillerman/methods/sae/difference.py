"""The difference of the sides carried through the atoms, all of them: STA without thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.methods.sae.base import SaeMethod
from tillerman.methods.sae.encoded import AtomDirection, Encoded, as_long_as


@dataclass(frozen=True)
class SaeDifference(SaeMethod):
    """``v = da W_dec``, as long as the CAA vector of the same rows (the baseline "SAE" of Wang et al. 2025,
    arXiv 2505.20322)."""

    name: ClassVar[str] = "sae-difference"

    def atoms(self, encoded: Encoded, gap: Float[Tensor, " d"]) -> AtomDirection:
        amplitude = encoded.amplitude
        direction = amplitude.to(encoded.sae.w_dec) @ encoded.sae.w_dec
        facts = encoded.facts(
            amplitude.abs().argsort(descending=True),
            kept=int((amplitude != 0).sum()),
            cosine_with_caa=float(torch.cosine_similarity(direction, gap.to(direction), dim=0)),
        )
        return AtomDirection(as_long_as(gap, direction), facts)
