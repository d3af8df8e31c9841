"""Spherical steering: tokens that lean to the unwanted side are turned towards the wanted one, their norm kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.confidence import Confidence
from tillerman.core.errors import FitError
from tillerman.core.provenance import Provenance
from tillerman.core.spec import option
from tillerman.core.steerings.vector import SteeringVector
from tillerman.methods.base import Context, Habits
from tillerman.methods.contrast import EstimatedMethod
from tillerman.methods.fit import Activations, fit
from tillerman.reports.numbers import decimal

_SHUT = 0.01  # mean share of its strength that is none


@dataclass(frozen=True)
class Spherical(EstimatedMethod):
    """The direction of ``caa``; a strength is the share of its angle to it that a token is turned by, times what the
    gate says (arXiv 2602.08169)."""

    name: ClassVar[str] = "spherical"
    reads_itself: ClassVar[bool] = True
    habits: ClassVar[Habits] = Habits(doses=(-0.3, -0.15, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7), operator="slerp")
    kappa: float = option(
        20.0, "concentration of the gate's two distributions; 0: no gate, every token is turned alike", least=0
    )
    threshold: float = option(
        0.1, "lead in probability of the unwanted side from which on a token is turned", least=-1, most=0.99
    )

    prior: str = option(
        "fitted",
        "weights of the gate's distributions: even where the sides' mean cosines are, or equal, as in the paper",
        choices=("fitted", "equal"),
    )

    @property
    def needs_rows(self) -> bool:
        return super().needs_rows or self.kappa > 0  # the gate is tried on them

    def vector(self, activations: Activations, provenance: Provenance) -> SteeringVector:
        made = replace(fit(activations, self.direction, provenance), operator="slerp")
        if not self.kappa:
            return made
        sides = (activations.positive, activations.negative)
        gates = {point: self._gate(v, [side[point] for side in sides]) for point, v in made.directions.items()}
        opened = [
            [str(point), *(round(float(gate.gate(side[point]).mean()), 4) for side in sides)]
            for point, gate in gates.items()
        ]
        return replace(made, confidences=gates, provenance=replace(provenance, found={"opened": opened}))

    def _gate(self, v: Float[Tensor, " d"], sides: Sequence[Float[Tensor, "_ d"]]) -> Confidence:
        means = [float(torch.cosine_similarity(side.double(), v.double(), dim=-1).mean()) for side in sides]
        return Confidence(v, self.kappa, self.threshold, sum(means) / 2 if self.prior == "fitted" else 0.0)

    def fit(self, context: Context) -> SteeringVector:
        made = self.vector(self.sides(context).activations, context.provenance)
        if self.kappa and not any(other > _SHUT for _, _, other in made.provenance.found["opened"]):
            raise FitError(
                f"{self.name}: the gate is shut at every unwanted training row; fit its weights "
                f"({self.name}:prior=fitted), or turn every token ({self.name}:kappa=0)"
            )
        return made

    def report(self, found: Mapping[str, Any]) -> tuple[str, ...]:
        if not found:  # every token is turned
            return ()
        shares = "; ".join(f"{p} {decimal(wanted, 2)}, {decimal(other, 2)}" for p, wanted, other in found["opened"])
        return (f"mean share of the strength that the gate gives wanted and other training rows: {shares}",)
