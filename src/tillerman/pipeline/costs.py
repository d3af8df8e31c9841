"""What steering costs on neutral text, as a search asks it: on a part of the text first, and nothing twice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from tillerman.core.plan import Plan
from tillerman.core.steerings.base import Steering
from tillerman.evaluation.side_effects import Drift, DriftMeter, Windows, drift_over
from tillerman.pipeline.run import Run
from tillerman.selection.choice import Candidate, Constraints

PART = 4  # windows of the text that are asked first
FAR = 2.0  # times a limit on this part, in nats, or within it as far: such a cell is not measured on the rest


@dataclass(frozen=True, eq=False)
class Costs:
    """Costs of plans on the meter's text, kept in the run's store."""

    run: Run
    meter: DriftMeter

    def part(self, plan: Plan) -> Drift:
        """On the first ``PART`` windows."""
        return drift_over(self._windows(plan, first=True))

    def whole(self, plan: Plan) -> Drift:
        return drift_over([*self._windows(plan, first=True), *self._windows(plan, first=False)])

    def _windows(self, plan: Plan, *, first: bool) -> list[Windows]:
        """Of the first ``PART`` windows, or of the rest."""
        text = self.meter.text
        some = text.windows[:PART] if first else text.windows[PART:]
        if not len(some):
            return []

        def measured() -> list[list[float]]:
            meter = DriftMeter(self.meter.opened, replace(text, windows=some))
            with self.run.watch.stage("budget, neutral text", meter.passes) as progress:
                (one,) = meter.windows([plan], progress)
            return [side.double().tolist() for side in (one.unsteered, one.steered, one.kl)]

        sides = self.run.store.scoped(self.run.opened.identity, some, plan).value("windows", measured)
        return [Windows(*(torch.tensor(side, dtype=torch.float64) for side in sides))]


@dataclass(frozen=True, eq=False)
class Budget:
    """The budget of a run's search over ``vectors``."""

    costs: Costs
    vectors: Mapping[str, Steering]

    @property
    def limits(self) -> dict[str, float]:
        return self.costs.run.experiment.constraints

    @property
    def constraints(self) -> Constraints | None:
        """Measured on all of the text, but for cells that are far from every limit, or far beyond one, on its first
        part: their figures are of that part."""
        return Constraints(self._measure, tuple(self.limits.values())) if self.limits else None

    def keeps(self, candidate: Candidate) -> bool:
        """Whether a cell keeps the budget on the first part of the text."""
        found = self._of(self.costs.part(self._plan(candidate)))
        return all(cost <= limit for cost, limit in zip(found, self.limits.values(), strict=True))

    def _measure(self, candidate: Candidate) -> tuple[float, ...]:
        plan = self._plan(candidate)
        first = self.costs.part(plan)
        shares = [
            cost / limit if name == "kl" else math.log(cost) / math.log(limit)
            for (name, limit), cost in zip(self.limits.items(), self._of(first), strict=True)
            if limit > (0.0 if name == "kl" else 1.0)
        ]
        clear = len(shares) == len(self.limits) and (max(shares) > FAR or max(shares) < 1 / FAR)
        return self._of(first if clear else self.costs.whole(plan))

    def _of(self, drift: Drift) -> tuple[float, ...]:
        costs = {"kl": drift.kl, "perplexity_ratio": drift.perplexity_ratio}
        return tuple(costs[name] for name in self.limits)

    def _plan(self, candidate: Candidate) -> Plan:
        return candidate.cell.plan(self.vectors[candidate.method])
