"""How an artefact moves the length of thoughts: unsteered, steered over a range of doses, prompted, and nulls."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tillerman.core.artefact import Artefact
from tillerman.core.errors import UsageError
from tillerman.core.hookpoint import named
from tillerman.core.plan import Plan
from tillerman.core.store import Store
from tillerman.data.loading import LoadedData, Source, as_loaded
from tillerman.data.thoughts import Reply, think_tags
from tillerman.evaluation.exam import Exam
from tillerman.evaluation.thoughts import ensure_thoughts, thinking
from tillerman.logs.thoughts import Thinking, ThoughtLog
from tillerman.models.opened import OpenModel
from tillerman.pipeline.experiment import Experiment
from tillerman.pipeline.prompt_search import found_by_fit
from tillerman.pipeline.run import Run, Unwatched, Watch
from tillerman.pipeline.set_up import set_up

# In multiples of the artefact's strength; reversed ones too: what shortens one way should lengthen the other.
THOUGHT_CURVE = (-1.0, -0.5, 0.25, 0.5, 0.75, 1.5, 2.0)


def evaluate_thoughts(
    artefact: Artefact,
    experiment: Experiment,
    opened: OpenModel,
    data: LoadedData | Source,
    *,
    watch: Watch | None = None,
) -> ThoughtLog:
    """The test share's replies under the artefact's plan, multiples of it, the prompt baseline alone and steered,
    and random directions. Items may be of any kind with a question; answers are judged where it is ``open``."""
    started, data = time.monotonic(), as_loaded(data)
    think_tags(opened.tokenizer)  # a model without thinking tags has no thoughts to measure
    cell, steering = artefact.cell, artefact.steering
    if cell.strength == 0:
        raise UsageError("the artefact's strength is 0: its search found nothing that helps; give `strength`")
    run = set_up(
        replace(experiment, scope=str(cell.scope)),
        opened,
        data,
        Store(None, ""),
        watch or Unwatched(),
        needed=("test",),
    )
    run = replace(run, found=None if experiment.behaviour else found_by_fit(artefact))
    if run.kind == "text":
        raise UsageError("thoughts belong to answers to questions; labelled texts have no questions")
    thinks = run.writer.thinking()  # a thought that the template opens stays open, whatever the items are
    run = replace(run, writer=thinks, test=Exam.of(opened, run.test.items, thinks, experiment.answer_tokens))
    conditions, curve = _Questions(run, artefact).conditions()
    return ThoughtLog(
        data_name=data.name,
        model_id=opened.id,
        method=steering.provenance.method,
        hook_point=named(cell.points),
        strength=cell.strength,
        dose=artefact.dose,
        scope=str(cell.scope),
        system=experiment.system,
        n=len(run.test.items),
        limit=experiment.answer_tokens,
        conditions=conditions,
        curve=curve,
        provenance=steering.provenance.to_json(),
        seconds=time.monotonic() - started,
    )


@dataclass(frozen=True, eq=False)
class _Questions:
    """The test items, to be answered under the artefact's plan and others."""

    run: Run
    artefact: Artefact

    @property
    def _references(self) -> list[str | None]:
        items = self.run.test.items
        return [i.answers[i.right] if i.example.kind == "open" else None for i in items]

    def conditions(self) -> tuple[tuple[Thinking, ...], tuple[Thinking, ...]]:
        """All conditions, and the curve over strengths. Plans that share a prompt run together."""
        cell, gate = self.artefact.cell, self.artefact.gate
        steering, strength = self.artefact.steering.at(cell.points), cell.strength
        drawn = [steering.random_like(seed) for seed in self.run.experiment.null_seeds]
        nulls = [cell.for_draw(one).plan(one, gate) for one in drawn]
        curve = [cell.scaled(factor) for factor in THOUGHT_CURVE]
        own = cell.plan(steering, gate)
        said = self._ask(self.run.test, [(), own, *(one.plan(steering, gate) for one in curve), *nulls], "test")
        plain, steered = said[0], said[1]
        ensure_thoughts(plain)
        middle = 2 + len(curve)
        pooled = [reply for replies in said[middle:] for reply in replies]
        rows = (
            self._row("unsteered", plain),
            self._row("steered", steered, plain, strength=strength),
            *self._prompted(own, plain),
            thinking(
                "null:random",
                pooled,
                self._references * len(nulls),
                plain * len(nulls),
                detail=f"{len(nulls)} draws pooled",
                strength=strength,
            ),
        )
        points = [
            (0.0, plain),
            (strength, steered),
            *((one.strength, r) for one, r in zip(curve, said[2:], strict=False)),
        ]
        points.sort(key=lambda point: point[0])
        return rows, tuple(self._row("steered", replies, plain, strength=s) for s, replies in points)

    def _prompted(self, own: Plan, plain: Sequence[Reply]) -> tuple[Thinking, ...]:
        """Under the prompt baseline, unsteered and steered; nothing where no prompt was given or found that helps."""
        run, system, writer = self.run, self.run.told, self.run.told_writer
        if writer is None:
            return ()
        told = Exam.of(run.opened, run.test.items, writer, run.experiment.answer_tokens)
        prompted, both = self._ask(told, [(), own], "test, prompt")
        strength = self.artefact.cell.strength
        return (
            self._row("prompt", prompted, plain, detail=system),
            self._row("both", both, plain, detail=system, strength=strength),
        )

    def _row(
        self,
        name: str,
        replies: Sequence[Reply],
        plain: Sequence[Reply] | None = None,
        *,
        detail: str = "",
        strength: float = 0.0,
    ) -> Thinking:
        return thinking(name, replies, self._references, plain, detail=detail, strength=strength)

    def _ask(self, exam: Exam, plans: Sequence[Plan], name: str) -> list[list[Reply]]:
        with self.run.watch.stage(f"replies, {name}", len(plans) * len(exam.items)) as progress:
            return exam.replies_under(plans, self.run.store, progress)
