"""The behaviour of an artefact as its own items measure it: what is written, or which answers are right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tillerman.core.plan import Plan
from tillerman.data.thoughts import Reply
from tillerman.data.writing import Writer
from tillerman.evaluation.exam import Exam
from tillerman.evaluation.scorers.labels import LabelScorer
from tillerman.logs.study import Trial
from tillerman.pipeline.written import asked_by, prompts_of, scorer_of_labels, values_of
from tillerman.statistics.scores import Value
from tillerman.studies.base import Lab, first
from tillerman.studies.trials import WRITTEN

_WRITING = ("preference", "text")


@dataclass(frozen=True, eq=False)
class Behaviour:
    """Test items, and what reads the replies to them: the labels' scorer. Without one their answers are scored, right
    or wrong."""

    exam: Exam
    scorer: LabelScorer | None

    def trials(self, lab: Lab, case: str, plans: Mapping[str, Plan]) -> Iterator[Trial]:
        """A trial per plan. A reply without a word has no score and is left out."""
        with lab.stage(case, len(plans) * len(self.exam.items)) as progress:
            if self.scorer is None:
                yield from lab.trials(case, self.exam, plans, progress=progress)
                return
            said = self.exam.replies_under(list(plans.values()), lab.store, progress)
        for condition, replies in zip(plans, said, strict=True):
            yield from measured(case, condition, self.ids, values_of(self.scorer, replies), WRITTEN)

    def asked_by(self, lab: Lab, writer: Writer) -> Behaviour | None:
        """The same items by another writer; None where one of them leaves no room for its reply."""
        if self.scorer is None:
            return replace(self, exam=lab.exam_of(self.exam.items, writer))
        exam = asked_by(self.exam, writer)
        return None if exam is None else replace(self, exam=exam)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(item.example.id for item in self.exam.items)

    def values(self, replies: Sequence[Reply]) -> list[Value]:
        """Of replies by the labels' scorer; ask only where there is one."""
        assert self.scorer is not None
        return values_of(self.scorer, replies)


def behaviour_of(lab: Lab, limit: int) -> Behaviour:
    """Ways of writing (preferences, labelled texts, and whatever was searched for by replies) are read in replies,
    where the labels give a scorer that is not refused; all else by right answers."""
    run = lab.run
    if run.kind in _WRITING or run.experiment.objective == "written":
        scorer, found = scorer_of_labels(run, run.test)
        asked = first(prompts_of(run, run.test), limit)
        if scorer is not None and not found.refused and len(asked.items) > 1:
            return Behaviour(asked, scorer)
    return Behaviour(first(run.test, limit), None)


def measured(case: str, condition: str, ids: Sequence[str], values: Sequence[Value], scorer: str) -> Iterator[Trial]:
    """One trial of the values that are there; none where nothing could be measured."""
    kept = [(name, value) for name, value in zip(ids, values, strict=True) if value is not None]
    if kept:
        names, found = zip(*kept, strict=True)
        yield Trial(case, condition, names, found, scorer=scorer)
