"""The cells of a sweep: one vector at every layer and strength of a step, nothing chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tillerman.core.plan import Intervention, Plan
from tillerman.core.steerings.base import Steering, joint_dose
from tillerman.methods.fit import random_like
from tillerman.pipeline.run import Run
from tillerman.pipeline.search import fit_methods
from tillerman.recipes.steps.work import Work


@dataclass(frozen=True, eq=False)
class SweptCell:
    """The plans of one layer and strength: the vector's, or one for each random draw."""

    layer: int | None
    strength: float
    steering: Steering
    plans: tuple[Plan, ...]

    @property
    def dose(self) -> float:
        return joint_dose(self.steering, self.strength)


def fitted_vector(run: Run) -> Steering:
    """Of the one method that the arm names. ``FitError`` where the data cannot feed it."""
    fitted, _ = fit_methods(run)
    return next(iter(fitted.values())).vector


def cells_of(work: Work, run: Run, vector: Steering) -> list[SweptCell]:
    """Strength 0 is the unsteered model. Blocks of the paper that are one block here are one cell each."""
    scope = run.scope(vector.provenance.method)
    seeds = [1000 * work.seed + draw for draw in range(work.arm.draws)]

    def plan(steering: Steering, strength: float) -> Plan:
        return (Intervention(steering, strength, steering.operator, scope),) if strength else ()

    cells = []
    for layer, steering in _places(work, vector):
        drawn = [random_like(steering, seed) for seed in seeds] or [steering]
        for strength in work.strengths:
            cells.append(SweptCell(layer, strength, steering, tuple(plan(one, strength) for one in drawn)))
    return cells


def _places(work: Work, vector: Steering) -> Sequence[tuple[int | None, Steering]]:
    if work.step.layers is None:
        return [(None, vector)]
    at = {point.layer: point for point in vector.points}
    mapped = work.step.layers.of_model(work.opened.layers)
    return [(layer, vector.at(at[here])) for layer, here in mapped.items() if here in at]
