"""Two sides of activations as an autoencoder sees them, and what a method makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float
from torch import Tensor

from tillerman.core.atoms import Atom
from tillerman.core.errors import FitError
from tillerman.methods.fit import deal, dealt
from tillerman.models.sae.autoencoder import SAE
from tillerman.models.sae.latents import Latents
from tillerman.models.sae.quality import Quality

SHOWN = 10  # atoms named in a report


@dataclass(frozen=True, eq=False)
class Encoded:
    """The rows of both sides in the autoencoder's atoms, beside the activations they were encoded from."""

    sae: SAE
    quality: Quality
    positive: Latents
    negative: Latents

    @property
    def amplitude(self) -> Float[Tensor, " f"]:
        """``mean(a+) - mean(a-)``, a the mean activation of a row (STA)."""
        return self.positive.mean.double().mean(0) - self.negative.mean.double().mean(0)

    @property
    def frequency(self) -> Float[Tensor, " f"]:
        """``mean 1[a+ > 0] - mean 1[a- > 0]``: in how many more rows an atom fires, -1 to 1. Counts are subtracted
        as whole numbers, so that equal differences are equal: 3/10 - 2/10 and 1/10 - 0/10 are not, as fractions."""
        plus, minus = len(self.positive.mean), len(self.negative.mean)
        fired, other = (self.positive.mean > 0).sum(0), (self.negative.mean > 0).sum(0)
        return (fired * minus - other * plus).double() / (plus * minus)

    def shuffled(self, paired: bool, seed: int) -> Encoded:
        """The shuffled-label null: latents dealt as ``methods.fit.shuffled`` deals activations."""
        plus, minus = dealt(len(self.positive.mean), len(self.negative.mean), paired, seed)
        means = deal(self.positive.mean, self.negative.mean, plus, minus)
        peaks = deal(self.positive.peak, self.negative.peak, plus, minus)
        return replace(self, positive=Latents(means[0], peaks[0]), negative=Latents(means[1], peaks[1]))

    def facts(self, order: Tensor, **more: Any) -> dict[str, Any]:
        """What the provenance keeps: the autoencoder, its quality, and the first atoms of ``order``."""
        amplitude, frequency = self.amplitude, self.frequency
        return {
            "sae": self.sae.name,
            "sae_fingerprint": self.sae.fingerprint,
            "architecture": self.sae.architecture,
            "atoms": self.sae.atoms,
            "l0": self.quality.l0,
            "unexplained_variance": self.quality.unexplained,
            **more,
            "top": [
                {
                    "atom": i,
                    "amplitude": float(amplitude[i]),
                    "frequency": float(frequency[i]),
                    **({"label": self.sae.labels[i]} if i in self.sae.labels else {}),
                }
                for i in order[:SHOWN].tolist()
            ],
        }


@dataclass(frozen=True, eq=False)
class AtomDirection:
    """A direction, what to report of it, and the atom to clamp where it is to be clamped."""

    direction: Float[Tensor, " d"]
    facts: Mapping[str, Any]
    atom: Atom | None = None


def as_long_as(gap: Float[Tensor, " d"], direction: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
    """``direction`` at the norm of ``gap``, the CAA vector of the same rows."""
    norm = direction.norm()
    if not float(norm) > 1e-9 * float(gap.norm()):
        raise FitError("the chosen atoms add up to no direction; keep a larger share, or use another autoencoder")
    scaled: Tensor = direction * (gap.norm() / norm)
    return scaled
