"""How sure an activation is to be of the unwanted kind: the gate of vectors that turn the stream."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.errors import FitError
from tillerman.core.operators import doubt
from tillerman.core.shown import Shown


@dataclass(frozen=True, eq=False, repr=False)
class Confidence(Shown):
    """Two von Mises-Fisher distributions of concentration ``kappa``, around the prototype ``u`` (only its direction
    counts) and around ``-u``. ``core.operators.doubt`` is how far an activation is of the latter, from the threshold on
    (spherical steering: arXiv 2602.08169, whose mu_T, mu_H, kappa and beta these are). ``even`` is the cosine with u at
    which both are as likely: ``log(P(-u) / P(u)) / (2 kappa)`` of their prior weights P, 0 where these are equal."""

    prototype: Float[Tensor, " d"]
    kappa: float
    threshold: float
    even: float = 0.0

    def __post_init__(self) -> None:
        u = self.prototype
        if u.ndim != 1 or not bool(torch.isfinite(u).all()) or not float(u.norm()) > 0:
            raise FitError(f"expected a finite prototype of shape [d], not 0, got {tuple(u.shape)}")
        if not (math.isfinite(self.kappa) and self.kappa > 0 and -1 <= self.threshold < 1 and -1 <= self.even <= 1):
            raise FitError(
                f"kappa {self.kappa}, threshold {self.threshold}, even {self.even}: "
                "expected a number above 0, one from -1 to below 1, and a cosine"
            )
        object.__setattr__(self, "prototype", u.detach().to("cpu", torch.float32, copy=True))

    def shown(self) -> dict[str, object]:
        numbers = {name: f"{getattr(self, name):.3g}" for name in ("kappa", "threshold", "even")}
        return {"width": len(self.prototype), **numbers}

    def gate(self, h: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
        """The share of its strength that a vector has at each activation."""
        cosine = torch.cosine_similarity(h.float(), self.prototype.to(h.device), dim=-1)
        return doubt(cosine - self.even, torch.tensor(self.kappa), torch.tensor(self.threshold))

    def packed(self, direction: Float[Tensor, " d"]) -> Float[Tensor, " p"]:
        """Direction, prototype, kappa, threshold and even in one row of p = 2d + 3 numbers, as ``operators.slerp``
        reads it."""
        return _row(direction, self.prototype, self.kappa, self.threshold, self.even)


def always(direction: Float[Tensor, " d"]) -> Float[Tensor, " p"]:
    """``packed`` without a gate: at full strength everywhere."""
    return _row(direction, torch.zeros_like(direction), 0.0, 0.0, 0.0)


def _row(direction: Tensor, prototype: Tensor, *scalars: float) -> Tensor:
    numbers = torch.tensor(scalars, device=direction.device)
    return torch.cat([direction.float(), prototype.to(direction.device), numbers])
