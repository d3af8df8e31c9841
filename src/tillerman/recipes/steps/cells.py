"""The cells of a sweep: one vector at every layer and strength of a step, nothing chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tillerman.core.cell import Cell
from tillerman.core.plan import Plan
from tillerman.core.steerings.base import Steering
from tillerman.pipeline.run import Run
from tillerman.pipeline.vectors import fit_methods
from tillerman.recipes.recipe import At
from tillerman.recipes.steps.work import Work


@dataclass(frozen=True, eq=False)
class Swept:
    """One cell of a sweep, by the paper's layer, and its plans: the vector's, or one for each random draw."""

    layer: int | None
    cell: Cell
    dose: float
    plans: tuple[Plan, ...]


def fitted_vector(run: Run) -> Steering:
    """Of the one method that the arm names. ``FitError`` where the data cannot feed it."""
    fitted, _ = fit_methods(run)
    return next(iter(fitted.values())).vector


def cells_of(work: Work, run: Run, vector: Steering) -> list[Swept]:
    """Strength 0 is the unsteered model. Blocks of the paper that are one block here are one cell each."""
    scope = run.scope(vector.provenance.method)
    seeds = [1000 * work.seed + draw for draw in range(work.arm.draws)]
    cells = []
    for layer, steering in _places(work, vector):
        drawn = [steering.random_like(seed) for seed in seeds] or [steering]
        for strength in work.strengths:
            if work.arm.at and At(strength, layer) not in work.arm.at:
                continue
            plans = tuple(Cell.of(one, strength, scope).plan(one) if strength else () for one in drawn)
            cell = Cell.of(steering, strength, scope)
            cells.append(Swept(layer, cell, cell.dose(steering), plans))
    return cells


def _places(work: Work, vector: Steering) -> Sequence[tuple[int | None, Steering]]:
    if work.step.layers is None:
        return [(None, vector)]
    at = {point.layer: point for point in vector.points}
    mapped = work.step.layers.of_model(work.opened.layers)
    return [(layer, vector.at(at[here])) for layer, here in mapped.items() if here in at]
