"""The test share, looked at once: all conditions, side effects, the dose curve, example texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tillerman.core.artefact import Artefact
from tillerman.core.cell import Cell
from tillerman.core.gates import Gate
from tillerman.core.hookpoint import named
from tillerman.core.plan import Plan
from tillerman.core.steerings.base import Steering
from tillerman.data.presenting import shown_orders, turned
from tillerman.data.writing import Writer
from tillerman.evaluation.answered import Answered
from tillerman.evaluation.exam import (
    Exam,
    averaged_condition,
    condition,
    constant_condition,
    fitting_shots,
    null_condition,
)
from tillerman.logs.evaluation import Condition
from tillerman.models.finetuning import LoraOptions
from tillerman.pipeline.gates import opens
from tillerman.pipeline.run import Run
from tillerman.reports.numbers import compact, decimal, points
from tillerman.statistics.estimates import effect

# Strengths of the dose curve, in multiples of the chosen one.
CURVE = (-1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


@dataclass(frozen=True, eq=False)
class Null:
    """Draws to be tested at one cell, and the cell one of them would have chosen on the grid; or ``unsearched``, why
    it was not asked."""

    name: str
    draws: tuple[Steering, ...]
    cell: Cell
    best: Cell | None = None
    unsearched: str = ""

    @property
    def plan_of_best(self) -> list[Plan]:
        return [] if self.best is None else [self.best.plan(self.draws[0])]


def ungated(chosen: Artefact, factor: float = 1.0) -> Plan:
    """A multiple of the chosen strength, without the gate: a row whose gate is shut is the unsteered one
    (``through``). Empty at strength 0: the unsteered model itself."""
    cell = chosen.cell.scaled(factor)
    return cell.plan(chosen.steering) if cell.strength else ()


def gated(chosen: Artefact, factor: float = 1.0) -> Plan:
    """As ``ungated``, with the gate, which then decides by itself."""
    return tuple(replace(item, gate=chosen.gate) for item in ungated(chosen, factor))


def through(gate: Gate | None, exam: Exam, steered: Answered, plain: Answered) -> Answered:
    """What is answered under the gate: as steered where it opens for the exam's prompt, else as unsteered."""
    return steered if gate is None else steered.where(opens(exam.opened, gate, exam), plain)


@dataclass(frozen=True, eq=False)
class Answers:
    """What is answered to the test items under multiples of the chosen strength (0 is unsteered, 1 as chosen), and
    whether it is right under each null's draws ``[draws, n]``, the one at its own best cell last.
    All through the gate, but for ``ungated``: as chosen, without it."""

    at: Mapping[float, Answered]
    nulls: tuple[NDArray[np.bool_], ...]
    ungated: Answered

    @property
    def unsteered(self) -> NDArray[np.bool_]:
        return self.at[0.0].right

    @property
    def steered(self) -> NDArray[np.bool_]:
        return self.at[1.0].right


def ask(run: Run, chosen: Artefact, nulls: tuple[Null, ...]) -> Answers:
    """The test items under every plan at once: they share the prompts. Factors of the strength other than
    1 are for the dose curve, never used to choose."""
    groups = [[ungated(chosen, factor) for factor in CURVE]]
    groups += [[*(null.cell.plan(draw) for draw in null.draws), *null.plan_of_best] for null in nulls]
    flat = [plan for group in groups for plan in group]
    with run.watch.stage("test, steered and nulls", len(flat) * len(run.test.items)) as progress:
        free = run.test.answered_under(flat, run.store, progress)
    plain = free[CURVE.index(0.0)]
    mask = None if chosen.gate is None else opens(run.opened, chosen.gate, run.test)
    shown = free if mask is None else [one.where(mask, plain) for one in free]
    curve = dict(zip(CURVE, shown[: len(CURVE)], strict=True))
    if not chosen.cell.strength:  # the same answers, not the same up to the rounding of another batch
        curve = dict.fromkeys(CURVE, plain)
    right = np.array([one.right for one in shown[len(CURVE) :]]).reshape(-1, len(run.test.items))
    rest = np.split(right, np.cumsum([len(group) for group in groups[1:]])[:-1]) if nulls else []
    return Answers(curve, tuple(rest), free[CURVE.index(1.0)])


def ask_searched(run: Run, chosen: Artefact, answers: Answers, nulls: Sequence[Null]) -> Answers:
    """With those at the nulls' own best cells, which were searched after the rest was asked."""
    plans = [plan for null in nulls for plan in null.plan_of_best]
    with run.watch.stage("test, nulls at their best", len(plans) * len(run.test.items)) as progress:
        free = run.test.answered_under(plans, run.store, progress)
    found = [through(chosen.gate, run.test, one, answers.at[0.0]).right for one in free]
    more = [np.vstack([draws, last]) for draws, last in zip(answers.nulls, found, strict=True)]
    return replace(answers, nulls=tuple(more))


