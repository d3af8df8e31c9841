"""Run a recipe: every arm of every step on every task and seed, finished ones kept, the claims weighed at the end."""

from __future__ import annotations

import importlib.metadata
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from tillerman.core.errors import FitError, HookPointError, ModelError, UsageError
from tillerman.core.rows import Progress
from tillerman.core.store import Store
from tillerman.data.thoughts import has_think_tags
from tillerman.logs.reproduction import Piece, Ran, ReproductionLog, Skipped, piece_from_json, piece_to_json
from tillerman.models.opened import PILOT, VERSIONED, OpenModel
from tillerman.pipeline.run import Unwatched, Watch
from tillerman.recipes.narrow import narrowed
from tillerman.recipes.recipe import Recipe, Step, Task
from tillerman.recipes.sources import Source, find_sources
from tillerman.recipes.steps.curves import run_curve
from tillerman.recipes.steps.fits import run_fit
from tillerman.recipes.steps.replies import run_replies
from tillerman.recipes.steps.shares import run_shares
from tillerman.recipes.steps.slopes import run_slopes
from tillerman.recipes.steps.studies import run_study
from tillerman.recipes.steps.work import Work
from tillerman.recipes.verdicts import verdicts_on

KINDS: Mapping[str, Callable[[Work, Store], list[Piece]]] = {
    "fit": run_fit,
    "curve": run_curve,
    "replies": run_replies,
    "shares": run_shares,
    "study": run_study,
    "slopes": run_slopes,
}
# What data or model cannot feed; any other error stops the run.
_UNFIT = (FitError, HookPointError, ModelError)
_REVISION = 1  # raised when the same settings give other figures


@dataclass(frozen=True)
class Request:
    """What a run is asked for besides the recipe. ``only``: tasks, groups or steps. ``claims``: no more than these are
    tested on. ``limit`` and ``seeds``: fewer than the recipe's."""

    data: Path | None = None
    limit: int | None = None
    seeds: int | None = None
    only: tuple[str, ...] = ()
    skip_missing: bool = False
    sae: str | None = None
    claims: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value in (("`limit`", self.limit), ("`seeds`", self.seeds)):
            if value is not None and value < 1:
                raise UsageError(f"{name} {value}: expected at least 1")


def reproduce(
    recipe: tuple[Recipe, str],
    models: Sequence[OpenModel],
    request: Request,
    *,
    store: Store | None = None,
    watch: Watch | None = None,
) -> ReproductionLog:
    """Run what ``request`` asks for of a recipe (and the digest of its text, as ``read_recipe`` gives them).

    Each step runs on the first of ``models`` that can do it; one that none can do is left out with the reason.
    ``store`` keeps every finished arm of a task and seed, over interruptions and for further runs. Missing data
    files are one ``DataError`` before any work.
    """
    started = time.monotonic()
    chosen, digest = recipe
    needed = narrowed(chosen, request.claims) if request.claims else chosen
    steps = _steps(needed, request)
    tasks = list(dict.fromkeys(task for of_step in steps.values() for task in of_step))
    sources, missing, notes = find_sources(tasks, request.data, skip_missing=request.skip_missing)
    kept = store or Store(None, "")
    before = kept.saved
    run = _Run(needed, tuple(models), request, sources, kept, watch or Unwatched())
    pieces, ran, left_out = run.all_steps(steps)
    out = (*missing, *left_out)
    return ReproductionLog(
        recipe=chosen.name,
        recipe_digest=digest,
        limit=run.limit,
        ran=ran,
        pieces=pieces,
        left_out=out,
        notes=notes,
        verdicts=verdicts_on(chosen, pieces, out),
        versions={name: importlib.metadata.version(name) for name in VERSIONED},
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=time.monotonic() - started + kept.saved - before,  # those of earlier runs, that made what was found
    )


def _steps(recipe: Recipe, request: Request) -> dict[str, list[Task]]:
    """The steps that are asked for, with their tasks."""
    of_step = {step.name: list(recipe.tasks_of(step.tasks)) for step in recipe.steps}
    if not request.only:
        return of_step
    steps = [name for name in request.only if name in of_step]
    wanted = set(recipe.tasks_of([name for name in request.only if name not in of_step]))
    return {
        step: found
        for step, tasks in of_step.items()
        if not steps or step in steps
        if (found := [task for task in tasks if not wanted or task in wanted])
    }


