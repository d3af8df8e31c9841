"""Answers to a file of jobs: checked as a whole before the first token, kept one by one, in the order of the file."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tillerman.core.errors import DataError, UsageError
from tillerman.core.rows import Progress, silent
from tillerman.core.store import Store
from tillerman.fleet.dispatch import Dispatch, answer_all
from tillerman.fleet.jobs import GenerationJob
from tillerman.fleet.servers import FleetServer, Offer, Row

KEY = "fleet answers 1"  # of a run's store: what else an answer depends on is in the key of its piece
_PIECE = "answer"
_SHOWN = 3  # bad jobs that an error names


@dataclass(frozen=True)
class CheckedJobs:
    """All jobs, and those of them that no server would answer, each with its error."""

    jobs: tuple[GenerationJob, ...]
    offer: Offer
    plans: Mapping[str, str]  # id -> fingerprint
    refused: Mapping[str, Row]

    def ensure_good(self) -> None:
        """``DataError`` names the first jobs that would be refused."""
        if not self.refused:
            return
        bad = [(job, self.refused[job.id]["error"]) for job in self.jobs if job.id in self.refused]
        shown = [f"line {job.line} ({job.id[:40]}): {str(error['message'])[:100]}" for job, error in bad[:_SHOWN]]
        more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise DataError(
            f"{len(bad)} of {len(self.jobs)} jobs would be refused, so none was begun: {'; '.join(shown)}{more}. Mend "
            "them, or answer the others with --skip-bad"
        )


async def checked(jobs: Sequence[GenerationJob], servers: Sequence[FleetServer]) -> CheckedJobs:
    """``UsageError`` for servers that do not serve the same."""
    offers = await asyncio.gather(*(server.offer() for server in servers))
    for server, offer in zip(servers, offers, strict=True):
        if offer != offers[0]:
            raise UsageError(f"{servers[0].name} and {server.name} do not serve the same: {_apart(offers[0], offer)}")
    model, several = offers[0].model, len(servers)
    parts = await asyncio.gather(*(one.check(jobs[i::several], model) for i, one in enumerate(servers)))
    plans: dict[str, str] = {}
    refused: dict[str, Row] = {}
    for i, part in enumerate(parts):
        for job, told in zip(jobs[i::several], part, strict=True):
            if "error" in told:
                refused[job.id] = {"id": job.id, "error": told["error"]}
            else:
                plans[job.id] = str(told["plan"])
    return CheckedJobs(tuple(jobs), offers[0], plans, refused)


async def answers(
    batch: CheckedJobs,
    servers: Sequence[FleetServer],
    store: Store,
    facts: Sequence[Any] = (),
    how: Dispatch | None = None,
    progress: Progress = silent,
) -> list[Row]:
    """A row for each job, in order. ``facts`` is what answers depend on beside job, plan and model. What is in the
    store is not made again; a job that failed is not kept, so the next run asks it again."""
    pieces = {job.id: _piece(store, batch, job, facts) for job in batch.jobs if job.id in batch.plans}
    found: dict[str, Row] = dict(batch.refused)

    def keep(job: GenerationJob, row: Row) -> None:
        found[job.id] = row if "error" in row else pieces[job.id].value(_PIECE, lambda: row)
        progress(1)

    left = []
    for job in batch.jobs:
        if job.id in pieces and pieces[job.id].holds(_PIECE):
            found[job.id] = {**pieces[job.id].value(_PIECE, dict), "id": job.id}
            progress(1)
        elif job.id in pieces:
            left.append(job)
    if left:
        await answer_all(left, servers, batch.offer.model, batch.plans, keep, how)
    return [found[job.id] for job in batch.jobs]


def failed(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if "error" in row]


def _piece(store: Store, batch: CheckedJobs, job: GenerationJob, facts: Sequence[Any]) -> Store:
    offer = batch.offer
    return store.scoped(offer.model, offer.fingerprint, offer.engine, *facts, batch.plans[job.id], dict(job.body))


def _apart(one: Offer, other: Offer) -> str:
    if one.model != other.model or one.fingerprint != other.fingerprint:
        return f"{one.model} ({one.fingerprint}) and {other.model} ({other.fingerprint})"
    if one.engine != other.engine:
        return f"by {one.engine} and by {other.engine}"
    unlike = sorted({name for name, _ in set(one.artefacts) ^ set(other.artefacts)})
    return f"the artefact {unlike[0]!r} differs, or is on one of them only"
