"""What steering costs on neutral text, as a search asks it: on little of the text first, and nothing twice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from tillerman.core.plan import Plan
from tillerman.core.steerings.base import Steering
from tillerman.evaluation.side_effects import Drift, DriftMeter, Windows, drift_over, joined
from tillerman.pipeline.run import Run
from tillerman.selection.choice import Candidate, Constraints, Scored

PART = 2  # batches of the text that tell a search where to look on
# A cell is left at the first windows where it costs so many times a limit, in nats, or less than the limit by as much.
FAR = {1: 4.0, 4: 2.0}
ENOUGH = 8  # windows, from which on
ERRORS = 3.0  # it is left where it lies so many standard errors of their mean from the limit, or beyond it at all
SIDES = ("unsteered", "steered", "kl")


@dataclass(frozen=True, eq=False)
class Costs:
    """Costs of plans on the meter's text, kept in the run's store batch by batch."""

    run: Run
    meter: DriftMeter
    title: str = "budget"

    def first(self, plan: Plan, count: int) -> Windows:
        """On the first ``count`` batches of the text, each measured by itself."""
        return joined([self.on(plan, batch) for batch in range(count)])

    def on(self, plan: Plan, batch: int) -> Windows:
        """On one batch of the text."""
        return self._of([plan], batch, batch + 1)[0]

    def together(self, plans: Sequence[Plan], count: int) -> list[Windows]:
        """Of several plans that are measured nowhere else, on the first ``count`` batches."""
        return self._of(plans, 0, count)

    @property
    def batches(self) -> int:
        return self.meter.passes

    def _of(self, plans: Sequence[Plan], start: int, stop: int) -> list[Windows]:
        batches = self.meter.batches[start:stop]

        def measured() -> list[list[list[float]]]:
            with self.run.watch.stage(f"{self.title}, neutral text", len(plans) * len(batches)) as progress:
                found = self.meter.windows_in(batches, plans, progress)
            return [[getattr(one, side).double().tolist() for side in SIDES] for one in found]

        texts = [self.meter.text.windows[list(places)] for places in batches]
        kept = self.run.store.scoped(self.run.opened.identity, texts, plans).value("windows", measured)
        return [Windows(*(torch.tensor(side, dtype=torch.float64) for side in sides)) for sides in kept]


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
        """Measured on as much of the text as tells on which side of the limits a cell lies, or on ``ENOUGH`` windows
        that lie beyond one: its figures are of this part. A cell near a limit is kept only by the whole text."""
        limits = tuple(self.limits.values())
        return Constraints(lambda one: self._of(self._looked(one, self.costs.batches)), limits) if limits else None

    def keeps(self, candidate: Candidate) -> bool:
        """Whether a cell keeps the budget on the first part of the text."""
        return self._within(self._looked(candidate, min(PART, self.costs.batches)))

    def _looked(self, candidate: Candidate, most: int) -> Windows:
        """More and more of the text, until it is clear that the cell keeps the budget, or it breaks it there."""
        plan = candidate.cell.plan(self.vectors[candidate.method])
        seen = self.costs.on(plan, 0)
        for batch in range(1, most):
            if is_clear(seen, self.limits) or (len(seen.kl) >= ENOUGH and not self._within(seen)):
                break
            seen = joined([seen, self.costs.on(plan, batch)])
        return seen

    def notes(self, scored: Sequence[Scored]) -> tuple[str, ...]:
        """Where the rest of the text could have kept cells that were turned down for a part of it."""
        turned_down = [one.candidate for one in scored if one.costs is not None and not one.admissible]
        seen = [self._looked(one, self.costs.batches) for one in turned_down]  # the store has all of it
        count = len(self.costs.meter.text.windows)
        near = [len(one.kl) for one in seen if len(one.kl) < count and not is_clear(one, self.limits)]
        if not near:
            return ()
        cells = "1 cell that scored" if len(near) == 1 else f"{len(near)} cells that scored"
        went, whole = ("goes", "it was") if len(near) == 1 else ("go", "they were"), self.costs.meter.text.tokens
        return (
            f"{cells} as well as the chosen one or better {went[0]} a little over the budget on the first "
            f"{max(near) * whole // count:,} of {whole:,} tokens of neutral text; {went[1]} not measured on the rest",
        )

    def _within(self, seen: Windows) -> bool:
        return all(cost <= limit for cost, limit in zip(self._of(seen), self.limits.values(), strict=True))

    def _of(self, seen: Windows) -> tuple[float, ...]:
        drift: Drift = drift_over([seen])
        costs = {"kl": drift.kl, "perplexity_ratio": drift.perplexity_ratio}
        return tuple(costs[name] for name in self.limits)


def is_clear(seen: Windows, limits: Mapping[str, float]) -> bool:
    """Whether some windows tell that a cell keeps all limits, or breaks one. A limit of no cost at all is never
    clear."""
    shares = _shares(seen, limits)
    if shares is None:
        return False
    return any(_beyond(share) for share in shares) or all(_within(share) for share in shares)


def share_of_budget(seen: Windows, limits: Mapping[str, float]) -> float:
    """How much of the budget some windows spend: of KL, and of the logarithm of perplexity's ratio, whichever is more.
    Infinite where steering breaks the model, and where nothing may be spent."""
    shares = _shares(seen, limits)
    most = math.inf if shares is None else max(float(share.mean()) for share in shares)
    return most if math.isfinite(most) else math.inf


def _shares(seen: Windows, limits: Mapping[str, float]) -> list[torch.Tensor] | None:
    """Costs as shares of each limit, window by window; None where one of them allows nothing."""
    most = {name: limit if name == "kl" else math.log(limit) for name, limit in limits.items()}
    if not all(limit > 0 for limit in most.values()):
        return None
    return [(seen.kl if name == "kl" else seen.steered - seen.unsteered) / limit for name, limit in most.items()]


def _beyond(shares: torch.Tensor) -> bool:
    """Whether a cost, as shares of its limit in some windows, is beyond it, whatever further windows say. Where
    steering breaks the model it is."""
    mean, error = _mean_and_error(shares)
    return not math.isfinite(mean) or mean > 1 + ERRORS * error or mean > _far(len(shares))


def _within(shares: torch.Tensor) -> bool:
    mean, error = _mean_and_error(shares)
    return mean < 1 - ERRORS * error or mean < 1 / _far(len(shares))


def _far(windows: int) -> float:
    return min((far for count, far in FAR.items() if count <= windows), default=math.inf)


def _mean_and_error(shares: torch.Tensor) -> tuple[float, float]:
    """The standard error of the mean over windows, from eight on; infinite for fewer."""
    count = len(shares)
    return float(shares.mean()), float(shares.std()) / math.sqrt(count) if count >= ENOUGH else math.inf
