"""Linear activation transport: each coordinate of the stream by the affine map that carries the unwanted rows onto the
wanted ones (Linear-AcT: Rodriguez et al. 2024, arXiv 2410.23054)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tillerman.core.errors import FitError
from tillerman.core.provenance import Provenance
from tillerman.core.spec import option
from tillerman.core.steerings.transport import TransportSteering
from tillerman.methods.contrast import ContrastMethod
from tillerman.methods.estimators import mean_difference
from tillerman.methods.fit import Activations, fit
from tillerman.reports.numbers import decimal

_STILL = 1e-12  # share of its mean square that a coordinate varies by, at most, to count as one that does not


@dataclass(frozen=True)
class LinearAct(ContrastMethod):
    """``h + strength * ((a - 1) * h + b)``, per coordinate the least squares of the optimal coupling of both sides."""

    name: ClassVar[str] = "linear-act"
    reads_itself: ClassVar[bool] = True
    support: str = option(
        "all",
        "where the map is applied: everywhere, or where unwanted training rows were seen (least to greatest)",
        choices=("all", "observed"),
    )

    def direction(
        self, positive: Float[Tensor, "n d"], negative: Float[Tensor, "m d"], paired: bool
    ) -> Float[Tensor, " d"]:
        """What the map does at the mean of the unwanted rows."""
        return mean_difference(positive, negative, paired)

    def vector(self, activations: Activations, provenance: Provenance) -> TransportSteering:
        made = fit(activations, self.direction, provenance)
        if min(len(side[p]) for side in (activations.positive, activations.negative) for p in made.points) < 2:
            raise FitError(f"{self.name}: one row has no spread to carry; give more examples, or use --method caa")
        sides = {p: (activations.positive[p].double(), activations.negative[p].double()) for p in made.points}
        maps = {point: affine_transport(other, wanted) for point, (wanted, other) in sides.items()}
        within = self.support == "observed"
        steering = TransportSteering(
            dict.fromkeys(made.points, 1.0),
            made.stream_norms,
            provenance,
            {point: slopes for point, (slopes, _) in maps.items()},
            {point: shifts for point, (_, shifts) in maps.items()},
            {point: other.amin(0) for point, (_, other) in sides.items()} if within else {},
            {point: other.amax(0) for point, (_, other) in sides.items()} if within else {},
        )
        shifted = [[str(p), *_found(steering.change(p, other), maps[p][0])] for p, (_, other) in sides.items()]
        told = replace(provenance, found={"shifted": shifted})
        return replace(steering, provenance=told).measured({p: torch.cat(both) for p, both in sides.items()})

    def report(self, found: Mapping[str, Any]) -> tuple[str, ...]:
        shares = "; ".join(f"{p} {decimal(share, 2)}, {decimal(slope, 2)}" for p, share, slope in found["shifted"])
        return (
            "share of the change at unwanted training rows that is the same for all of them (the vector of caa), and "
            f"the median slope: {shares}",
        )


def affine_transport(
    source: Float[Tensor, "m d"], target: Float[Tensor, "n d"]
) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Slopes a and shifts b that make ``E (a x + b - y)^2`` least under the optimal coupling of the two samples of each
    coordinate, which joins them in their order (arXiv 2410.23054, section 3).

    ``a = cov(x, y) / var(x)``, at least 0 and at most the ratio of the standard deviations, which it is where one
    sample is an affine image of the other; ``b = mean(y) - a mean(x)``, so that means are carried onto means. A
    coordinate without spread is shifted only. Samples may be of different sizes: their weights are split.
    """
    i, j, weights = _coupling(len(source), len(target))
    x, y = source.double().sort(dim=0).values, target.double().sort(dim=0).values
    means = x.mean(0), y.mean(0)
    spread = (x - means[0]).square().mean(0)
    both = (weights[:, None] * (x[i] - means[0]) * (y[j] - means[1])).sum(0)
    slopes = torch.where(spread > _STILL * x.square().mean(0), both / spread, 1.0)
    return slopes, means[1] - slopes * means[0]


def _coupling(m: int, n: int) -> tuple[Int[Tensor, " k"], Int[Tensor, " k"], Float[Tensor, " k"]]:
    """Places in two ordered samples of m and n equal weights, and the weight that goes from one to the other."""
    steps = torch.cat([n * torch.arange(1, m + 1), m * torch.arange(1, n + 1)])  # in units of 1 / (m n)
    ends = torch.unique(steps)
    begins = torch.cat([ends.new_zeros(1), ends[:-1]])
    return begins // n, begins // m, (ends - begins).double() / (m * n)


def _found(change: Float[Tensor, "n d"], slopes: Float[Tensor, " d"]) -> tuple[float, float]:
    """The share of the squared change that its mean is, and the median slope."""
    share = change.mean(0).square().sum() / change.square().sum(1).mean().clamp_min(1e-30)
    return round(float(share), 4), round(float(slopes.median()), 4)
