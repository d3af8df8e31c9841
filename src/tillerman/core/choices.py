"""Which of several hook points a text is steered at, read off its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tillerman.core.errors import FitError, UnknownNameError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.shown import Shown

CHOICE_READS = ("mean", "last")


@dataclass(frozen=True, eq=False, repr=False)
class LayerChoice(Shown):
    """The place ``argmax_k w_k . h + b_k`` among ``k`` ones, the first of those that are equal; ``h [d]`` is the mean
    over the prompt's tokens, or its ``last`` one, at ``point`` ("where to steer": arXiv 2604.03867).

    ``FitError`` for keys ``w [k d]`` and offsets ``b [k]`` that do not belong together or are not finite.
    """

    # shapes are checked below: a file may hold any
    keys: Tensor
    offsets: Tensor
    point: HookPoint
    read: str = "last"

    def __post_init__(self) -> None:
        keys, offsets = self.keys, self.offsets
        if keys.ndim != 2 or offsets.shape != keys.shape[:1] or not keys.numel():
            raise FitError(
                f"choice at {self.point}: expected keys [k, d] and offsets [k], got {tuple(keys.shape)} and "
                f"{tuple(offsets.shape)}"
            )
        if not bool(torch.isfinite(keys).all() and torch.isfinite(offsets).all()):
            raise FitError(f"choice at {self.point}: keys and offsets must be finite")
        if self.read not in CHOICE_READS:
            raise UnknownNameError("reading of a choice", self.read, CHOICE_READS)
        for name in ("keys", "offsets"):
            object.__setattr__(self, name, getattr(self, name).detach().to("cpu", torch.float32, copy=True))

    def shown(self) -> dict[str, object]:
        return {"among": len(self.offsets), "reads": f"the prompt's {self.read} at {self.point}"}

    def __str__(self) -> str:
        return f"layer chosen by the prompt's {self.read} at {self.point}"

    def chosen(self, h: Float[Tensor, "b d"]) -> Int[Tensor, " b"]:
        """The place for each row. Activations that are not finite choose the first place: what they make of the text
        is no text anyway."""
        scores = h.float() @ self.keys.to(h.device).T + self.offsets.to(h.device)
        return torch.nan_to_num(scores, nan=float("-inf")).argmax(-1)

    def among(self, places: Sequence[int]) -> LayerChoice:
        """The same among some of the places only."""
        kept = list(places)
        return replace(self, keys=self.keys[kept], offsets=self.offsets[kept])


@dataclass(frozen=True, eq=False, repr=False)
class ChoiceGate(Shown):
    """Open for the texts for which ``choice`` falls on ``place``: of the gates of all places one is open."""

    choice: LayerChoice
    place: int

    @property
    def point(self) -> HookPoint:
        return self.choice.point

    @property
    def read(self) -> str:
        return self.choice.read

    @property
    def width(self) -> int:
        return int(self.choice.keys.shape[1])

    def shown(self) -> dict[str, object]:
        return {"opens where": str(self), "reads": f"the prompt's {self.read}"}

    def opens(self, h: Float[Tensor, "b d"]) -> Bool[Tensor, " b"]:
        return self.choice.chosen(h) == self.place

    def __str__(self) -> str:
        return f"{self.choice}: number {self.place + 1} of {len(self.choice.offsets)}"
