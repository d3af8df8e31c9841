"""Gates: conditions, read from the prompt, that switch an intervention on or off for a whole row."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tillerman.core.choices import ChoiceGate
from tillerman.core.errors import FitError, UnknownNameError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.shown import Shown

GATE_READS = ("mean", "last")


@dataclass(frozen=True, eq=False, repr=False)
class SimilarityGate(Shown):
    """Open where ``cos(h, direction)`` is above (or, ``above`` False, not above) ``threshold``.

    ``h`` is the mean over the prompt's tokens or its ``last`` one, at ``point`` (CAST: Lee et al. 2024,
    arXiv 2409.05907, section 3.1; there the condition is ``cos(h, tanh(proj h))``, which loses the sign).
    """

    direction: Float[Tensor, " d"]
    point: HookPoint
    threshold: float
    above: bool = True
    read: str = "mean"

    def __post_init__(self) -> None:
        object.__setattr__(self, "direction", _own(self.direction, self.point))
        _check(self.threshold, self.read)
        if not float(self.direction.norm()) > 0:
            raise FitError(f"gate at {self.point}: a direction of length 0 has no cosine similarity")

    def shown(self) -> dict[str, object]:
        return {"opens where": str(self), "reads": f"the prompt's {self.read}"}

    @property
    def width(self) -> int:
        return len(self.direction)

    def scores(self, h: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """``cos(h, direction)``, in [-1, 1]."""
        return torch.cosine_similarity(h, self.direction.to(h.device)[None], dim=-1)

    def opens(self, h: Float[Tensor, "b d"]) -> Bool[Tensor, " b"]:
        return (self.scores(h) > self.threshold) == self.above

    def __str__(self) -> str:
        return f"similarity {'>' if self.above else '<='} {self.threshold:.3g} at {self.point}"


@dataclass(frozen=True, eq=False, repr=False)
class ProbeGate(Shown):
    """Open where a linear probe says yes: ``h . weights + bias > 0``, ``h`` read as in ``SimilarityGate``."""

    weights: Float[Tensor, " d"]
    bias: float
    point: HookPoint
    read: str = "mean"

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", _own(self.weights, self.point))
        _check(self.bias, self.read)

    def shown(self) -> dict[str, object]:
        return {"opens where": str(self), "reads": f"the prompt's {self.read}"}

    @property
    def width(self) -> int:
        return len(self.weights)

    def scores(self, h: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        return h @ self.weights.to(h.device) + self.bias

    def opens(self, h: Float[Tensor, "b d"]) -> Bool[Tensor, " b"]:
        return self.scores(h) > 0

    def __str__(self) -> str:
        return f"probe at {self.point}"


Gate = SimilarityGate | ProbeGate
PromptGate = Gate | ChoiceGate  # the last is brought by a steering, not given to an intervention


def _own(values: Tensor, point: HookPoint) -> Tensor:
    if values.ndim != 1 or not bool(torch.isfinite(values).all()):
        raise FitError(f"gate at {point}: expected a finite vector of shape [d], got {tuple(values.shape)}")
    return values.detach().to("cpu", torch.float32, copy=True)


def _check(number: float, read: str) -> None:
    if not math.isfinite(number):
        raise UsageError(f"gate: threshold or bias {number}: expected a finite number")
    if read not in GATE_READS:
        raise UnknownNameError("gate read", read, GATE_READS)
