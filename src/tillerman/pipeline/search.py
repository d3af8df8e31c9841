"""The grid over vectors, hook points and strengths on the validation share, and the nulls' grids.

Coarse to fine where not asked otherwise (``selection.refine``). Only cells that were looked at are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tillerman.core.cell import Cell
from tillerman.core.errors import FitError
from tillerman.core.hookpoint import named
from tillerman.core.plan import Plan
from tillerman.core.steerings.base import Steering
from tillerman.evaluation.side_effects import DriftMeter
from tillerman.logs.evaluation import SearchedCell
from tillerman.methods.base import Fitted
from tillerman.pipeline.costs import Budget, Costs
from tillerman.pipeline.dose_finding import Points, parts_of, places_of
from tillerman.pipeline.forecast import cells_within
from tillerman.pipeline.progress import spoken_time
from tillerman.pipeline.run import Run
from tillerman.pipeline.together import with_layers_together
from tillerman.pipeline.vectors import ALIKE, AS, alike, fit_readings
from tillerman.selection.choice import Candidate, Scored, search
from tillerman.selection.refine import Look, Looking, Seen, coarse_to_fine, together, whole

NULLS = ("random", "shuffled")
LEAST_DRAWS = 2  # an interval needs two
FEW_CELLS = 24  # of a vector, in a fast run


@dataclass(frozen=True, eq=False)
class Choice:
    """What the validation split chose, and all that it was chosen from."""

    fitted: Fitted
    chosen: Scored
    scored: tuple[Scored, ...]
    skipped: tuple[str, ...]  # methods that gave no vector, with the reason
    grid: tuple[Candidate, ...]  # all there is, looked at or not
    written: tuple[float, ...] = ()  # of each cell, where the search went by what is written
    readings: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # name of a candidate: method, where read
    notes: tuple[str, ...] = ()  # what cut the search short

    @property
    def cell(self) -> Cell:
        return self.chosen.candidate.cell


def candidates(
    run: Run, name: str, fitted: Fitted, *, zero: bool, found: Mapping[Points, Sequence[float]] | None = None
) -> list[Candidate]:
    """The grid of one vector. Strength 0 is one cell, whatever the hook point. Doses are turned into strengths with the
    vector's norms; that of several layers is shared out. ``found``: of each place its own doses."""
    e, vector = run.experiment, fitted.vector
    usual = e.doses or fitted.habits.doses or e.usual_doses
    scope = run.scope(vector.provenance.method)
    places = places_of(fitted)
    grid = []
    for points in places:
        cell, parts = Cell(points, 1.0, vector.operator, scope), parts_of(fitted, points)
        doses = usual if found is None else found[points]
        given = e.strengths if e.strengths is not None else [cell.at_dose(d / parts, vector).strength for d in doses]
        cells = [cell.at(strength) for strength in given if strength != 0]
        grid += [Candidate(name, one, one.dose(vector)) for one in cells]
    none = Candidate(name, Cell(places[0], 0.0, vector.operator, scope), 0.0)
    return [none, *grid] if zero else grid


def choose(run: Run, meter: DriftMeter) -> Choice:
    """Search hook point x strength x method x reading on the validation share, under the constraints."""
    found = with_layers_together(run, fit_readings(run, run.readings))
    doubles = alike(found.fitted) if run.experiment.grid == "coarse" and run.experiment.strengths is None else {}
    fitted = {name: one for name, one in found.fitted.items() if name not in doubles}
    vectors = {name: one.vector for name, one in fitted.items()}
    grid, budget = whole_grid(run, fitted), Budget(Costs(run, meter), vectors)
    most = within(run, len(vectors))
    one_search = looking(run, grid, budget, frozenset(found.readings), most)
    (seen,) = together([one_search], lambda asked: looks_at(run, asked, vectors))
    taken = search(list(seen), lambda one: seen[one].score, budget.constraints, run.experiment.ties)
    chosen = fitted[taken.chosen.candidate.method]
    return Choice(
        chosen,
        taken.chosen,
        taken.scored,
        found.skipped,
        tuple(grid),
        readings=found.readings,
        notes=(*cut_notes(run, most, len(seen)), *budget.notes(taken.scored), *_doubles_note(doubles)),
    )


def _doubles_note(doubles: Mapping[str, str]) -> tuple[str, ...]:
    if not doubles:
        return ()
    pairs = "; ".join(f"{name} where {other} does" for name, other in doubles.items())
    return (f"not searched, since they point where another does (cosine above {ALIKE} at every hook point): {pairs}",)


def within(run: Run, lanes: int) -> int | None:
    """Cells of a search over so many vectors that the time allows, and a fast run; None where nothing was set."""
    e = run.experiment
    allowed = [FEW_CELLS * lanes] if e.fast else []
    return min(allowed if e.budget is None else [*allowed, cells_within(run, e.budget, lanes)], default=None)


def cut_notes(run: Run, most: int | None, looked: int) -> tuple[str, ...]:
    """Said where the time, not the search, set the end."""
    if most is None or looked < most:
        return ()
    e = run.experiment
    why = "be fast" if e.budget is None or (e.fast and most >= FEW_CELLS) else f"fit {spoken_time(e.budget)}"
    return (f"the search was cut to {looked} cells to {why}",)


def looking(
    run: Run,
    grid: Sequence[Candidate],
    budget: Budget | None = None,
    few: frozenset[str] = frozenset(),
    most: int | None = None,
) -> Looking:
    """The search over a grid: whole, or coarse to fine. Without a budget no cell costs too much."""
    if run.experiment.grid == "full":
        return whole(grid)
    keeps = budget.keeps if budget is not None and budget.limits else None
    # Where cells are dear every vector begins with few, a null's as the real one.
    return coarse_to_fine(grid, run.experiment.ties, keeps, few=few, dear=run.cells_are_dear, most=most)


