"""One atom: named by its number or its label, or the one that best tells the sides apart (Wu et al. 2025,
AxBench, arXiv 2501.17148: "SAE" and "SAE-A")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.errors import FitError, UsageError
from tillerman.core.spec import option
from tillerman.methods.estimators import SameSidesError
from tillerman.methods.sae.base import SaeMethod
from tillerman.methods.sae.encoded import AtomDirection, Encoded
from tillerman.models.sae.autoencoder import SAE

OPERATORS = ("add", "clamp")
_AT_ONCE = 4096  # atoms ranked together


@dataclass(frozen=True)
class SaeFeature(SaeMethod):
    """``v = max_act * W_dec[f]``: max_act is the largest activation of atom f on the rows of both sides.

    Strength s adds s * max_act of the atom, or, with operator ``clamp``, sets its activation to s * max_act and
    keeps what the autoencoder does not explain (``core.operators.clamp_atom``).
    """

    name: ClassVar[str] = "sae-feature"
    feature: str | None = option(None, "an atom's number, or words of its label; the best by ROC-AUC if not given")
    operator: str = option("add", "what is done with the atom", choices=OPERATORS)

    def atoms(self, encoded: Encoded, gap: Float[Tensor, " d"]) -> AtomDirection:
        sae = encoded.sae
        areas = roc_areas(encoded.positive.peak, encoded.negative.peak)
        chosen = _named(sae, self.feature) if self.feature is not None else _best(areas, encoded.amplitude)
        peak = float(torch.cat([encoded.positive.peak[:, chosen], encoded.negative.peak[:, chosen]]).max())
        if not peak > 0:
            raise FitError(
                f"atom {chosen} of {sae.name} is never active on these items: nothing says how strong it should be"
            )
        direction = peak * sae.w_dec[chosen]
        facts = encoded.facts(
            _order(areas, encoded.amplitude) if self.feature is None else torch.tensor([chosen]),
            feature=chosen,
            operator=self.operator,
            roc_auc=float(areas[chosen]),
            max_activation=peak,
            cosine_with_caa=float(torch.cosine_similarity(direction, gap.to(direction), dim=0)),
        )
        return AtomDirection(direction, facts, sae.atom(chosen).per(peak) if self.operator == "clamp" else None)


def roc_areas(positive: Float[Tensor, "n f"], negative: Float[Tensor, "m f"]) -> Float[Tensor, " f"]:
    """Per atom ``P(x+ > x-) + P(x+ = x-) / 2`` over all pairs of rows: the area under the ROC curve."""
    parts = []
    for plus, minus in zip(positive.split(_AT_ONCE, 1), negative.split(_AT_ONCE, 1), strict=True):  # type: ignore[no-untyped-call]
        ordered, values = minus.T.sort(1).values.contiguous(), plus.T.contiguous()
        below = torch.searchsorted(ordered, values).double()
        not_above = torch.searchsorted(ordered, values, right=True).double()
        parts.append((below + not_above).mean(1) / (2 * len(minus)))
    return torch.cat(parts)


def _order(areas: Float[Tensor, " f"], amplitude: Float[Tensor, " f"]) -> Tensor:
    """Best first; equal areas in the order of the difference in amplitude."""
    by_amplitude = amplitude.argsort(descending=True, stable=True)
    return by_amplitude[areas[by_amplitude].argsort(descending=True, stable=True)]


def _best(areas: Float[Tensor, " f"], amplitude: Float[Tensor, " f"]) -> int:
    best = int(_order(areas, amplitude)[0])
    if not float(areas[best]) > 0.5:
        raise SameSidesError("no atom is more active on the positive side: nothing tells the sides apart")
    return best


def _named(sae: SAE, asked: str) -> int:
    if asked.strip().isdecimal():
        number = int(asked)
        if number >= sae.atoms:
            raise UsageError(f"sae-feature: feature={number}: {sae.name} has atoms 0..{sae.atoms - 1}")
        return number
    if not sae.labels:
        raise UsageError(f"sae-feature: feature={asked}: no labels are known; give labels=FILE, or an atom's number")
    found = [i for i, text in sorted(sae.labels.items()) if asked.lower() in text.lower()]
    exact = [i for i in found if sae.labels[i].lower() == asked.lower()]
    if len(exact or found) != 1:
        several = "; ".join(f"{i} {sae.labels[i]!r}" for i in found[:5])
        raise UsageError(
            f"sae-feature: feature={asked}: {len(found)} labels have these words"
            f"{': ' + several if several else ''}; name one atom by its number"
        )
    return (exact or found)[0]
