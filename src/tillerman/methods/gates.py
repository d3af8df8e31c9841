"""Find a similarity gate from labelled prompts: hook point, threshold and side by F1 (CAST: Lee et al. 2024,
arXiv 2409.05907, appendix C.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tillerman.core.errors import IN_FLOAT32, FitError
from tillerman.core.gates import SimilarityGate
from tillerman.core.hookpoint import HookPoint, parse_points
from tillerman.core.steerings.vector import SteeringVector


@dataclass(frozen=True)
class GateOptions:
    """Labelled prompts that a run's gate is fitted on: ``data`` as ``load_examples`` takes it, ``positive`` the label
    of those to steer where labels do not say yes or no, ``at`` hook points for the gate to read, e.g.
    ``layers.3.resid_post``; None: all that are not later than what is steered."""

    data: str
    positive: str | None = None
    at: str | None = None

    @property
    def points(self) -> tuple[HookPoint, ...] | None:
        return None if self.at is None else parse_points(self.at)

    def __post_init__(self) -> None:
        _ = self.points  # a name that is none is an error at once


@dataclass(frozen=True)
class GateFit:
    """The gate and its F1 on the prompts that chose it; measure it anew on others."""

    gate: SimilarityGate
    f1: float


def fit_gate(
    vector: SteeringVector,
    activations: Mapping[HookPoint, Float[Tensor, "n d"]],
    wanted: Bool[Tensor, " m"],
    *,
    read: str = "mean",
) -> GateFit:
    """The gate that best opens for the ``wanted`` prompts and no others.

    ``vector`` gives the direction at each hook point, ``activations`` what ``capture(..., read=read)`` gives
    for the prompts, one label each (m = n). The grid: hook points x both sides x all thresholds midway
    between two neighbouring scores; no other threshold sorts the prompts differently. Of equal F1 the one
    with the widest gap between its neighbours wins, then the first hook point.
    """
    points = sorted(set(vector.points) & set(activations))
    if not points:
        raise FitError("the vector and the activations have no hook point in common; capture at vector.points")
    if bool(wanted.all()) or not bool(wanted.any()):
        raise FitError("a gate needs prompts that it opens for and prompts that it does not")
    best: tuple[float, float, SimilarityGate] | None = None
    for point in points:
        if len(activations[point]) != len(wanted):
            raise FitError(f"{point}: {len(activations[point])} activations for {len(wanted)} labels")
        plain = SimilarityGate(vector.directions[point], point, 0.0, read=read)
        scores = plain.scores(activations[point].float())
        if not bool(torch.isfinite(scores).all()):
            raise FitError(f"{point}: activations that are not finite; {IN_FLOAT32}")
        levels = torch.tensor(sorted(set(scores.tolist())))
        for low, high in zip(levels[:-1].tolist(), levels[1:].tolist(), strict=True):
            for above in (True, False):
                gate = replace(plain, threshold=(low + high) / 2, above=above)
                rated = (f1_score((scores > gate.threshold) == above, wanted), high - low)
                if best is None or rated > best[:2]:
                    best = (*rated, gate)
    if best is None:
        raise FitError("all prompts have the same similarity at every hook point; nothing tells them apart")
    return GateFit(best[2], best[0])


def f1_score(given: Bool[Tensor, " n"], wanted: Bool[Tensor, " n"]) -> float:
    """``2 tp / (2 tp + fp + fn)`` of two answers, one of which has a yes."""
    both = int((given & wanted).sum())
    return 2 * both / (int(given.sum()) + int(wanted.sum()))
