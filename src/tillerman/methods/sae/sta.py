"""Steering target atoms: the atoms that tell the sides apart in amplitude and in frequency (Wang et al. 2025,
arXiv 2505.20322)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tillerman.core.errors import FitError
from tillerman.core.spec import option
from tillerman.methods.sae.base import SaeMethod
from tillerman.methods.sae.encoded import AtomDirection, Encoded, as_long_as

RULES = ("signed", "paper")
MODES = ("both", "amplitude", "frequency")


@dataclass(frozen=True)
class Sta(SaeMethod):
    """``v = (da * mask) W_dec``, as long as the CAA vector of the same rows.

    ``da`` and ``df`` are the differences of the sides in amplitude and frequency. Rule ``signed`` (the
    authors' code): atoms in the top share by |da| of all atoms, and in the top share by |df| of those whose signs
    agree, the ones that go down included. Rule ``paper`` (its thresholds): ``da >= alpha`` and ``df >= beta``, the
    thresholds such that they keep the top share of all atoms. A share of f atoms is ``int(share * f) + 1`` of them, as
    in the authors' code, and their equals. Atoms of score 0 are never kept.
    """

    name: ClassVar[str] = "sta"
    rule: str = option("signed", "how atoms are chosen: as the authors' code does, or as the paper says", choices=RULES)
    modes: str = option("both", "the rankings that an atom has to lead", choices=MODES)
    share: float = option(0.35, "share of all atoms that is kept in each ranking", above=0, most=1)
    decoder_bias: bool = option(False, "add b_dec, as the paper's formula does and the authors' code does not")

    def atoms(self, encoded: Encoded, gap: Float[Tensor, " d"]) -> AtomDirection:
        sae, amplitude = encoded.sae, encoded.amplitude
        masks = self._masks(encoded)
        mask = masks[self.modes]
        if not bool(mask.any()):
            raise FitError(f"no atom of {sae.name} passes: {_sizes(masks)}; keep a larger share, or other modes")
        kept = amplitude * mask
        direction = kept.to(sae.w_dec) @ sae.w_dec
        if self.decoder_bias:
            direction = direction + sae.b_dec
        facts = encoded.facts(
            _strongest(kept),
            rule=self.rule,
            modes=self.modes,
            share=self.share,
            masks={name: int(m.sum()) for name, m in masks.items()},
            kept=int(mask.sum()),
            cosine_with_caa=float(torch.cosine_similarity(direction, gap.to(direction), dim=0)),
        )
        return AtomDirection(as_long_as(gap, direction), facts)

    def _masks(self, encoded: Encoded) -> dict[str, Bool[Tensor, " f"]]:
        amplitude, frequency = encoded.amplitude, encoded.frequency
        count = min(encoded.sae.atoms, int(self.share * encoded.sae.atoms) + 1)
        if self.rule == "paper":
            scores = {"amplitude": amplitude.clamp_min(0), "frequency": frequency.clamp_min(0)}
        else:
            agreed = torch.where(amplitude * frequency > 0, frequency.abs(), 0.0)
            scores = {"amplitude": amplitude.abs(), "frequency": agreed}
        masks = {name: _top(score, count) for name, score in scores.items()}
        masks["both"] = masks["amplitude"] & masks["frequency"]
        return masks


def _top(scores: Float[Tensor, " f"], count: int) -> Bool[Tensor, " f"]:
    """The ``count`` highest and their equals. At a threshold of 0 everything would pass; what scores 0 does not."""
    return (scores >= scores.topk(count).values[-1]) & (scores > 0)


def _strongest(kept: Float[Tensor, " f"]) -> Tensor:
    """Atoms that count, largest |da| first."""
    order = kept.abs().argsort(descending=True)
    return order[: int((kept != 0).sum())]


def _sizes(masks: dict[str, Tensor]) -> str:
    return ", ".join(f"{int(mask.sum())} by {name}" for name, mask in masks.items())
