"""Which answer a model gives to each item under each of many plans, and by which scores: the inner loop of every
search."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tillerman.core.errors import NotAppliedError
from tillerman.core.facts import digest_of
from tillerman.core.plan import Intervention, Plan, Scope
from tillerman.core.rows import Progress, silent
from tillerman.core.store import Store
from tillerman.data.writing import Written
from tillerman.evaluation.scoring import best, calibrated, option_scores
from tillerman.models.batches import Batch, batches, padded, token_budget
from tillerman.models.beginnings import Beginning, begin, clusters
from tillerman.models.cells import GridCell, unedited
from tillerman.models.grid import (
    Ready,
    branch_fault,
    grid_answer_scores,
    grid_scores,
    ready_for_answers,
    ready_for_options,
    tail_of,
)
from tillerman.models.memory import fitting
from tillerman.models.opened import OpenModel
from tillerman.models.prompt_cache import AskedPrompts, PromptCache
from tillerman.steering.scopes import meant_after, meant_in
from tillerman.steering.steer import steer


def answers_under(
    opened: OpenModel,
    written: Sequence[Written],
    plans: Sequence[Plan],
    *,
    store: Store,
    kept: PromptCache | None = None,
    progress: Progress = silent,
) -> NDArray[np.int64]:
    """The most likely answer ``[plans, items]``, as ``answers_given`` inside ``steer`` gives it.

    Plans of one intervention at one hook point share the prompts (``models.grid``); others, and models
    that cannot branch, take one pass per plan. Finished pieces
    are in ``store``, by model, prompts and plans; ``kept`` is of prompts that are asked more than once. ``progress``
    is told plans times items.
    """
    found = _under(opened, written, plans, _Piece(store, kept, "answers", _places), progress)
    return np.array(found, dtype=np.int64).reshape(len(plans), len(written))


def scores_under(
    opened: OpenModel,
    written: Sequence[Written],
    plans: Sequence[Plan],
    *,
    store: Store,
    kept: PromptCache | None = None,
    progress: Progress = silent,
) -> list[list[list[float]]]:
    """What ``answers_under`` goes by, ``[plans][items][options]``: log-probabilities up to a constant of the item."""
    return _under(opened, written, plans, _Piece(store, kept, "scores", _options), progress)


@dataclass(frozen=True, eq=False)
class _Piece:
    """What is kept of the scores of some items' options, and where."""

    store: Store
    kept: PromptCache | None
    kind: str
    keep: Callable[[Sequence[Sequence[float]], Sequence[Written]], list[Any]]

    def value(self, facts: Sequence[Any], make: Callable[[], list[Any]]) -> Any:
        return self.store.scoped(*facts).value(self.kind, make)


def _places(scores: Sequence[Sequence[float]], written: Sequence[Written]) -> list[int]:
    del written
    return [best(row) for row in scores]


def _options(scores: Sequence[Sequence[float]], written: Sequence[Written]) -> list[list[float]]:
    """Without the columns beyond an item's last option."""
    return [list(row[: len(w.answers)]) for row, w in zip(scores, written, strict=True)]


def _under(
    opened: OpenModel, written: Sequence[Written], plans: Sequence[Plan], piece: _Piece, progress: Progress
) -> list[list[Any]]:
    """What ``piece`` keeps, ``[plans][items]``."""
    found: list[list[Any]] = [[None] * len(written) for _ in plans]
    can = branch_fault(opened) is None and all(w.prompt for w in written)
    edits = {k: plan[0] for k, plan in enumerate(plans) if can and _is_simple(plan)}
    if edits:  # no steering is one more cell, of strength 0: the same sums then stand on both sides
        nothing = replace(next(iter(edits.values())), operator="add", strength=0.0)
        edits |= {k: nothing for k, plan in enumerate(plans) if not plan}
    for whole in (False, True) if edits else ():
        mine = [i for i, w in enumerate(written) if w.whole == whole]
        if mine:
            made = _branched(opened, [written[i] for i in mine], list(edits.values()), piece, progress)
            for k, of_plan in zip(edits, made, strict=True):
                for i, value in zip(mine, of_plan, strict=True):
                    found[k][i] = value
    for k, plan in enumerate(plans):
        if k not in edits:
            found[k] = piece.value((opened.identity, written, plan), partial(_one_by_one, opened, written, plan, piece))
            progress(len(written))
    return found


def _is_simple(plan: Plan) -> bool:
    """One vector at one hook point, on tokens that are known before the pass."""
    one = len(plan) == 1 and plan[0].steering.is_constant and len(plan[0].steering.points) == 1
    return one and plan[0].gate is None and plan[0].scope.name not in ("thinking", "not_in_code")


def _one_by_one(opened: OpenModel, written: Sequence[Written], plan: Plan, piece: _Piece) -> list[Any]:
    if not plan:
        return piece.keep(option_scores(opened, written, unsteered=True), written)
    with steer(opened.model, plan):
        return piece.keep(option_scores(opened, written), written)


