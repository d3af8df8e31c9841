"""Vectors of every method asked for, the grid over them on the validation share, and the nulls' grids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from tillerman.core.cell import Cell
from tillerman.core.errors import FitError
from tillerman.core.hookpoint import HookPoint, named
from tillerman.core.provenance import Provenance
from tillerman.core.rows import ContrastSet, silent
from tillerman.core.steerings.base import Steering
from tillerman.core.steerings.vector import SteeringVector
from tillerman.evaluation.side_effects import DriftMeter
from tillerman.logs.evaluation import SearchedCell
from tillerman.methods.activations import Reading, encode_rows, read_contrasts
from tillerman.methods.base import Lesson
from tillerman.methods.estimators import OF_MEANS
from tillerman.methods.fit import Activations, fit, random_like
from tillerman.methods.registry import AnyMethod, DirectMethod, Habits, Method, methods
from tillerman.pipeline.experiment import DEFAULT_DOSES
from tillerman.pipeline.run import Run
from tillerman.selection.choice import Candidate, Constraints, Scored, Selection, search

NULLS = ("random", "shuffled")
LEAST_DRAWS = 2  # an interval needs two


@dataclass(frozen=True, eq=False)
class Fitted:
    """One method's vector, and how its nulls are made, by seed."""

    method: AnyMethod
    vector: Steering
    random: Callable[[int], Steering]
    shuffled: Callable[[int], Steering]


@dataclass(frozen=True, eq=False)
class Choice:
    """What the validation split chose, and all that it was chosen from."""

    fitted: Fitted
    chosen: Scored
    scored: tuple[Scored, ...]
    skipped: tuple[str, ...]  # methods that gave no vector, with the reason

    @property
    def cell(self) -> Cell:
        return self.chosen.candidate.cell


def fit_methods(run: Run) -> tuple[dict[str, Fitted], tuple[str, ...]]:
    """A vector per method. A method that the data cannot feed (the model gets everything right, say)
    is left out with its reason; an error only if none is left."""
    wanted = {method.name: method for method in methods(run.experiment.method)}
    points = {name: run.points(m.habits.site) for name, m in wanted.items()}  # no such layer: an error at once
    reasons: dict[str, FitError] = {}
    contrasts = _contrasts(run, [m for m in wanted.values() if isinstance(m, Method)], reasons)
    plain = {m: contrast for m, contrast in contrasts.items() if not m.reads_sae}
    kept = _read(run, run.points(), {m.name: c for m, c in plain.items()}, [m.estimator for m in plain])
    fitted: dict[str, Fitted] = {}
    for name, method in wanted.items():
        try:
            if isinstance(method, DirectMethod):
                fitted[name] = _directly(run, method, points[name])
            elif method in contrasts:
                reading = kept[name] if name in kept else _read_encoded(run, method, contrasts[method])
                fitted[name] = _from_contrast(method, reading, run.provenance(name))
        except FitError as error:
            reasons[name] = error
    if not fitted:
        raise next(reasons[name] for name in wanted)
    return fitted, tuple(f"{name} left out: {reasons[name]}" for name in wanted if name in reasons)


def _contrasts(run: Run, wanted: Sequence[Method], reasons: dict[str, FitError]) -> dict[Method, ContrastSet]:
    """What each method wants read; those that cannot be fed are put into ``reasons``."""
    contrasts = {}
    for method in wanted:
        try:
            predictions = run.predictions if method.pairing.needs_predictions else []
            contrasts[method] = method.pairing.build(run.train.items, predictions, run.contrast_writer)
        except FitError as error:
            reasons[method.name] = error
    return contrasts


def _from_contrast(method: Method, reading: Reading, made: Provenance) -> Fitted:
    def fitted(activations: Activations) -> SteeringVector:
        vector = fit(activations, method.estimator, made)
        return vector if method.habits.operator == "add" else replace(vector, operator=method.habits.operator)

    vector = fitted(reading.activations)
    return Fitted(method, vector, partial(random_like, vector), lambda seed: fitted(reading.shuffled(seed)))


def _directly(run: Run, method: DirectMethod, points: Sequence[HookPoint]) -> Fitted:
    items = run.train
    with run.watch.stage(f"fit, {method.name}", len(items.items)) as progress:
        lesson = Lesson(
            opened=run.opened,
            items=items.items,
            written=items.written,
            writer=run.writer,
            points=tuple(points),
            provenance=run.provenance(method.name),
            seed=run.experiment.seed,
            progress=progress,
            replies=lambda: run.replies,
            prompt=run.told,
            prompt_negative=run.experiment.prompt_negative,
            cold=run.experiment.cold,
        )
        vector = method.fit(lesson)
    quiet = replace(lesson, progress=silent)
    return Fitted(method, vector, partial(method.random, vector), lambda seed: method.fit(quiet.shuffled(seed)))


def _read(
    run: Run, points: Sequence[HookPoint], contrasts: Mapping[str, ContrastSet], estimators: Sequence[str]
) -> dict[str, Reading]:
    if not contrasts:
        return {}
    e = run.experiment
    rows = {row for one in contrasts.values() for row in (*one.positive, *one.negative)}
    keep_rows = not OF_MEANS.issuperset(estimators)
    with run.watch.stage(f"activations, {', '.join(contrasts)}", len(rows)) as progress:
        return read_contrasts(
            run.opened,
            contrasts,
            points,
            read_site=e.read_site or e.site,
            read=_pooling(run),
            keep_rows=keep_rows,
            shuffles=e.null_seeds,
            store=run.store,
            progress=progress,
        )


def _read_encoded(run: Run, method: Method, contrast: ContrastSet) -> Reading:
    """Activations at the autoencoder's own hook point, and the same rows in its atoms."""
    point = run.autoencoder[0].point
    reading = _read(run, (point,), {method.name: contrast}, [method.estimator])[method.name]
    with run.watch.stage(f"atoms, {method.name}", len(contrast.positive) + len(contrast.negative)) as progress:
        encoded = encode_rows(
            run.opened,
            contrast,
            run.autoencoder,
            read=_pooling(run),
            store=run.store,
            progress=progress,
        )
    return Reading(replace(reading.activations, encoded=encoded), {})


def _pooling(run: Run) -> str:
    return "mean" if run.read == "mean" else "last"


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
    names = ", ".join(vectors)
    plans = [c.cell.plan(vectors[c.method]) if c.cell.strength else () for c in grid]
    with run.watch.stage(f"grid, {names}", len(grid) * len(run.validation.items)) as progress:
        right = run.validation.correct_under(plans, run.store, progress)
    scores = dict(zip(grid, right.mean(1).tolist(), strict=True))
    return search(grid, scores.__getitem__, limits, run.experiment.ties)


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


def log_cells(run: Run, scored: Sequence[Scored]) -> tuple[SearchedCell, ...]:
    """The cells of a search as its log keeps them."""
    names, rows = tuple(run.experiment.constraints), []
    for one in scored:
        costs = dict(zip(names, one.costs or (), strict=False))
        method, cell, dose = one.candidate.method, one.candidate.cell, one.candidate.dose
        measured = (costs.get("kl"), costs.get("perplexity_ratio"))
        rows.append(SearchedCell(method, named(cell.points), cell.strength, dose, one.score, *measured, one.admissible))
    return tuple(rows)