@dataclass(frozen=True, eq=False)
class _Run:
    recipe: Recipe
    models: tuple[OpenModel, ...]
    request: Request
    sources: Mapping[str, Source]
    store: Store
    watch: Watch

    @property
    def limit(self) -> int:
        return min(self.recipe.limit, self.request.limit or self.recipe.limit)

    def all_steps(
        self, steps: Mapping[str, list[Task]]
    ) -> tuple[tuple[Piece, ...], tuple[Ran, ...], tuple[Skipped, ...]]:
        pieces: list[Piece] = []
        ran: list[Ran] = []
        left_out: list[Skipped] = []
        for name, tasks in steps.items():
            step = self.recipe.step(name)
            able = self._able(step)
            if isinstance(able, str):
                left_out.append(Skipped(name, able))
                continue
            works = list(self._works(step, tasks, able))
            for number, (work, shared) in enumerate(works, start=1):
                pieces += self._done(replace(work, watch=_Titled(self.watch, f"{name} {number}/{len(works)}")), shared)
            there = tuple(dict.fromkeys(work.source.task.name for work, _ in works))
            seeds = tuple(dict.fromkeys(work.seed for work, _ in works))
            ran.append(Ran(name, able.id, able.fingerprint, there, seeds, self._limit(step)))
        return tuple(pieces), tuple(ran), tuple(left_out)

    def _able(self, step: Step) -> OpenModel | str:
        """The first model that has what the step needs, or what none has."""
        lacks = [next((why for need in step.needs if (why := self._lacks(one, need))), "") for one in self.models]
        return next((one for one, why in zip(self.models, lacks, strict=True) if not why), "; ".join(lacks))

    def _lacks(self, opened: OpenModel, need: str) -> str:
        if need == "sae":
            return "" if self._sae(opened) else f"no sparse autoencoder of {opened.id} (`sae`)"
        if need == "thoughts":
            return "" if has_think_tags(opened.tokenizer) else f"{opened.id} has no thinking tags"
        try:
            opened.points("router_weights")
        except (ModelError, HookPointError):
            return f"{opened.id} has no experts"
        return ""

    def _sae(self, opened: OpenModel) -> str | None:
        return self.request.sae or (PILOT if opened.id == PILOT else None)

    def _limit(self, step: Step) -> int:
        return min(self.recipe.limit, max(self.limit, step.least))

    def _works(self, step: Step, tasks: Sequence[Task], opened: OpenModel) -> Iterator[tuple[Work, Store]]:
        """With each work, the memory that it shares with other arms of the same task, seed and settings."""
        counts = [count for count in (step.seeds, self.request.seeds) if count is not None]
        seeds = self.recipe.seeds[: min(counts, default=None)]
        limit = self._limit(step)
        for task in tasks:
            if task.name not in self.sources:
                continue
            for seed in seeds:
                shared = Store(None, "")
                for arm in step.arms:
                    own = Store(None, "") if arm.settings else shared
                    sae = self._sae(opened)
                    yield Work(step, arm, self.sources[task.name], seed, limit, opened, sae, self.watch), own

    def _done(self, work: Work, shared: Store) -> list[Piece]:
        here = self.store.scoped(_REVISION, json.dumps(work.facts(), sort_keys=True, default=str))
        found: list[dict[str, Any]] = here.value("pieces", partial(_made, work, shared))
        # Step and arm may have been called otherwise when these were made.
        return [replace(piece_from_json(piece), step=work.step.name, arm=work.arm.name) for piece in found]


def _made(work: Work, shared: Store) -> list[dict[str, Any]]:
    try:
        pieces = KINDS[work.step.kind](work, shared)
    except _UNFIT as error:
        pieces = [work.piece({}, reason=str(error))]
    return [piece_to_json(piece) for piece in pieces]


@dataclass(frozen=True)
class _Titled:
    """Says before each stage which piece of the whole it belongs to."""

    watch: Watch
    title: str

    def stage(self, title: str, total: int) -> AbstractContextManager[Progress]:
        return self.watch.stage(f"{self.title}: {title}", total)
