"""The search for the cell that changes most what the model writes: ``Experiment(objective="written")``.

Every cell that is looked at is scored as usual, and a few validation prompts are answered under it. The best of these
that keep the budget then answer all validation prompts, and the best mean is taken. A contrast method is read in
several ways (``Run.readings``): they find different vectors, and only replies tell which of them writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tillerman.core.errors import FitError
from tillerman.evaluation.side_effects import DriftMeter
from tillerman.pipeline.costs import Budget, Costs
from tillerman.pipeline.dose_finding import doses_by_cost
from tillerman.pipeline.panel import panel_of
from tillerman.pipeline.run import Run
from tillerman.pipeline.search import Choice, cut_notes, looking, looks_at, plans_of, whole_grid, within
from tillerman.pipeline.together import with_layers_together
from tillerman.pipeline.vectors import fit_readings
from tillerman.selection.choice import Candidate, Constraints, Scored
from tillerman.selection.refine import Look, together

FEW = 4  # prompts that every cell answers
FINALISTS = 8  # cells that answer all prompts


def choose_written(run: Run, meter: DriftMeter) -> Choice:
    """``FitError`` where the labels give no valid scorer of replies."""
    panel, found = panel_of(run), with_layers_together(run, fit_readings(run, run.readings))
    vectors = {name: one.vector for name, one in found.fitted.items()}
    budget = Budget(Costs(run, meter), vectors)
    by_cost = run.experiment.doses_by_cost
    grid = whole_grid(run, found.fitted, doses_by_cost(budget.costs, found.fitted, budget.limits) if by_cost else None)
    shares: dict[Candidate, float] = {}

    def ask(asked: Sequence[Candidate]) -> list[Look]:
        looks = looks_at(run, asked, vectors)
        shares.update(zip(asked, (look.score for look in looks), strict=True))
        values = panel.means(plans_of(asked, vectors), FEW, f"{len(asked)} cells")
        return [Look(value, look.score) for value, look in zip(values, looks, strict=True)]

    most = within(run, len(vectors))
    (seen,) = together([looking(run, grid, budget, most=most)], ask)
    cells, first = list(seen), [look.score for look in seen.values()]
    scored, kept = finalists([Scored(one, shares[one]) for one in cells], first, budget.constraints)
    if not kept:
        raise FitError(
            "`objective` written: no cell keeps the budget; keep strength 0 in the grid, or loosen the budget"
        )
    plans = plans_of([cells[i] for i in kept], vectors)
    full = panel.means(plans, len(panel.asked.items), "the best cells")
    best = max(range(len(kept)), key=lambda k: (full[k], -abs(cells[kept[k]].dose)))
    chosen = scored[kept[best]]
    written = dict(enumerate(first)) | dict(zip(kept, full, strict=True))
    return Choice(
        found.fitted[chosen.candidate.method],
        chosen,
        tuple(scored),
        found.skipped,
        tuple(grid),
        written=tuple(written[i] for i in range(len(cells))),
        readings=found.readings,
        notes=(*cut_notes(run, most, len(seen)), *budget.notes(scored)),
    )


def finalists(
    scored: Sequence[Scored], first: Sequence[float], limits: Constraints | None
) -> tuple[list[Scored], list[int]]:
    """Strength 0 where it is a candidate, and the first ``FINALISTS`` that keep the budget, from the best down.
    Where a dose breaks it, larger ones at the same place are taken to break it too, and are not measured."""
    kept = [i for i, one in enumerate(scored) if one.candidate.cell.strength == 0]
    order = [i for i in range(len(scored)) if i not in kept]
    order.sort(key=lambda i: (-first[i], abs(scored[i].candidate.dose)))
    broken: dict[tuple[object, ...], float] = {}
    marked, most = list(scored), len(kept) + FINALISTS
    for i in order:
        one = scored[i].candidate
        place = (one.method, one.cell.points, one.dose > 0)
        if len(kept) == most:
            break
        if abs(one.dose) >= broken.get(place, float("inf")):
            marked[i] = replace(scored[i], admissible=False)
            continue
        marked[i] = scored[i] if limits is None else limits.admit(scored[i])
        if marked[i].admissible:
            kept.append(i)
        else:
            broken[place] = abs(one.dose)
    return marked, kept