def run_conditions(
    run: Run, chosen: Artefact, answers: Answers, nulls: tuple[Null, ...], baselines: tuple[Baseline, ...]
) -> tuple[Condition, ...]:
    """Unsteered, steered, prompt baseline, prompt and steered, few-shot baseline and nulls, on the same items."""
    groups, plain, steered = run.test.groups, answers.unsteered, answers.steered
    rows = [
        condition("unsteered", plain, None, groups, run.base),
        condition("steered", steered, plain, groups, run.base),
    ]
    if chosen.gate is not None:
        rows.append(condition("ungated", answers.ungated.right, plain, groups, f"as steered, without {chosen.gate}"))
    if chosen.cell.strength and not run.experiment.fast and shown_orders(run.test.items) is not None:
        rows.append(_all_orders(run, chosen, answers))
    if run.kind in ("choice", "yes_no"):
        usual = Counter(run.train.groups or run.test.groups).most_common(1)[0][0]
        rows.append(constant_condition(run.test, usual, plain))
    rows += [_baseline(one, plain, steered, groups) for one in baselines]
    if run.experiment.lora:
        rows.append(_lora(run, plain))
    for null, right in zip(nulls, answers.nulls, strict=True):
        rows.append(_null(null, right, plain, steered, groups))
    return tuple(rows)


def _baseline(one: Baseline, plain: NDArray[np.bool_], steered: NDArray[np.bool_], groups: Sequence[str]) -> Condition:
    right = one.answered.right
    return replace(condition(one.name, right, plain, groups, one.detail), lead=effect(steered, right, groups))


def _null(
    null: Null,
    right: NDArray[np.bool_],
    plain: NDArray[np.bool_],
    steered: NDArray[np.bool_],
    groups: Sequence[str],
) -> Condition:
    count, cell, best = len(null.draws), null.cell, null.best
    strong = int((right[:count].mean(1) >= steered.mean()).sum())
    detail = f"{count} draws at {named(cell.points)}, strength {compact(cell.strength)}; {strong} as good as steered"
    if best is not None:
        where = f"{named(best.points)}, dose {decimal(best.dose(null.draws[0]))}"
        gain = points(float(right[count].mean() - plain.mean()))
        detail += f"; one draw at the best of the same grid ({where}): {gain}"
    elif null.unsearched:
        detail += f"; {null.unsearched}"
    return null_condition(null.name, right[:count], plain, groups, detail)


def _all_orders(run: Run, chosen: Artefact, answers: Answers) -> Condition:
    """Steered over every rotation of each item's options. A letter that the vector prefers is right in one of
    them and wrong in the others, so it gains nothing here: what is left is not about letters."""
    exam = run.test
    others = Exam.of(run.opened, turned(exam.items), run.writer, exam.limit)
    with run.watch.stage("test, other option orders", 2 * len(others.items)) as progress:
        before, after = others.answered_under([(), ungated(chosen)], run.store, progress)
    counts = np.array([len(item.answers) for item in exam.items])
    starts = np.cumsum(counts - 1) - (counts - 1)

    def share(first: NDArray[np.bool_], rest: NDArray[np.bool_]) -> NDArray[np.float64]:
        shares: NDArray[np.float64] = (first + np.add.reduceat(rest.astype(float), starts)) / counts
        return shares

    right = share(answers.steered, through(chosen.gate, others, after, before).right)
    detail = "each item in every rotation of its options; a preference for a letter gains nothing here"
    return averaged_condition("turned", right, share(answers.unsteered, before.right), detail)


@dataclass(frozen=True, eq=False)
class Baseline:
    """What the test items are answered with where the model is asked otherwise, or steered as well."""

    name: str
    answered: Answered
    detail: str


def ask_baselines(run: Run, chosen: Artefact) -> tuple[Baseline, ...]:
    """Where a prompt was given or found that helps, the prompt baseline and the same steered; where an exemplar fits,
    the few-shot baseline. A text has no question that either could precede."""
    e = run.experiment
    if run.kind == "text" or e.fast:
        return ()

    def answered(name: str, exam: Exam, plans: Sequence[Plan]) -> list[Answered]:
        with run.watch.stage(f"test, {name}", len(plans) * len(exam.items)) as progress:
            return exam.answered_under(plans, run.store, progress)

    def asked(writer: Writer) -> Exam:
        return Exam.of(run.opened, run.test.items, writer, e.answer_tokens)

    base, found = f"; {run.base}" if run.base else "", []
    if run.told_writer is not None:
        told = asked(run.told_writer)
        prompted, *steered = answered("prompt", told, [(), *([ungated(chosen)] if chosen.cell.strength else [])])
        found.append(Baseline("prompt", prompted, run.told + base))
        for one in steered:
            both = through(chosen.gate, told, one, prompted)
            found.append(Baseline("both", both, f"the prompt, and steered{base}"))
    shots = fitting_shots(run.test, run.bare_writer, run.wrong(e.shots), e.shots, run.opened.context)
    if shots is not None:
        instead = ", instead of the others" if base else ""
        detail = f"{shots[1]} exemplars from training items answered wrong{instead}"
        found.append(Baseline("icl", answered("icl", asked(shots[0]), [()])[0], detail))
    return tuple(found)


def _lora(run: Run, plain: NDArray[np.bool_]) -> Condition:
    """The unsteered model after fine-tuning on the items that the vector is made of."""
    exam = run.test

    def answered() -> list[bool]:
        tuned = replace(exam, opened=run.tuned)
        with run.watch.stage("test, lora", len(exam.items)) as progress:
            right: list[bool] = tuned.correct((), progress).tolist()
        return right

    taught = (run.train.written, LoraOptions(), run.experiment.seed)
    right = run.store.scoped(run.opened.identity, taught, exam.written, exam.limit).value("fine-tuned", answered)
    detail = f"fine-tuned on the {len(run.train.items)} training items, unsteered"
    return condition("lora", np.array(right), plain, exam.groups, detail)