def _branched(
    opened: OpenModel, written: Sequence[Written], items: Sequence[Intervention], piece: _Piece, progress: Progress
) -> list[list[Any]]:
    """Batch by batch: every prompt runs once, whatever the number of interventions. Items are all scored by
    whole answers, or none is."""
    found: list[list[Any]] = [[None] * len(written) for _ in items]
    by_scope: dict[Scope, list[int]] = {}
    for k, item in enumerate(items):
        by_scope.setdefault(item.scope, []).append(k)
    touched = 0
    cells_of = {scope: digest_of([_cell(items[k]) for k in members]) for scope, members in by_scope.items()}

    def run(asked: _Asked) -> list[tuple[int, list[list[Any]]]]:
        mine = [written[i] for i in asked.batch.rows.tolist()]
        made = []
        for scope, members in by_scope.items():
            cells = [_cell(items[k]) if items[k].strength else unedited(opened.parts) for k in members]
            asking, count = _asking(opened, asked, mine, cells, scope)
            facts = (opened.identity, mine, scope, cells_of[scope])
            score = partial(_scores, opened, asking, cells, piece.kept, progress)
            made.append((count, piece.value(facts, partial(_kept_of, score, piece, mine))))
        return made

    for asked, made in fitting(opened.parts, _asked(opened, written), run, _Asked.halves):
        rows = asked.batch.rows.tolist()
        for members, (count, of_cells) in zip(by_scope.values(), made, strict=True):
            touched += count
            for k, of_cell in zip(members, of_cells, strict=True):
                for i, value in zip(rows, of_cell, strict=True):
                    found[k][i] = value
    if not touched:
        raise NotAppliedError(f"scope {items[0].scope} covers no token of any prompt; choose another scope")
    return found


def _passed(written: Written, begun: int) -> tuple[int, ...]:
    """The tokens of a prompt after its beginning, and of its answers where these are scored whole."""
    rest = written.prompt[begun:]
    return (*rest, *(token for answer in written.answers for token in answer)) if written.whole else rest


@dataclass(frozen=True, eq=False)
class _Asked:
    """Prompts that begin alike, and what runs their beginning: once, when it is first asked for (finished pieces need
    none). Every prompt has a token beyond it."""

    batch: Batch
    begun: Callable[[], Beginning | None]

    def halves(self) -> tuple[_Asked, ...]:
        return tuple(replace(self, batch=half) for half in self.batch.halves())


def _asked(opened: OpenModel, written: Sequence[Written]) -> Iterator[_Asked]:
    """Whole answers count as what they are: so many tokens of a pass, and padded to the longest."""
    budget, prompts = token_budget(opened.parts), [w.prompt for w in written]
    for cluster in clusters([prompt[:-1] for prompt in prompts]):
        begun = cache(partial(begin, opened.parts, prompts[cluster.rows[0]][: cluster.shared]))
        rests = [_passed(written[i], cluster.shared) for i in cluster.rows]
        for cut in batches(rests, pad=opened.pad_id, budget=budget):
            rows = [cluster.rows[k] for k in cut.rows.tolist()]
            whole = padded([prompts[i] for i in rows], pad=opened.pad_id)
            yield _Asked(replace(whole, rows=torch.tensor(rows)), begun)


def _scores(
    opened: OpenModel, asking: AskedPrompts, cells: Sequence[GridCell], kept: PromptCache | None, progress: Progress
) -> Tensor:
    return asking.score(cells, None, progress) if kept is None else kept.scores(opened.parts, asking, cells, progress)


def _asking(
    opened: OpenModel, asked: _Asked, written: Sequence[Written], cells: Sequence[GridCell], scope: Scope
) -> tuple[AskedPrompts, int]:
    """How cells ask a batch, and how many tokens they edit."""
    batch, begun = asked.batch, asked.begun
    meant, name = meant_in(scope, batch), digest_of(opened.identity, written, scope)
    tail = len(batch.rows) * max(1, tail_of(meant))
    if not written[0].whole:
        options = [[answer[0] for answer in w.answers] for w in written]

        def run(borders: Sequence[int]) -> Ready:
            return ready_for_options(opened, batch, meant, borders, begun())

        def scored(some: Sequence[GridCell], ready: Ready | None, progress: Progress) -> Tensor:
            first = begun() if ready is None else None
            return grid_scores(opened, batch, options, some, meant, beginning=first, ready=ready, progress=progress)

        return AskedPrompts(name, batch.tokens.numel(), tail, run, scored), int(meant.sum())
    whole = [w.answers for w in written]
    # The last token of an answer makes none that is scored.
    after = meant_after(scope, batch, max(len(answer) for w in written for answer in w.answers) - 1)

    def run_answers(borders: Sequence[int]) -> Ready:
        return ready_for_answers(opened, batch, whole, meant, after, borders, begun())

    def answered(some: Sequence[GridCell], ready: Ready | None, progress: Progress) -> Tensor:
        first = begun() if ready is None else None
        return grid_answer_scores(
            opened, batch, whole, some, meant, after, beginning=first, ready=ready, progress=progress
        )

    edited = max(sum(tail // len(batch.rows) + len(answer) - 1 for answer in answers) for answers in whole)
    queries = len(batch.rows) * edited
    return AskedPrompts(name, batch.tokens.numel(), queries, run_answers, answered), int(meant.sum()) + int(after.sum())


def _kept_of(score: Callable[[], Tensor], piece: _Piece, written: Sequence[Written]) -> list[list[Any]]:
    return [piece.keep([*map(calibrated, cell, written)], written) for cell in score().tolist()]


def _cell(item: Intervention) -> GridCell:
    (point,) = item.steering.points
    return GridCell(point, item.operand(point), item.strength, item.operator)
