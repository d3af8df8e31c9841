"""The vector of ``caa``, as strong at each token as a rule finds fit: by a classifier (DSAS), or up to the edge of
where wanted activations lie (IDS). The third rule of its kind, a strength that reaches a cosine (PIXEL), is the
operator ``aim`` of ``target-cosine``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.errors import FitError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.provenance import Provenance
from tillerman.core.spec import option
from tillerman.core.steerings.gated import GatedSteering
from tillerman.methods.contrast import ContrastMethod
from tillerman.methods.estimators import mean_difference
from tillerman.methods.fit import Activations, fit
from tillerman.methods.readers import axes, logistic_fit
from tillerman.reports.numbers import decimal

_SHRUNK = 1e-3  # of the mean variance, added to every variance of the positive side
Gate = tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]  # keys and offsets


class _Adaptive(ContrastMethod):
    """``h + strength * g(h) v``. The norm of its change, for doses, is the mean over the rows of both sides."""

    reads_itself: ClassVar[bool] = True
    rule: ClassVar[str]

    def direction(
        self, positive: Float[Tensor, "n d"], negative: Float[Tensor, "m d"], paired: bool
    ) -> Float[Tensor, " d"]:
        return mean_difference(positive, negative, paired)

    @abstractmethod
    def gate(self, positive: Float[Tensor, "n d"], negative: Float[Tensor, "m d"]) -> Gate:
        """What the gate reads, in float64, from the rows of both sides at one hook point."""

    def vector(self, activations: Activations, provenance: Provenance) -> GatedSteering:
        made = fit(activations, self.direction, provenance)
        sides = {p: (activations.positive[p].double(), activations.negative[p].double()) for p in made.points}
        gates = {point: self.gate(*both) for point, both in sides.items()}
        steering = GatedSteering(
            dict.fromkeys(made.points, 1.0),
            made.stream_norms,
            provenance,
            {point: keys for point, (keys, _) in gates.items()},
            {point: offsets for point, (_, offsets) in gates.items()},
            {point: made.directions[point][None] for point in made.points},
            self.rule,
        )
        shut = [str(p) for p, both in sides.items() if not float(steering.weights(p, torch.cat(both)).sum()) > 0]
        if shut:
            raise FitError(f"{self.name}: the gate opens for no training row at {', '.join(shut)}; {self.remedy}")
        strengths = [[str(p), *(_mean(steering, p, side) for side in both)] for p, both in sides.items()]
        told = replace(provenance, found={"strengths": strengths})
        return replace(steering, provenance=told).measured({p: torch.cat(both) for p, both in sides.items()})

    remedy: ClassVar[str]

    def report(self, found: Mapping[str, Any]) -> tuple[str, ...]:
        shares = "; ".join(f"{p} {decimal(wanted, 2)}, {decimal(other, 2)}" for p, wanted, other in found["strengths"])
        return (f"mean strength at wanted and at other training rows: {shares}",)


@dataclass(frozen=True)
class Dsas(_Adaptive):
    """``g`` is the probability that the token is of the unwanted side, by a logistic regression on principal axes
    (dynamically scaled activation steering: arXiv 2512.03661)."""

    name: ClassVar[str] = "dsas"
    rule: ClassVar[str] = "logistic"
    remedy: ClassVar[str] = "use --method caa"
    axes: int = option(32, "principal axes that the classifier reads, at most", least=1)
    ridge: float = option(0.01, "weight of the squared length of the classifier's weights in its loss", above=0)

    def gate(self, positive: Float[Tensor, "n d"], negative: Float[Tensor, "m d"]) -> Gate:
        where = axes(torch.cat([positive, negative]), most=self.axes)
        weights = logistic_fit(where.of(negative), where.of(positive), self.ridge)
        return where.keys(weights[None, :-1], weights[-1:])


@dataclass(frozen=True)
class Ids(_Adaptive):
    """``g`` is the largest for which the Mahalanobis distance of ``h + g v`` to the wanted side, in the leading
    principal axes, is within the bound (in-distribution steering: arXiv 2510.13285)."""

    name: ClassVar[str] = "ids"
    rule: ClassVar[str] = "within"
    remedy: ClassVar[str] = "raise the bound (ids:level=1), or use --method caa"
    share: float = option(0.4, "share of both sides' variance that the axes hold", above=0, most=1)
    level: float = option(0.95, "share of the wanted rows that lie within the bound", above=0, most=1)

    def gate(self, positive: Float[Tensor, "n d"], negative: Float[Tensor, "m d"]) -> Gate:
        where = axes(torch.cat([positive, negative]), share=self.share)
        x = where.of(positive)
        centre = x.mean(0)
        spread = (x - centre).T @ (x - centre) / len(x)
        spread += _SHRUNK * spread.diagonal().mean() * torch.eye(len(spread), dtype=spread.dtype)
        whiten = torch.linalg.inv(torch.linalg.cholesky(spread))
        bound = ((x - centre) @ whiten.T).norm(dim=1).quantile(self.level)
        return where.keys(whiten / bound, -(whiten / bound) @ centre)


def _mean(steering: GatedSteering, point: HookPoint, side: Float[Tensor, "n d"]) -> float:
    return round(float(steering.weights(point, side).mean()), 4)
