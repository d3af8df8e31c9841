"""Vectors of every method asked for, read in every way asked for, in one pass over the training rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from tillerman.core.errors import FitError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import ContrastSet, Row
from tillerman.core.steerings.vector import SteeringVector
from tillerman.methods.activations import Reading, read_contrasts
from tillerman.methods.base import Context, Fitted, Method
from tillerman.methods.contrast import ContrastMethod
from tillerman.pipeline.run import Run

ALIKE = 0.99  # cosine of two vectors whose cells are the same to the eye
AS = ", read as "  # between a method and how it was read, in the name of a vector


@dataclass(frozen=True, eq=False)
class Vectors:
    """What was fitted, by name: a method's spec, or that and how it was read where that is not the usual way."""

    fitted: dict[str, Fitted]
    skipped: tuple[str, ...]  # methods that gave no vector, with the reason
    readings: dict[str, tuple[str, str]]  # of those that are not read the usual way: name -> method, reading


@dataclass(frozen=True, eq=False)
class _Asked:
    """One vector to be fitted. ``usual``: read as the run reads."""

    method: Method
    run: Run
    context: Context
    usual: bool


def alike(fitted: Mapping[str, Fitted]) -> dict[str, str]:
    """Vectors that point where an earlier one does, with that one's name: at every hook point the cosine is above
    ``ALIKE``. Preference data give many of these: where the model gets nearly every item wrong, a method that learns
    from those reads what one reads that learns from all."""
    found: dict[str, str] = {}
    for name, one in fitted.items():
        for other in fitted:
            if other == name:
                break
            if other not in found and _alike(one, fitted[other]):
                found[name] = other
                break
    return found


def _alike(one: Fitted, other: Fitted) -> bool:
    mine, theirs = one.vector, other.vector
    if not (isinstance(mine, SteeringVector) and isinstance(theirs, SteeringVector)):
        return False
    if mine.atoms or theirs.atoms or mine.confidences or theirs.confidences:
        return False
    if (mine.points, mine.operator, one.habits) != (theirs.points, theirs.operator, other.habits):
        return False
    pairs = ((mine.directions[point], theirs.directions[point]) for point in mine.points)
    return all(float(torch.cosine_similarity(a, b, dim=0)) > ALIKE for a, b in pairs)


def fit_methods(run: Run) -> tuple[dict[str, Fitted], tuple[str, ...]]:
    """A vector per method, by its spec, read the usual way. A method that the data cannot feed (the model gets
    everything right, say) is left out with its reason; an error only if none is left."""
    found = fit_readings(run, run.readings[:1])
    return found.fitted, found.skipped


def fit_readings(run: Run, readings: Sequence[str]) -> Vectors:
    """As ``fit_methods``, and contrast methods once more for every further reading that finds other tokens."""
    wanted = {name: _Asked(m, here, _context(here, name, m), usual) for name, m, here, usual in _each(run, readings)}
    reasons: dict[str, FitError] = {}
    contrasts = _contrasts(wanted, reasons)
    needs_rows = any(m.needs_rows for m in (wanted[n].method for n in contrasts) if isinstance(m, ContrastMethod))
    sides = _read(run, run.points(), contrasts, needs_rows)
    fitted: dict[str, Fitted] = {}
    for name, asked in wanted.items():
        if name in reasons or (isinstance(asked.method, ContrastMethod) and name not in contrasts):
            continue
        try:
            fitted[name] = asked.method.fitted(replace(asked.context, sides=sides.get(name)))
        except FitError as error:
            reasons[name] = error
    if not fitted:
        raise next(reasons[name] for name in wanted if name in reasons)
    skipped = tuple(f"{name} left out: {reasons[name]}" for name in wanted if name in reasons and wanted[name].usual)
    others = {n: (str(wanted[n].method), wanted[n].run.read) for n in fitted if not wanted[n].usual}
    return Vectors(fitted, skipped, others)


def _each(run: Run, readings: Sequence[str]) -> Iterator[tuple[str, Method, Run, bool]]:
    """Name, method, the run that reads so, and whether that is the usual way: the usual ones first."""
    for read in readings:
        usual = read == readings[0]
        here = run if run.read == read else run.reading(read)
        for method in run.experiment.methods:
            if usual or isinstance(method, ContrastMethod):
                yield (str(method) if usual else f"{method}{AS}{read}"), method, here, usual


def _contrasts(wanted: Mapping[str, _Asked], reasons: dict[str, FitError]) -> dict[str, ContrastSet]:
    """What each contrast method wants read; those that cannot be fed are put into ``reasons``. A further reading that
    finds the tokens of an earlier one of its method is left out."""
    contrasts: dict[str, ContrastSet] = {}
    known: set[tuple[str, ContrastSet]] = set()
    for name, asked in wanted.items():
        if not isinstance(asked.method, ContrastMethod):
            continue
        try:
            rows = read_as(asked.method.pair(asked.context), asked.run.read)
        except FitError as error:
            reasons[name] = error
            continue
        if asked.usual or (str(asked.method), rows) not in known:
            contrasts[name] = rows
        known.add((str(asked.method), rows))
    return contrasts


def read_as(contrast: ContrastSet, read: str) -> ContrastSet:
    """Rows whose mean from ``read_from`` on is the reading: of one token, the last; of all; or as the pairing says."""
    if read == "mean":
        return contrast

    def moved(rows: tuple[Row, ...]) -> tuple[Row, ...]:
        return tuple(replace(row, read_from=0 if read == "whole" else len(row.tokens) - 1) for row in rows)

    return replace(contrast, positive=moved(contrast.positive), negative=moved(contrast.negative))


def _context(run: Run, name: str, method: Method) -> Context:
    e = run.experiment

    def read(contrast: ContrastSet, points: Sequence[HookPoint]) -> Reading:
        return _read(run, points, {name: read_as(contrast, run.read)}, needs_rows=True)[name]

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
        pooling="mean" if run.read in ("mean", "whole") else "last",
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
    names = dict.fromkeys(name.split(AS)[0] for name in contrasts)
    with run.watch.stage(f"activations, {', '.join(names)}", len(rows)) as progress:
        return read_contrasts(
            run.opened,
            contrasts,
            points,
            read_site=e.read_site or e.site,
            read="mean",
            keep_rows=needs_rows,
            shuffles=e.null_seeds,
            store=run.store,
            progress=progress,
        )
