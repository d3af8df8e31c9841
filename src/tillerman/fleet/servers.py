"""One server of a fleet, as its client: what it serves, whether it would answer, and answers with their receipts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from tillerman.core.errors import EndpointError, NotAppliedError
from tillerman.fleet.jobs import GenerationJob
from tillerman.serving.client import ensure_applied

_PLAN_HEADER = "X-Tillerman-Plan"
_MOST_AT_ONCE, _BYTES = 256, 500_000  # requests of one check, and the size of its body
_LATER = ("busy", "audit_failed", "rate_limit_exceeded")
_DOWN = ("stopping", "engine_down", "not_proved")
_GONE = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
UNBOUNDED = httpx.Limits(max_connections=None)  # who asks bounds what is asked at once
Row = dict[str, Any]  # a line of the answers


class NeverReachedError(EndpointError):
    """The server was not there, or takes nothing more: nothing was begun."""


class AnswerLostError(EndpointError):
    """The server went away, or failed, while it answered."""


class ComeAgainError(EndpointError):
    """The server takes no more for ``seconds``."""

    def __init__(self, words: str, seconds: float) -> None:
        super().__init__(words)
        self.seconds = seconds


@dataclass(frozen=True)
class Offer:
    """What a server serves. Two that are equal here give the same answers."""

    model: str
    fingerprint: str
    engine: str
    artefacts: tuple[tuple[str, str], ...]  # name and digest


class FleetServer:
    """A Tillerman server at ``url``; ``transport`` reaches one that has no address. ``seconds`` bound one answer."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        seconds: float = 600.0,
    ) -> None:
        self.name = url
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx.AsyncClient(
            base_url=url.rstrip("/").removesuffix("/v1"),
            headers=headers,
            timeout=httpx.Timeout(seconds, connect=10.0),
            transport=transport or httpx.AsyncHTTPTransport(limits=UNBOUNDED),
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def is_ready(self) -> bool:
        try:
            return (await self._http.get("/ready", timeout=10.0)).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    async def offer(self) -> Offer:
        """``EndpointError`` for a server that is not one of ours, or that does not let us in."""
        listed = _told(await self._asked("GET", "/v1/artefacts"))
        checked = _told(await self._asked("POST", "/v1/tillerman/check", {"requests": [{"model": ""}]}))
        digests = tuple(sorted((str(one["name"]), str(one["sha256"])) for one in listed["data"]))
        return Offer(checked["model"], checked["fingerprint"], checked["engine"], digests)

    async def check(self, jobs: Sequence[GenerationJob], model: str) -> list[Mapping[str, Any]]:
        """For each job the fingerprint of its plan, or its error; nothing is answered yet."""
        if not jobs:
            return []
        bodies = [body_of(job, model) for job in jobs]
        if len(jobs) > 1 and (len(jobs) > _MOST_AT_ONCE or len(json.dumps(bodies)) > _BYTES):
            half = len(jobs) // 2
            return [*await self.check(jobs[:half], model), *await self.check(jobs[half:], model)]
        while True:
            try:
                told = _told(await self._asked("POST", "/v1/tillerman/check", {"requests": bodies}))
            except ComeAgainError as error:
                await asyncio.sleep(error.seconds)
                continue
            return [told] if "error" in told else list(told["data"])

    async def answer(self, job: GenerationJob, model: str, plan: str) -> Row:
        """The job's row: its answer with the receipt of ``plan``, or the error that it was refused with.
        ``ComeAgainError``, ``NeverReachedError`` and ``AnswerLostError`` where another server, or a later time, may
        do better."""
        response = await self._asked("POST", job.route, body_of(job, model))
        told = _told(response)
        if "error" in told:
            return _failed(job, told["error"])
        try:
            header = response.headers.get(_PLAN_HEADER)
            receipt = ensure_applied(told, job.body.get("steering"), header)
            if receipt.get("plan") != plan:
                raise NotAppliedError(f"the receipt is of plan {receipt.get('plan')}, the job was checked as {plan}")
        except NotAppliedError as error:
            return failure(job, "not_applied", str(error))
        return {
            "id": job.id,
            "model": told["model"],
            "choices": told["choices"],
            "usage": told["usage"],
            "seed": told["seed"],
            "steering": dict(receipt),
        }

    async def _asked(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        try:
            return await self._http.request(method, path, json=body)
        except _GONE as error:
            raise NeverReachedError(f"{self.name} cannot be reached: {error}") from error
        except httpx.HTTPError as error:
            raise AnswerLostError(f"{self.name} went away ({type(error).__name__})") from error


def body_of(job: GenerationJob, model: str) -> dict[str, Any]:
    """As the server takes it; a job that names no model is for the one that is served."""
    return {"model": model, **job.body}


def failure(job: GenerationJob, code: str, message: str) -> Row:
    return {"id": job.id, "error": {"message": message, "type": "server_error", "param": None, "code": code}}


def _failed(job: GenerationJob, error: Mapping[str, Any]) -> Row:
    return {"id": job.id, "error": dict(error)}


def _told(response: httpx.Response) -> dict[str, Any]:
    """The answer's JSON: of an answer, or an ``error`` that is the request's own. Whatever tells of the server is
    raised."""
    try:
        told = response.json()
        error = told.get("error")
    except (ValueError, AttributeError):
        raise AnswerLostError(f"{response.url.host} answers {response.status_code}, not as our servers do") from None
    if response.status_code == httpx.codes.OK:
        return dict(told)
    code = error.get("code") if isinstance(error, Mapping) else None
    if code is None or code in ("engine_error", "internal"):
        raise AnswerLostError(f"{response.url.host} answers {response.status_code}: {error or told}"[:500])
    if code in _DOWN:
        raise NeverReachedError(f"{response.url.host}: {code}: {error['message']}")
    if code in _LATER:
        raise ComeAgainError(f"{code}: {error['message']}", _seconds(response))
    if code in ("invalid_api_key", "not_found", "method_not_allowed"):
        raise EndpointError(f"{response.url.host}: {code}: {error['message']}")
    return {"error": error}


def _seconds(response: httpx.Response) -> float:
    given = response.headers.get("retry-after", "1")
    return float(given) if given.isdecimal() else 1.0
