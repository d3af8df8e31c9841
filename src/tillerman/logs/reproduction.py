"""The typed log of a reproduction: what was run, every figure of it, and the verdict on each claim.

Plain values only, written to JSON and read back without a model. Shares are in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from tillerman.core.decoding import take
from tillerman.core.errors import UsageError
from tillerman.logs.base import Log, build
from tillerman.logs.tidy import Tables, record, spread
from tillerman.statistics.values import Interval

_PLACES = 6  # of a figure in the file


@dataclass(frozen=True)
class Measured:
    """A value with its 95 % interval over n items (or draws); the value itself where none is measured."""

    value: float
    low: float
    high: float
    n: int

    @property
    def half(self) -> float:
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Piece:
    """What one arm gave on one task with one seed, at one layer and strength where these were not chosen.
    ``cell``: where it steered, and how hard. ``reason``: why there are no figures."""

    step: str
    task: str
    arm: str
    seed: int
    figures: Mapping[str, Measured]
    layer: int | None = None
    strength: float | None = None
    cell: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Ran:
    """How a step was run: on which model, with at most how many items of each task."""

    step: str
    model_id: str
    model_fingerprint: str
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    limit: int


@dataclass(frozen=True)
class Skipped:
    """A task or step that did not run, and why."""

    what: str
    reason: str


@dataclass(frozen=True)
class ClaimVerdict:
    """``holds``, ``does not hold``, ``undecided`` or ``cannot be tested here``; with the interval that says so."""

    claim: str
    step: str
    outcome: str
    why: str
    metric: str = ""
    value: float | None = None
    interval: Interval | None = None
    n: int = 0
    unit: str = ""


@dataclass(frozen=True, repr=False)
class ReproductionLog(Log):
    """Everything one ``reproduce`` measured."""

    kind: ClassVar[str] = "reproduction"
    maker: ClassVar[str] = "tillerman reproduce"

    recipe: str
    recipe_digest: str
    limit: int
    ran: tuple[Ran, ...]
    pieces: tuple[Piece, ...]
    left_out: tuple[Skipped, ...]
    notes: tuple[str, ...]
    verdicts: tuple[ClaimVerdict, ...]
    versions: dict[str, str]
    date: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "pieces": [piece_to_json(piece) for piece in self.pieces]}

    def tidy(self) -> Tables:
        about = {"recipe": self.recipe}
        return {
            "figures": (
                record(piece, about, ("figures", "reason")) | {"figure": name, **spread("value", figure)}
                for piece in self.pieces
                for name, figure in piece.figures.items()
            ),
            "verdicts": (
                record(one, about, ("interval",)) | spread("value", one.interval or Interval()) for one in self.verdicts
            ),
            "left_out": (
                *(
                    {**about, "what": f"{one.step} {one.task} {one.arm}", "reason": one.reason}
                    for one in self.pieces
                    if one.reason
                ),
                *(record(one, about) for one in self.left_out),
            ),
        }

    @classmethod
    def _decoded(cls, values: Mapping[str, Any]) -> ReproductionLog:
        pieces = tuple(piece_from_json(piece) for piece in take(values, "pieces", tuple[Any, ...]))
        return replace(build(cls, {**values, "pieces": ()}), pieces=pieces)


def merged(logs: Sequence[ReproductionLog]) -> ReproductionLog:
    """Several runs of one recipe (other tasks, steps, seeds or numbers of items) as one log; of a piece that several
    have, the first one's. Verdicts are those of the first: weigh them again.

    ``UsageError`` for logs of several recipes, or of several models for one step."""
    first = logs[0]
    if {log.recipe for log in logs} != {first.recipe}:
        raise UsageError(f"logs of several recipes: {', '.join(sorted({log.recipe for log in logs}))}")
    ran = tuple(dict.fromkeys(one for log in logs for one in log.ran))
    models = {(one.step, one.model_fingerprint) for one in ran}
    if len(models) > len({step for step, _ in models}):
        raise UsageError("a step was run on several models; a log is of one model per step")
    pieces: dict[tuple[object, ...], Piece] = {}
    for piece in (piece for log in logs for piece in log.pieces):
        pieces.setdefault((piece.step, piece.task, piece.arm, piece.seed, piece.layer, piece.strength), piece)
    done = {name for one in ran for name in (one.step, *one.tasks)}
    left_out = dict.fromkeys(one for log in logs for one in log.left_out if one.what not in done)
    notes = dict.fromkeys(note for log in logs for note in log.notes)
    return replace(
        first,
        ran=ran,
        pieces=tuple(pieces.values()),
        left_out=tuple(left_out),
        notes=tuple(notes),
        limit=max(log.limit for log in logs),
        seconds=sum(log.seconds for log in logs),
    )


def piece_to_json(piece: Piece) -> dict[str, Any]:
    """Figures as ``name: [value, low, high, n]``: there are thousands. Ends that are not known are null."""
    figures = {
        name: [round(f.value, _PLACES), *(_end(x) for x in (f.low, f.high)), f.n] for name, f in piece.figures.items()
    }
    return {**asdict(piece), "figures": figures}


def piece_from_json(values: Mapping[str, Any]) -> Piece:
    figures = take(values, "figures", Mapping[str, tuple[float, float | None, float | None, int]])
    return replace(
        build(Piece, {**values, "figures": {}}),
        figures={
            name: Measured(value, -math.inf if low is None else low, math.inf if high is None else high, n)
            for name, (value, low, high, n) in figures.items()
        },
    )


def _end(x: float) -> float | None:
    return round(x, _PLACES) if math.isfinite(x) else None
