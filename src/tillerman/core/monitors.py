"""Monitors: a threshold on how far the stream points along a direction while an answer is made, and what is done where
it is crossed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.errors import FitError, UnknownNameError, UsageError
from tillerman.core.facts import NO_FACT
from tillerman.core.hookpoint import HookPoint
from tillerman.core.shown import Shown

MONITOR_READS = ("prompt", "mean", "token")
LEAST = 4  # tokens of an answer: a mean over fewer is a single word's
_READ = {
    "prompt": "the prompt's last token",
    "mean": "the mean over the answer so far",
    "token": "each token of the answer",
}


@dataclass(frozen=True, eq=False, repr=False)
class Monitor(Shown):
    """Crossed where a statistic of the projections ``h . v / |v|`` at ``point`` is above (or, ``above`` False, below)
    ``threshold``, in the units of the stream (persona vectors: Chen et al. 2025, arXiv 2507.21509, the section on
    monitoring, which reads the prompt's last token).

    ``read`` says which statistic: ``prompt`` the projection of the prompt's last token; ``mean`` the mean over the
    answer's tokens so far, from the ``least``-th on; ``token`` that of each token of the answer. A text that has
    crossed stays crossed. ``direction`` is kept at unit length. ``measured`` is the log of its calibration
    (``tillerman.logs.monitor``), empty for one made by hand.

    ``FitError`` for a direction of length 0 or one that is not finite, ``UsageError`` for a threshold that is not.
    """

    direction: Float[Tensor, " d"]
    point: HookPoint
    threshold: float
    above: bool = True
    read: str = "mean"
    least: int = 1
    measured: Mapping[str, Any] = field(default_factory=dict, metadata=NO_FACT)

    def __post_init__(self) -> None:
        if self.direction.ndim != 1 or not bool(torch.isfinite(self.direction).all()):
            raise FitError(
                f"monitor at {self.point}: expected a finite vector of shape [d], got {tuple(self.direction.shape)}"
            )
        own = self.direction.detach().to("cpu", torch.float32, copy=True)
        length = float(own.norm())
        if not length > 0:
            raise FitError(f"monitor at {self.point}: nothing is projected on a direction of length 0")
        # what is read back from a file is that length already, and stays the same bits
        object.__setattr__(self, "direction", own if abs(length - 1) < 1e-6 else own / length)
        if not math.isfinite(self.threshold):
            raise UsageError(f"monitor: threshold {self.threshold}: expected a finite number")
        if self.read not in MONITOR_READS:
            raise UnknownNameError("reading of a monitor", self.read, MONITOR_READS)
        if self.least < 1 or (self.least > 1 and self.read != "mean"):
            raise UsageError(
                f"monitor: least {self.least}: a mean is taken over at least 1 token, and the readings prompt and "
                "token are of 1"
            )

    def shown(self) -> dict[str, object]:
        return {"crossed where": str(self), "reads": _READ[self.read], "calibrated": "yes" if self.measured else "no"}

    @property
    def width(self) -> int:
        return len(self.direction)

    def projections(self, h: Float[Tensor, "*n d"]) -> Float[Tensor, "*n"]:
        """``h . v / |v|``, in the units of the stream."""
        return h.float() @ self.direction.to(h.device)

    def crosses(self, value: float) -> bool:
        """Whether the statistic is on the side that counts; a value that is no number is on it too, since then nothing
        vouches for the text."""
        return not value <= self.threshold if self.above else not value >= self.threshold

    def __str__(self) -> str:
        what = {"prompt": "the prompt's projection", "mean": "mean projection", "token": "projection"}[self.read]
        return f"{what} {'>' if self.above else '<'} {self.threshold:.3g} at {self.point}"
