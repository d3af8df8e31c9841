"""Whether an autoencoder belongs to a model: what it does to activations of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tillerman.core.errors import MismatchError
from tillerman.core.rows import Row
from tillerman.models.opened import OpenModel
from tillerman.models.sae.autoencoder import SAE
from tillerman.models.tokens import token_activations

# Published autoencoders lie between 0.05 and 0.4 unexplained at an L0 of 10 to 500, below a tenth of the atoms.
MOST_UNEXPLAINED = 0.9  # as bad as saying the mean for every token
LEAST_L0, MOST_SHARE = 0.5, 0.25  # atoms per token, and as a share of all
CHUNK = 256  # tokens encoded at once: a wide autoencoder's latents are large


@dataclass(frozen=True)
class Quality:
    """``l0``: mean number of active atoms per token. ``unexplained``: sum |h - h'|^2 / sum |h - mean h|^2.
    ``silent``: share of atoms that never fired. First tokens of rows are left out."""

    l0: float
    unexplained: float
    silent: float
    tokens: int

    def __str__(self) -> str:
        return f"mean L0 {self.l0:.1f}, unexplained variance {self.unexplained:.2f} on {self.tokens} tokens"


@torch.no_grad()
def quality(opened: OpenModel, sae: SAE, rows: Sequence[Row]) -> Quality:
    """Measured on the rows' tokens from ``read_from`` on."""
    sae.check_fits(sae.point, opened.parts.width_at(sae.point))
    local = sae.to(opened.device)
    tokens, active, left = 0, 0.0, 0.0
    total, squares = torch.zeros(sae.width, dtype=torch.float64), 0.0
    fired = torch.zeros(sae.atoms, dtype=torch.bool)
    for _, values in token_activations(opened, rows, sae.point):
        for h in values.split(CHUNK):  # type: ignore[no-untyped-call]
            latents = local.encode(h)
            active += float((latents != 0).sum())
            fired |= (latents != 0).any(0).cpu()
            left += float((h - local.reconstruct(h)).cpu().double().square().sum())
            total += h.cpu().double().sum(0)
            squares += float(h.cpu().double().square().sum())
            tokens += len(h)
    if not tokens:
        raise MismatchError(f"the autoencoder {sae.name} cannot be checked: the sample has no token after the first")
    spread = squares - float(total.square().sum()) / tokens
    return Quality(active / tokens, left / max(spread, 1e-30), 1 - float(fired.float().mean()), tokens)


def ensure_belongs(opened: OpenModel, sae: SAE, rows: Sequence[Row]) -> Quality:
    """``MismatchError`` with the figures and the likely reasons where they are absurd."""
    found = quality(opened, sae, rows)
    if not found.unexplained <= MOST_UNEXPLAINED or not LEAST_L0 <= found.l0 <= MOST_SHARE * sae.atoms:
        raise MismatchError(
            f"the autoencoder {sae.name} does not describe {opened.id} at {sae.point}: {found} (expected at most "
            f"{MOST_UNEXPLAINED:g} unexplained, L0 between {LEAST_L0:g} and {MOST_SHARE * sae.atoms:g}). Likely it was "
            "made for another model, layer or site, or for activations scaled differently than its files say"
        )
    return found
