"""Step ``curve``: every layer and strength on the test items, with what it costs. Nothing is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from tillerman.core.store import Store
from tillerman.evaluation.exam import Exam, null_condition
from tillerman.logs.reproduction import Measured, Piece
from tillerman.pipeline.run import Run
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.side_effects import make_meter, unrelated_exam
from tillerman.recipes.steps.cells import Swept, cells_of, fitted_vector
from tillerman.recipes.steps.work import Work, of_effect, of_interval, of_rate, of_value
from tillerman.statistics.estimates import effect, rate


def run_curve(work: Work, shared: Store) -> list[Piece]:
    """A piece per cell. The vector is of the training items; validation items play no part."""
    run = set_up(work.experiment, work.opened, work.data(), shared, work.watch, needed=("train", "test"))
    swept = cells_of(work, run, fitted_vector(run))
    parts = [_answered(run, run.test, swept, "test")]
    if work.step.drift and not work.arm.draws:
        parts += [_drifts(run, swept), *([_unrelated(run, swept)] if run.experiment.unrelated_items else [])]
    figures = [{name: f for one in of_cell for name, f in one.items()} for of_cell in zip(*parts, strict=True)]
    return [
        work.piece(found | {"dose": of_value(one.dose)}, layer=one.layer, strength=one.cell.strength)
        for one, found in zip(swept, figures, strict=True)
    ]


def _answered(run: Run, exam: Exam, swept: Sequence[Swept], name: str) -> list[dict[str, Measured]]:
    """Right answers and effect of each cell; of several draws the mean, with an interval over draws."""
    plans = [(), *(plan for one in swept for plan in one.plans)]
    with run.watch.stage(name, len(plans) * len(exam.items)) as progress:
        plain, *rows = exam.correct_under(plans, Store(None, ""), progress)
    ends = np.cumsum([0, *(len(one.plans) for one in swept)])
    found = []
    for start, end in pairwise(ends.tolist()):
        if end - start == 1:
            steered = rows[start]
            found.append(
                {"right": of_rate(rate(steered, exam.groups)), "effect": of_effect(effect(steered, plain, exam.groups))}
            )
        else:
            null = null_condition("null:random", np.array(rows[start:end]), plain, exam.groups, "")
            assert null.effect is not None  # a null is always compared
            found.append({"right": of_rate(null.rate), "effect": of_effect(null.effect)})
    unsteered = of_rate(rate(plain, exam.groups))
    return [{"unsteered": unsteered, **one} for one in found]


def _unrelated(run: Run, swept: Sequence[Swept]) -> list[dict[str, Measured]]:
    exam, _ = unrelated_exam(run)
    return [{"unrelated_effect": one["effect"]} for one in _answered(run, exam, swept, "unrelated task")]


def _drifts(run: Run, swept: Sequence[Swept]) -> list[dict[str, Measured]]:
    """Of several draws the first stands for all."""
    meter = make_meter(run)
    n = meter.text.tokens
    plans = [one.plans[0] for one in swept if one.cell.strength]
    with run.watch.stage("side effects, neutral text", len(plans) * meter.passes) as progress:
        measured = iter(meter.measure_all(plans, progress) if plans else [])
    none = {"perplexity_ratio": of_value(1.0, n), "kl": of_value(0.0, n)}
    found = []
    for one in swept:
        if one.cell.strength:
            drift = next(measured)
            ratio = of_interval(drift.perplexity_ratio, drift.perplexity_ratio_interval, n)
            found.append({"perplexity_ratio": ratio, "kl": of_value(drift.kl, n)})
        else:
            found.append(none)
    return found