def whole_grid(
    run: Run, fitted: Mapping[str, Fitted], doses: Mapping[str, Mapping[Points, Sequence[float]]] | None = None
) -> list[Candidate]:
    """The cells of all vectors, that of strength 0 first. ``doses``: of some vectors, place by place."""
    grid: list[Candidate] = []
    for i, (name, one) in enumerate(fitted.items()):
        found = None if doses is None else doses.get(name)
        grid += candidates(run, name, one, zero=run.experiment.zero and i == 0, found=found)
    return grid


def _maker(fitted: Fitted, null: str) -> Callable[[int], Steering]:
    return {"random": fitted.random, "shuffled": fitted.shuffled}[null]


def null_vectors(run: Run, null: str, chosen: Choice) -> tuple[Steering, ...]:
    """Independent draws of a null: random directions of the chosen vector's norms, or vectors that the
    chosen method fits when labels are shuffled. A draw that nothing tells apart at the chosen hook points has no
    vector there, and is left out."""
    make = _maker(chosen.fitted, null)
    wanted = set(chosen.cell.points)
    draws = tuple(draw for draw in map(make, run.experiment.null_seeds) if wanted <= set(draw.points))
    if len(draws) < LEAST_DRAWS:
        raise FitError(f"null:{null}: only {len(draws)} draws have a vector at {named(chosen.cell.points)}")
    return draws


def choose_nulls(run: Run, draws: Mapping[str, Steering], chosen: Choice) -> dict[str, Cell]:
    """The best cell of a draw of each null on the grid of the chosen method, searched as that was. A null may not
    abstain: strength 0 would hide what it does.

    A shuffled-label vector is taken at the strengths of the real one, not blown up to its dose: what
    is left of a behaviour after shuffling points along it with a random sign, and a grid over doses
    with true validation labels would find the behaviour again.
    """
    if not draws:
        return {}
    vectors = {f"null:{name}": draw for name, draw in draws.items()}
    most = within(run, len({one.method for one in chosen.grid if one.cell.strength}))
    a_vector = None if most is None else max(2, most // len({one.method for one in chosen.grid}))
    searches = [looking(run, null_grid(name, one, chosen), most=a_vector) for name, one in draws.items()]
    found = together(searches, lambda asked: looks_at(run, asked, vectors))
    return {name: _best(run, seen) for name, seen in zip(draws, found, strict=True)}


def null_grid(null: str, vector: Steering, chosen: Choice) -> list[Candidate]:
    """The cells of the chosen vector's grid, as far as the null has a direction there."""
    mine, grid = chosen.chosen.candidate.method, []
    for one in chosen.grid:
        points = tuple(point for point in one.cell.points if point in vector.points)
        if one.method == mine and one.cell.strength and points:
            cell = replace(one.cell, points=points, operator=vector.operator)
            grid.append(Candidate(f"null:{null}", cell, cell.dose(vector)))
    return grid


def _best(run: Run, seen: Seen) -> Cell:
    return search(list(seen), lambda one: seen[one].score, None, run.experiment.ties).chosen.candidate.cell


def plans_of(grid: Sequence[Candidate], vectors: Mapping[str, Steering]) -> list[Plan]:
    """Empty at strength 0: the unsteered model itself."""
    return [c.cell.plan(vectors[c.method]) if c.cell.strength else () for c in grid]


def looks_at(run: Run, asked: Sequence[Candidate], vectors: Mapping[str, Steering]) -> list[Look]:
    """Of each candidate the share of validation items answered right and, where the search goes on from there, the
    mean probability of the right answer."""
    exam, plans = run.validation, plans_of(asked, vectors)
    names = dict.fromkeys(one.method.split(AS)[0] for one in asked)
    with run.watch.stage(f"grid, {', '.join(names)}", len(asked) * len(exam.items)) as progress:
        if exam.is_open or run.experiment.grid == "full":
            right = exam.correct_under(plans, run.store, progress).mean(1)
            return [Look(float(share)) for share in right]
        answered = exam.answered_under(plans, run.store, progress)
    places = [item.right for item in exam.items]
    return [Look(float(one.right.mean()), _sure(one.scores, places)) for one in answered]


def _sure(scores: Sequence[Sequence[float]], places: Sequence[int]) -> float:
    """The mean probability of the right answers among each item's; 0 where scores are no numbers."""
    return float(np.mean([_probability(row, place) for row, place in zip(scores, places, strict=True)]))


def _probability(row: Sequence[float], place: int) -> float:
    weights = np.exp(np.array(row) - max(row))
    share = float(weights[place] / weights.sum())
    return share if np.isfinite(share) else 0.0


def log_cells(run: Run, choice: Choice) -> tuple[SearchedCell, ...]:
    """The cells of a search as its log keeps them."""
    names, rows = tuple(run.experiment.constraints), []
    written: Sequence[float | None] = choice.written or [None] * len(choice.scored)
    for one, value in zip(choice.scored, written, strict=True):
        costs = dict(zip(names, one.costs or (), strict=False))
        cell, dose = one.candidate.cell, one.candidate.dose
        method, read = choice.readings.get(one.candidate.method, (one.candidate.method, ""))
        measured = (costs.get("kl"), costs.get("perplexity_ratio"))
        place = (method, named(cell.points), cell.strength, dose)
        rows.append(SearchedCell(*place, one.score, *measured, one.admissible, value, read))
    return tuple(rows)
