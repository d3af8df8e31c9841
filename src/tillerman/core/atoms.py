"""One atom of a sparse autoencoder, as much of it as clamping needs: how strongly an activation lights it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.shown import Shown


@dataclass(frozen=True, eq=False, repr=False)
class Atom(Shown):
    """``a(h) = relu(e . h + bias)`` where ``e . h > least``, else 0; e ``[d]`` is the encoder's row.

    Holds for atoms whose activation follows from themselves alone (ReLU, JumpReLU, gated), not for TopK.
    """

    encoder: Float[Tensor, " d"]
    bias: float
    least: float

    def shown(self) -> dict[str, object]:
        return {"width": len(self.encoder), "bias": f"{self.bias:.3g}", "least": f"{self.least:.3g}"}

    def per(self, unit: float) -> Atom:
        """The same atom with activations counted in multiples of ``unit``."""
        return Atom(self.encoder / unit, self.bias / unit, self.least / unit)

    def packed(self, direction: Float[Tensor, " d"]) -> Float[Tensor, " p"]:
        """Direction, encoder, bias and least in one row of p = 2d + 2 numbers, as ``operators.clamp_atom`` reads it."""
        scalars = torch.tensor([self.bias, self.least])
        return torch.cat([direction.float(), self.encoder.float().to(direction.device), scalars.to(direction.device)])

    @classmethod
    def unpacked(cls, encoder_part: Float[Tensor, " q"]) -> Atom:
        """Inverse of the last q = d + 2 numbers of ``packed``."""
        return cls(encoder_part[:-2], float(encoder_part[-2]), float(encoder_part[-1]))
