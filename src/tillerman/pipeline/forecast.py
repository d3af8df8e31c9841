"""How long a fit will take, measured on its first batch before it starts; and how many cells fit into a budget.

Seconds are the clock's. They are counts times the measured time of a token, a cell and a written token: a guide, not a
promise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from tillerman.core.cell import Cell
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Plan
from tillerman.core.steerings.vector import SteeringVector
from tillerman.core.store import Store
from tillerman.data.loading import LoadedData
from tillerman.evaluation.exam import Exam
from tillerman.evaluation.side_effects import WINDOW
from tillerman.methods.contrast import ContrastMethod
from tillerman.models.opened import OpenModel
from tillerman.pipeline.dose_finding import SHARES
from tillerman.pipeline.experiment import Experiment
from tillerman.pipeline.held_out import CURVE
from tillerman.pipeline.run import Run, Unwatched
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.side_effects import unrelated_exam
from tillerman.pipeline.written import KINDS
from tillerman.selection.choice import Candidate
from tillerman.selection.refine import REFINED, coarse_to_fine
from tillerman.steering.generation import Sampling, continuation

FEW = 4  # items of the first batch
LOOKS = 6  # at a place, to find its doses: two at one window of neutral text, one at four, about
ROUNDS = 5  # of a search from coarse to fine, about
_CELLS = 4  # more cells at once, for the time of one
_STEPS = 8  # tokens written
_PROMPT = 40  # tokens of a prompt that is tried, about


@dataclass(frozen=True)
class Pace:
    """Seconds: of a prompt's token through all blocks, of an item under one more cell, of a written token."""

    token: float
    cell: float
    written: float


def forecast(experiment: Experiment, opened: OpenModel, data: LoadedData, pace: Pace | None = None) -> dict[str, float]:
    """Seconds of each part of a fit, longest first, at a pace that is measured where none is given. Nothing of it is
    kept."""
    bare = replace(experiment, base_lora=False, base_shots=0, calibrate=False, calibration=None)
    run = set_up(bare, opened, data, Store(None, ""), Unwatched())
    pace = pace or pace_of(run)
    parts = {
        "search": _search(run, pace),
        "vectors": pace.token * len(run.readings) * sum(_tokens(run.train, answers=2)),
        "doses": _dose_finding(run, pace),
        "side effects": _side_effects(run, pace),
        "test": _test(run, pace),
        "written replies": _written(run, pace),
    }
    return dict(sorted(parts.items(), key=lambda pair: -pair[1]))


def pace_of(run: Run) -> Pace:
    """Of the first batch of validation items, under vectors of no meaning in the middle of the model."""
    exam = run.validation if run.validation.items else run.test
    some = replace(exam, items=exam.items[:FEW], written=exam.written[:FEW])
    count = len(some.items)

    def answer(plans: Sequence[Plan]) -> None:
        some.correct_under(plans, Store(None, ""))

    if exam.is_open:
        step = _seconds(lambda: some.replies_under([()], Store(None, ""))) / max(1, count * exam.limit)
        return Pace(step, step * exam.limit, step)
    plans = [_plan(run, 0.01 * k) for k in range(1, _CELLS + 2)]
    answer(plans[:1])  # what only the first pass pays
    one, many = _seconds(lambda: answer(plans[:1])), _seconds(lambda: answer(plans))
    plain = _seconds(lambda: answer([()]))
    sampling = Sampling(_STEPS, min_new_tokens=_STEPS)
    said = _seconds(lambda: continuation(run.opened, some.written[0].prompt, (), sampling))
    cell = max(0.0, many - one) / _CELLS / count
    return Pace(plain / sum(_tokens(some, answers=1)), cell, said / _STEPS)


def cells_within(run: Run, seconds: float, lanes: int) -> int:
    """How many cells of a search over ``lanes`` vectors may be looked at, where two nulls, of one vector each, are
    looked at as closely; at least two a vector. Kept in the store: a run that goes on has the same budget."""
    items = len(run.validation.items)

    def counted() -> int:
        pace = pace_of(run)
        stems = ROUNDS * pace.token * sum(len(w.prompt) for w in run.validation.written)
        a_cell = max(pace.cell, 1e-6) * items
        if run.experiment.objective == "written":
            a_cell += FEW * pace.written * run.experiment.written_tokens
        return max(2 * lanes + 1, int(max(0.0, seconds - stems) / a_cell * lanes / (lanes + 2)))

    here = run.store.scoped(run.opened.identity, seconds, lanes, run.validation.written)
    return int(here.value("cells within the budget", counted))


