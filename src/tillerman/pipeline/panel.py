"""Validation prompts answered freely, and what reads the replies: how a search by replies judges a cell or a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tillerman.core.errors import FitError
from tillerman.core.plan import Plan
from tillerman.data.thoughts import Reply
from tillerman.data.writing import Writer
from tillerman.evaluation.exam import Exam
from tillerman.evaluation.scorers.labels import LabelScorer
from tillerman.pipeline.run import Run
from tillerman.pipeline.written import (
    KINDS,
    LOOPS,
    asked_by,
    prompts_of,
    repeated,
    replies_to,
    scorer_of_labels,
    values_of,
)
from tillerman.statistics.scores import Value


@dataclass(frozen=True, eq=False)
class Panel:
    """Validation prompts, and what reads the replies."""

    run: Run
    asked: Exam
    scorer: LabelScorer

    def means(self, plans: Sequence[Plan], count: int, name: str) -> list[float]:
        """Of each plan the mean worth of the replies to the first prompts (``value_of``)."""
        said = replies_to(self.run, _first(self.asked, count), plans, f"validation, {name}")
        return [float(np.mean(self._worth(one))) for one in said]

    def under(self, writer: Writer | None, count: int) -> list[float] | None:
        """What the unsteered model's replies are worth, prompt by prompt, where they are asked by another writer; None
        where a prompt then leaves no room for its reply."""
        asked = _first(self.asked, count)
        exam = asked if writer is None else asked_by(asked, writer)
        if exam is None:
            return None
        (said,) = exam.replies_under([()], self.run.store)
        return self._worth(said)

    def _worth(self, said: Sequence[Reply]) -> list[float]:
        pairs = zip(values_of(self.scorer, said), repeated(said), strict=True)
        return [value_of(score, again or 0.0) for score, again in pairs]


def _first(asked: Exam, count: int) -> Exam:
    return replace(asked, items=asked.items[:count], written=asked.written[:count])


def value_of(score: Value, again: float) -> float:
    """Of one reply, ``again`` of whose runs of words were there before: its score times the share that does not repeat
    itself. A loop counts 0, and so does a reply without a word: a wanted word said again and again is not the
    behaviour."""
    return 0.0 if score is None or again > LOOPS else score * (1 - again)


def panel_of(run: Run) -> Panel:
    """``FitError`` where the labels give no valid scorer of replies."""
    ask = "use `objective` scored"
    if run.kind not in KINDS:
        raise FitError(f"`objective` written: {run.kind} items have no wanted and unwanted texts to learn from; {ask}")
    scorer, found = scorer_of_labels(run, run.validation)
    asked = prompts_of(run, run.validation)
    if scorer is None or found.refused:
        raise FitError(f"`objective` written: the labels give no scorer of replies: {found.refused}; {ask}")
    if not asked.items:
        raise FitError(
            f"`objective` written: no validation prompt leaves room for a reply of {asked.limit} tokens; {ask}"
        )
    return Panel(run, asked, scorer)
