"""The search for the cell that changes most what the model writes: ``Experiment(objective="written")``.

Every cell is scored as usual, and a few validation prompts are answered under each. The best of these that keep the
budget then answer all validation prompts, and the best mean is taken. Where a contrast method would be read at the
answer's end it is also read as the mean over the answer's tokens: the two find different vectors, and only replies
tell which of them writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tillerman.core.errors import FitError
from tillerman.core.plan import Plan
from tillerman.data.thoughts import Reply
from tillerman.evaluation.exam import Exam
from tillerman.evaluation.scorers.labels import LabelScorer
from tillerman.evaluation.side_effects import DriftMeter
from tillerman.methods.base import Fitted
from tillerman.methods.contrast import ContrastMethod
from tillerman.pipeline.run import Run
from tillerman.pipeline.search import Choice, candidates, constraints, fit_methods, plans_of, right_shares
from tillerman.pipeline.written import KINDS, prompts_of, repeated, replies_to, scorer_of_labels, values_of
from tillerman.selection.choice import Candidate, Constraints, Scored

FEW = 4  # prompts that every cell answers
FINALISTS = 8  # cells that answer all prompts


def choose_written(run: Run, meter: DriftMeter) -> Choice:
    """``FitError`` where the labels give no valid scorer of replies."""
    panel = _panel(run)
    fitted, skipped = _both_readings(run)
    grid: list[Candidate] = []
    for i, (name, one) in enumerate(fitted.items()):
        grid += candidates(run, name, one.vector, one.method.habits, zero=run.experiment.zero and i == 0)
    vectors = {name: one.vector for name, one in fitted.items()}
    plans, shares = plans_of(grid, vectors), right_shares(run, grid, vectors)
    scored = [Scored(one, share) for one, share in zip(grid, shares, strict=True)]
    first = panel.values(plans, FEW, "every cell")
    scored, kept = finalists(scored, first, constraints(run, vectors, meter))
    if not kept:
        raise FitError(
            "`objective` written: no cell keeps the budget; keep strength 0 in the grid, or loosen the budget"
        )
    full = panel.values([plans[i] for i in kept], len(panel.asked.items), "the best cells")
    best = max(range(len(kept)), key=lambda k: (full[k], -abs(grid[kept[k]].dose)))
    chosen = scored[kept[best]]
    written = dict(enumerate(first)) | dict(zip(kept, full, strict=True))
    return Choice(
        fitted[chosen.candidate.method],
        chosen,
        tuple(scored),
        skipped,
        written=tuple(written[i] for i in range(len(grid))),
        readings={f"{name}, read as mean": (name, "mean") for name in fitted},
    )


@dataclass(frozen=True, eq=False)
class _Panel:
    """Validation prompts, and what reads the replies."""

    run: Run
    asked: Exam
    scorer: LabelScorer

    def values(self, plans: Sequence[Plan], count: int, name: str) -> list[float]:
        """Of each plan the mean over prompts of score times the share that does not repeat itself; a reply without
        a word counts 0: a loop of one wanted word is not the behaviour, and neither is silence."""
        asked = replace(self.asked, items=self.asked.items[:count], written=self.asked.written[:count])
        return [self._value(said) for said in replies_to(self.run, asked, plans, f"validation, {name}")]

    def _value(self, said: Sequence[Reply]) -> float:
        pairs = zip(values_of(self.scorer, said), repeated(said), strict=True)
        return float(np.mean([0.0 if score is None else score * (1 - (again or 0.0)) for score, again in pairs]))


def _panel(run: Run) -> _Panel:
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
    return _Panel(run, asked, scorer)


def _both_readings(run: Run) -> tuple[dict[str, Fitted], tuple[str, ...]]:
    """Vectors as usual and, where nothing else was asked for, those of contrast methods read as the mean too."""
    e = run.experiment
    fitted, skipped = fit_methods(run)
    contrasts = tuple(one.method for one in fitted.values() if isinstance(one.method, ContrastMethod))
    if e.read != "auto" or run.read == "mean" or not contrasts:
        return fitted, skipped
    more, _ = fit_methods(replace(run, experiment=replace(e, read="mean", method=contrasts)))
    return {**fitted, **{f"{name}, read as mean": one for name, one in more.items()}}, skipped


def finalists(
    scored: Sequence[Scored], first: Sequence[float], limits: Constraints | None
) -> tuple[list[Scored], list[int]]:
    """Strength 0 where it is a candidate, and the first ``FINALISTS`` that keep the budget, from the best down.
    Where a dose breaks it, larger ones at the same place are taken to break it too, and are not measured."""
    kept = [i for i, one in enumerate(scored) if one.candidate.cell.strength == 0]
    order = [i for i in range(len(scored)) if i not in kept]
    order.sort(key=lambda i: (-first[i], abs(scored[i].candidate.dose)))
    broken: dict[tuple[object, ...], float] = {}
    marked, most = list(scored), len(kept) + FINALISTS
    for i in order:
        one = scored[i].candidate
        place = (one.method, one.cell.points, one.dose > 0)
        if len(kept) == most:
            break
        if abs(one.dose) >= broken.get(place, float("inf")):
            marked[i] = replace(scored[i], admissible=False)
            continue
        marked[i] = scored[i] if limits is None else limits.admit(scored[i])
        if marked[i].admissible:
            kept.append(i)
        else:
            broken[place] = abs(one.dose)
    return marked, kept