def _search(run: Run, pace: Pace) -> float:
    e = run.experiment
    lanes = _lanes(run)
    cells = _cells(run, 1 + lanes if not e.fast else lanes) if e.grid == "coarse" else _whole(run, lanes + 2)
    prompts = sum(len(w.prompt) for w in run.validation.written)
    found = cells * len(run.validation.items) * pace.cell + ROUNDS * prompts * pace.token
    return found if e.budget is None else min(found, e.budget)


def _dose_finding(run: Run, pace: Pace) -> float:
    """Looks at every place, each at a window of neutral text from there on."""
    if not run.experiment.doses_by_cost:
        return 0.0
    return pace.token * _lanes(run) * len(run.points()) * LOOKS * WINDOW / 2


def _lanes(run: Run) -> int:
    """Vectors that a search looks at: one of each reading of a contrast method."""
    return sum(len(run.readings) if isinstance(one, ContrastMethod) else 1 for one in run.experiment.methods)


def _doses(run: Run) -> tuple[float, ...]:
    e = run.experiment
    return SHARES if e.doses_by_cost else e.strengths or e.doses or e.usual_doses


def _whole(run: Run, lanes: int) -> int:
    return lanes * len(run.points()) * len(_doses(run))


def _cells(run: Run, lanes: int) -> int:
    """Those of the first pass, and about as many as are looked at after it: in the search and in both nulls'."""
    grid = [Candidate("", Cell((point,), dose), dose) for point in run.points() for dose in _doses(run) if dose]
    first = len(next(coarse_to_fine(grid, "first", dear=run.cells_are_dear))) if grid else 1
    return lanes * first + 3 * min(REFINED, len(grid))


def _side_effects(run: Run, pace: Pace) -> float:
    """Neutral text of the chosen cell and its curve, steered and unsteered, and the unrelated task."""
    e = run.experiment
    curve = 0 if e.fast else len(CURVE) * e.neutral_tokens // 4 // 2
    task, _ = unrelated_exam(run)
    return pace.token * (2 * e.neutral_tokens + curve + sum(_tokens(task, answers=1)))


def _test(run: Run, pace: Pace) -> float:
    """The test items under the curve, nulls and baselines, and the search for a prompt."""
    e, here = run.experiment, sum(_tokens(run.test, answers=2))
    plans = len(CURVE) + (0 if e.fast else 2 * e.null_draws)
    steered = pace.token * here + plans * len(run.test.items) * pace.cell
    if e.fast or run.kind == "text":
        return steered
    shots = e.shots * here // max(1, len(run.test.items)) * (1 if len(run.test.items) < 2 else 2)
    tried = 0 if e.prompt else 9 * (sum(_tokens(run.validation, answers=2)) + _PROMPT * len(run.validation.items))
    texts = 2 * e.generation_tokens * pace.written if e.generations else 0.0  # in one batch
    return steered + pace.token * (3 * here + shots + tried) + texts


def _written(run: Run, pace: Pace) -> float:
    """A batch of replies per condition; the batch's step takes little longer than one prompt's."""
    e = run.experiment
    if run.kind not in KINDS or not e.written_prompts:
        return 0.0
    conditions = 2 + (7 if run.kind != "text" else 4)
    return conditions * e.written_tokens * pace.written * 2


def _tokens(exam: Exam, *, answers: int) -> list[int]:
    """Of each item, with so many of its answers."""
    return [len(w.prompt) + sum(len(answer) for answer in w.answers[:answers]) for w in exam.written]


def _plan(run: Run, dose: float) -> Plan:
    point = run.points()[len(run.points()) // 2] if run.points() else HookPoint(0)
    width = run.opened.parts.width_at(point)
    vector = SteeringVector(
        {point: torch.ones(width)}, {point: 1.0}, run.opened.provenance("none", name="none", site=point.site)
    )
    return Cell((point,), dose, "add", run.scope(str(run.experiment.methods[0]))).plan(vector)


def _seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began
