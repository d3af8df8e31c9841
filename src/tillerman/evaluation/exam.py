"""Run the test items under every condition that a claim has to be compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tillerman.core.errors import UsageError
from tillerman.core.plan import Plan
from tillerman.core.rows import Progress, silent
from tillerman.core.store import Store
from tillerman.data.presenting import Item
from tillerman.data.thoughts import Reply, is_right
from tillerman.data.writing import Writer, Written
from tillerman.evaluation.answered import Answered
from tillerman.evaluation.grid import answers_under, scores_under
from tillerman.evaluation.replies import replies_under
from tillerman.evaluation.scoring import answers_given, correct
from tillerman.logs.evaluation import Condition
from tillerman.models.opened import OpenModel
from tillerman.models.prompt_cache import PromptCache
from tillerman.statistics.estimates import balanced, bootstrap_mean, effect, mean_effect, rate, t_interval
from tillerman.statistics.values import Effect, Interval, Rate
from tillerman.steering.steer import steer


@dataclass(frozen=True, eq=False)
class Exam:
    """Items to be answered, as written for the model, and the letters (or words) that are right.

    Open questions are answered in the model's own words, of at most ``limit`` tokens. ``kept`` is of items that are
    asked again and again."""

    opened: OpenModel
    items: tuple[Item, ...]
    written: tuple[Written, ...]
    limit: int = 256
    kept: PromptCache | None = None

    @classmethod
    def of(cls, opened: OpenModel, items: Sequence[Item], writer: Writer, limit: int = 256) -> Exam:
        return cls(opened, tuple(items), tuple(writer.write(item) for item in items), limit)

    @property
    def is_open(self) -> bool:
        return any(item.example.kind == "open" for item in self.items)

    @property
    def questions(self) -> list[str]:
        """Each prompt as the model sees it, special tokens included."""
        decode = self.opened.tokenizer.decode
        return [str(decode(list(written.prompt), skip_special_tokens=False)) for written in self.written]

    @property
    def groups(self) -> list[str]:
        """The right answer of each item as it is said; free texts are all of one group."""
        fixed = ("choice", "yes_no")
        return [i.answers[i.right] if i.example.kind in fixed else str(i.right) for i in self.items]

    def given(self, plan: Plan = (), progress: Progress = silent) -> NDArray[np.int64]:
        """The answer to each item; of an open question 0 where the reference is met, else -1."""
        if self.is_open:
            return np.where(self.correct_under([plan], Store(None, ""), progress)[0], 0, -1)
        if not plan:
            return answers_given(self.opened, self.written, progress, unsteered=True)
        with steer(self.opened.model, plan):
            return answers_given(self.opened, self.written, progress)

    def correct(self, plan: Plan = (), progress: Progress = silent) -> NDArray[np.bool_]:
        """Whether each item is answered right."""
        return correct(self.given(plan, progress), self.written)

    def correct_under(self, plans: Sequence[Plan], store: Store, progress: Progress = silent) -> NDArray[np.bool_]:
        """``correct`` for each of many plans, ``[plans, items]``; finished pieces are in ``store``."""
        if self.is_open:
            replies = self.replies_under(plans, store, progress)
            references = [item.answers[item.right] for item in self.items]
            return np.array([[*map(is_right, said, references)] for said in replies], dtype=bool)
        given = answers_under(self.opened, self.written, plans, store=store, kept=self.kept, progress=progress)
        return correct(given, self.written)

    def scores_under(self, plans: Sequence[Plan], store: Store, progress: Progress = silent) -> list[list[list[float]]]:
        """The scores of each item's options, ``[plans][items][options]``, for the scorers of answers:
        log-probabilities up to a constant of the item. Open questions have no options."""
        if self.is_open:
            raise UsageError("open questions have no options to score; score their replies, or whether they are right")
        return scores_under(self.opened, self.written, plans, store=store, kept=self.kept, progress=progress)

    def answered_under(self, plans: Sequence[Plan], store: Store, progress: Progress = silent) -> list[Answered]:
        """``correct_under`` with what was given and by which scores, from the same passes ``[plans]``."""
        if self.is_open:
            return [Answered.written(self.items, said) for said in self.replies_under(plans, store, progress)]
        scores = self.scores_under(plans, store, progress)
        return [Answered.chosen(self.items, of_plan) for of_plan in scores]

    def replies_under(self, plans: Sequence[Plan], store: Store, progress: Progress = silent) -> list[list[Reply]]:
        """What the model writes, ``[plans][items]``."""
        return replies_under(self.opened, self.written, plans, self.limit, store=store, progress=progress)


def condition(
    name: str, right: NDArray[np.bool_], unsteered: NDArray[np.bool_] | None, groups: Sequence[str], detail: str = ""
) -> Condition:
    """A condition's rate, and its effect against the unsteered answers to the same items."""
    compared = None if unsteered is None else effect(right, unsteered, groups)
    return Condition(name, rate(right, groups), compared, detail)


def null_condition(
    name: str, right: NDArray[np.bool_], unsteered: NDArray[np.bool_], groups: Sequence[str], detail: str
) -> Condition:
    """A null from several draws ``right [draws, n]``: the mean effect with a t-interval over draws.

    One random direction may tip a model by luck; what must be zero is the mean over directions.
    """
    base = float(unsteered.mean())
    mean, interval, above = t_interval([float(r.mean()) - base for r in right])
    level = float(np.mean([balanced(r, groups) for r in right]))
    share = Interval(max(0.0, base + interval.low), min(1.0, base + interval.high))
    gain = level - balanced(unsteered, groups)
    p_value = 1.0 if mean == 0 else min(1.0, 2 * min(above, 1 - above))
    n = right.shape[1]
    return Condition(name, Rate(base + mean, share, n, level), Effect(mean, interval, p_value, n, gain), detail)


def averaged_condition(name: str, right: NDArray[np.float64], base: NDArray[np.float64], detail: str) -> Condition:
    """A condition in which every item was asked several times ``[n]``: shares of right answers, and of the
    unsteered ones. Bootstrap intervals over items; p by flips of signs."""
    mean, gain = float(right.mean()), mean_effect(right, base)
    change = Effect(gain.value, gain.interval, gain.p_value, gain.n, gain.value)
    return Condition(name, Rate(mean, bootstrap_mean(right), gain.n, mean), change, detail)


def constant_condition(exam: Exam, usual: str, plain: NDArray[np.bool_]) -> Condition:
    """Saying the same to every question, whatever it is."""
    said = np.array([group == usual for group in exam.groups])
    return condition("constant", said, plain, exam.groups, f"always {usual!r}, the commonest answer in training")


def fitting_shots(
    exam: Exam, writer: Writer, pool: Sequence[Item], most: int, longest: int | None
) -> tuple[Writer, int] | None:
    """A writer with as many of the pool's items as exemplars as fit the model's context; None if none fits.

    Exemplars are items the model answered wrong, as in PAS section 4.3; the caller picks the pool.
    """
    lengths = [len(w.prompt) + max(len(answer) for answer in w.answers) for w in exam.written]
    worst = exam.items[int(np.argmax(lengths))]  # the exemplars add the same to every item
    for count in range(min(most, len(pool)), 0, -1):
        shot = writer.with_shots(pool[:count])
        if longest is None or len(shot.write(worst).row(worst.right).tokens) <= longest:
            return shot, count
    return None
