"""Step ``replies``: open questions, answered in the model's own words under every strength."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from tillerman.core.store import Store
from tillerman.data.thoughts import Reply
from tillerman.evaluation.exam import Exam
from tillerman.evaluation.thoughts import thinking
from tillerman.logs.reproduction import Measured, Piece
from tillerman.logs.thoughts import Thinking
from tillerman.pipeline.run import Run
from tillerman.pipeline.set_up import set_up
from tillerman.recipes.steps.cells import cells_of, fitted_vector
from tillerman.recipes.steps.work import Work, of_effect, of_mean, of_rate, of_value


def run_replies(work: Work, shared: Store) -> list[Piece]:
    """A piece per cell. Of several draws the replies are pooled, item by item."""
    needed = ("train",) if work.source.test else ("train", "test")
    run = set_up(work.experiment, work.opened, work.data(), shared, work.watch, needed=needed)
    exam = _asked(work, run)
    swept = cells_of(work, run, fitted_vector(run))
    plans = [(), *(plan for one in swept for plan in one.plans)]
    with run.watch.stage("replies", len(plans) * len(exam.items)) as progress:
        plain, *rest = exam.replies_under(plans, Store(None, ""), progress)
    said, references = iter(rest), _references(exam)
    pieces = []
    for one in swept:
        count = len(one.plans)
        replies = list(chain.from_iterable(next(said) for _ in range(count)))
        told = thinking(work.arm.name, replies, references * count, plain * count)
        figures = _figures(told, plain, references) | {"dose": of_value(one.dose)}
        pieces.append(work.piece(figures, layer=one.layer, strength=one.cell.strength))
    return pieces


def _asked(work: Work, run: Run) -> Exam:
    test = work.source.load_test(work.limit)
    if test is None:
        return run.test
    whole = replace(work.experiment, shares=(0.0, 0.0, 1.0))
    return set_up(whole, work.opened, test, Store(None, ""), work.watch, needed=("test",)).test


def _references(exam: Exam) -> list[str | None]:
    return [item.answers[item.right] if item.example.kind == "open" else None for item in exam.items]


def _figures(told: Thinking, plain: Sequence[Reply], references: Sequence[str | None]) -> dict[str, Measured]:
    base = thinking("unsteered", plain, references)
    found = {
        "thought": of_mean(told.length),
        "stripped": of_mean(told.stripped),
        "repetition": of_value(told.repetition),
        "unfinished": of_rate(told.unfinished),
    }
    if told.change is not None:
        found["thought_change"] = of_mean(told.change)
    if told.right is not None and told.effect is not None and base.right is not None:
        found |= {"right": of_rate(told.right), "effect": of_effect(told.effect), "unsteered": of_rate(base.right)}
    return found
