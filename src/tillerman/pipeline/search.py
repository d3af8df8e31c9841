"""Vectors of every method asked for, the grid over them on the validation share, and the nulls' grids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tillerman.core.cell import Cell
from tillerman.core.errors import FitError
from tillerman.core.hookpoint import HookPoint, named
from tillerman.core.plan import Plan
from tillerman.core.rows import ContrastSet
from tillerman.core.steerings.base import Steering
from tillerman.evaluation.side_effects import DriftMeter
from tillerman.logs.evaluation import SearchedCell
from tillerman.methods.activations import Reading, read_contrasts
from tillerman.methods.base import Context, Fitted, Habits, Method
from tillerman.methods.contrast import ContrastMethod
from tillerman.pipeline.experiment import DEFAULT_DOSES
from tillerman.pipeline.run import Run
from tillerman.selection.choice import Candidate, Constraints, Scored, Selection, search

NULLS = ("random", "shuffled")
LEAST_DRAWS = 2  # an interval needs two


@dataclass(frozen=True, eq=False)
class Choice:
    """What the validation split chose, and all that it was chosen from."""

    fitted: Fitted
    chosen: Scored
    scored: tuple[Scored, ...]
    skipped: tuple[str, ...]  # methods that gave no vector, with the reason
    written: tuple[float, ...] = ()  # of each cell, where the search went by what is written
    readings: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # name of a candidate: method, where read

    @property
    def cell(self) -> Cell:
        return self.chosen.candidate.cell


def fit_methods(run: Run) -> tuple[dict[str, Fitted], tuple[str, ...]]:
    """A vector per method, by its spec. A method that the data cannot feed (the model gets everything right, say)
    is left out with its reason; an error only if none is left."""
    wanted = {str(method): method for method in run.experiment.methods}
    contexts = {name: _context(run, name, m) for name, m in wanted.items()}  # no such layer: an error at once
    reasons: dict[str, FitError] = {}
    contrasts = _contrasts(wanted, contexts, reasons)
    needs_rows = any(m.needs_rows for n, m in wanted.items() if n in contrasts and isinstance(m, ContrastMethod))
    sides = _read(run, run.points(), contrasts, needs_rows)
    fitted: dict[str, Fitted] = {}
    for name, method in wanted.items():
        if name not in reasons:
            try:
                fitted[name] = method.fitted(replace(contexts[name], sides=sides.get(name)))
            except FitError as error:
                reasons[name] = error
    if not fitted:
        raise next(reasons[name] for name in wanted)
    return fitted, tuple(f"{name} left out: {reasons[name]}" for name in wanted if name in reasons)


def _contrasts(
    wanted: Mapping[str, Method], contexts: Mapping[str, Context], reasons: dict[str, FitError]
) -> dict[str, ContrastSet]:
    """What each contrast method wants read; those that cannot be fed are put into ``reasons``."""
    contrasts = {}
    for name, method in wanted.items():
        if isinstance(method, ContrastMethod):
            try:
                contrasts[name] = method.pair(contexts[name])
            except FitError as error:
                reasons[name] = error
    return contrasts


def _context(run: Run, name: str, method: Method) -> Context:
    e = run.experiment

    def read(contrast: ContrastSet, points: Sequence[HookPoint]) -> Reading:
        return _read(run, points, {name: contrast}, needs_rows=True)[name]

    return Context(
        opened=run.opened,
        items=run.train.items,
        written=run.train.written,
        writer=run.writer,
        points=tuple(run.points(method.habits.site)),
        provenance=run.provenance(name),
        seed=e.seed,
        replies=lambda: run.replies,
        predictions=lambda: run.predictions,
        prompt=lambda: run.told,
        contrast_writer=lambda: run.contrast_writer,
        read_site=e.read_site or e.site,
        pooling="mean" if run.read == "mean" else "last",
        read=read,
        store=run.store,
        stage=run.watch.stage,
    )


def _read(
    run: Run, points: Sequence[HookPoint], contrasts: Mapping[str, ContrastSet], needs_rows: bool
) -> dict[str, Reading]:
    """Both sides of every contrast set, in one pass. ``needs_rows``: else means are all that is kept."""
    if not contrasts:
        return {}
    e = run.experiment
    rows = {row for one in contrasts.values() for row in (*one.positive, *one.negative)}
    with run.watch.stage(f"activations, {', '.join(contrasts)}", len(rows)) as progress:
        return read_contrasts(
            run.opened,
            contrasts,
            points,
            read_site=e.read_site or e.site,
            read="mean" if run.read == "mean" else "last",
            keep_rows=needs_rows,
            shuffles=e.null_seeds,
            store=run.store,
            progress=progress,
        )


def candidates(
    run: Run, name: str, vector: Steering, habits: Habits, *, zero: bool, scale: Steering | None = None
) -> list[Candidate]:
    """The grid of one vector. Strength 0 is one cell, whatever the hook point. Doses are turned into
    strengths with the norms of ``scale`` (the vector itself if not given)."""
    e = run.experiment
    doses = e.doses or habits.doses or DEFAULT_DOSES
    scope = run.scope(vector.provenance.method)
    places = [vector.points] if habits.joint else [(point,) for point in vector.points]
    grid = []
    for points in places:
        cell, ruler = Cell(points, 1.0, vector.operator, scope), scale or vector
        given = e.strengths if e.strengths is not None else [cell.at_dose(d, ruler).strength for d in doses]
        cells = [cell.at(strength) for strength in given if strength != 0]
        grid += [Candidate(name, one, one.dose(vector)) for one in cells]
    none = Candidate(name, Cell(places[0], 0.0, vector.operator, scope), 0.0)
    return [none, *grid] if zero else grid


def choose(run: Run, meter: DriftMeter) -> Choice:
    """Search hook point x strength x method on the validation share, under the constraints."""
    fitted, skipped = fit_methods(run)
    grid: list[Candidate] = []
    for i, (name, one) in enumerate(fitted.items()):
        grid += candidates(run, name, one.vector, one.method.habits, zero=run.experiment.zero and i == 0)
    vectors = {name: one.vector for name, one in fitted.items()}
    found = _search(run, grid, vectors, constraints(run, vectors, meter))
    return Choice(fitted[found.chosen.candidate.method], found.chosen, found.scored, skipped)


def null_vectors(run: Run, null: str, chosen: Choice) -> tuple[Steering, ...]:
    """Independent draws of a null: random directions of the chosen vector's norms, or vectors that the
    chosen method fits when labels are shuffled. A draw that nothing tells apart at the chosen hook points has no
    vector there, and is left out."""
    make = {"random": chosen.fitted.random, "shuffled": chosen.fitted.shuffled}[null]
    wanted = set(chosen.cell.points)
    draws = tuple(draw for draw in map(make, run.experiment.null_seeds) if wanted <= set(draw.points))
    if len(draws) < LEAST_DRAWS:
        raise FitError(f"null:{null}: only {len(draws)} draws have a vector at {named(chosen.cell.points)}")
    return draws


def choose_null(run: Run, null: str, vector: Steering, chosen: Choice) -> Cell:
    """One draw's best cell on the grid of the chosen method. It may not abstain: strength 0 would hide
    what it does.

    A shuffled-label vector is taken at the strengths of the real one, not blown up to its dose: what
    is left of a behaviour after shuffling points along it with a random sign, and a grid over doses
    with true validation labels would find the behaviour again.
    """
    name, habits = f"null:{null}", chosen.fitted.method.habits
    shared = vector.at([point for point in vector.points if point in chosen.fitted.vector.points])
    grid = candidates(run, name, shared, habits, zero=False, scale=chosen.fitted.vector)
    return _search(run, grid, {name: vector}, None).chosen.candidate.cell


def _search(
    run: Run,
    grid: list[Candidate],
    vectors: Mapping[str, Steering],
    limits: Constraints | None,
) -> Selection:
    scores = dict(zip(grid, right_shares(run, grid, vectors), strict=True))
    return search(grid, scores.__getitem__, limits, run.experiment.ties)


def plans_of(grid: Sequence[Candidate], vectors: Mapping[str, Steering]) -> list[Plan]:
    """Empty at strength 0: the unsteered model itself."""
    return [c.cell.plan(vectors[c.method]) if c.cell.strength else () for c in grid]


def right_shares(run: Run, grid: Sequence[Candidate], vectors: Mapping[str, Steering]) -> list[float]:
    """Of each candidate the share of validation items answered right."""
    with run.watch.stage(f"grid, {', '.join(vectors)}", len(grid) * len(run.validation.items)) as progress:
        right = run.validation.correct_under(plans_of(grid, vectors), run.store, progress)
    shares: list[float] = right.mean(1).tolist()
    return shares


def constraints(run: Run, vectors: Mapping[str, Steering], meter: DriftMeter) -> Constraints | None:
    limits = run.experiment.constraints
    if not limits:
        return None

    def costs(candidate: Candidate) -> tuple[float, ...]:
        plan = candidate.cell.plan(vectors[candidate.method])

        def measured() -> list[float]:
            drift = meter.measure(plan)
            return [drift.kl, drift.perplexity_ratio]

        kl, ratio = run.store.scoped(run.opened.identity, meter.text.windows, plan).value("costs", measured)
        return tuple({"kl": kl, "perplexity_ratio": ratio}[name] for name in limits)

    return Constraints(costs, tuple(limits.values()))


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
