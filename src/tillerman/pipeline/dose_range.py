"""The doses that may be recommended: around the chosen one, those that work and keep to the budget."""

from __future__ import annotations

from collections.abc import Sequence

from tillerman.evaluation.side_effects import DriftMeter
from tillerman.logs.evidence import DoseRange
from tillerman.pipeline.costs import Budget, Costs
from tillerman.pipeline.run import Run
from tillerman.pipeline.search import Choice, plans_of
from tillerman.selection.choice import Candidate, Constraints, Scored
from tillerman.statistics.estimates import effect


def dose_range(run: Run, choice: Choice, meter: DriftMeter) -> DoseRange | None:
    """On validation items, along the line of the chosen cell: all doses of the grid from the chosen one down, and up,
    whose interval of the effect lies above 0; upwards as far as the budget is kept. A smaller dose costs no more.

    None where the search abstained, or the chosen dose itself shows no effect on the validation items."""
    chosen = choice.chosen.candidate
    if not chosen.cell.strength:
        return None
    vectors = {chosen.method: choice.fitted.vector}
    limits, line = Budget(Costs(run, meter), vectors).constraints, _line(chosen, choice.grid)
    plans = [(), *plans_of(line, vectors)]
    with run.watch.stage("dose range, validation", len(plans) * len(run.validation.items)) as progress:
        plain, *under = run.validation.correct_under(plans, run.store, progress)
    works = [effect(right, plain, run.validation.groups).found for right in under]
    place = line.index(chosen)
    if not works[place]:
        return None
    low = high = place
    while low > 0 and works[low - 1]:
        low -= 1
    while high + 1 < len(line) and works[high + 1] and _kept(line[high + 1], limits):
        high += 1
    return DoseRange(line[low].dose, line[high].dose, chosen.dose)


def _line(chosen: Candidate, others: Sequence[Candidate]) -> list[Candidate]:
    """The candidates of the chosen one's line, smallest dose first."""
    same = [one for one in others if one.cell.strength and one.line == chosen.line]
    return sorted(same, key=lambda one: abs(one.dose))


def _kept(candidate: Candidate, limits: Constraints | None) -> bool:
    return limits is None or limits.admit(Scored(candidate, 0.0)).admissible
