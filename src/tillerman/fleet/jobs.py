"""Requests of a file, one a line: what is asked, by which name, and with which seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tillerman.core.errors import DataError
from tillerman.core.files import as_ours
from tillerman.serving.http.bodies import parsed
from tillerman.serving.refusals import Refusal

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
_BATCH = {"custom_id", "method", "url", "body"}  # OpenAI's form of a line


@dataclass(frozen=True)
class GenerationJob:
    """One request. ``body`` is as the server takes it, its seed included; ``line`` is where it stands in its file."""

    id: str
    body: Mapping[str, Any]
    line: int

    @property
    def route(self) -> str:
        return CHAT if "messages" in self.body else TEXT


def read_jobs(path: Path, seed: int = 0) -> tuple[GenerationJob, ...]:
    """``{"id": "a", "messages": [...], "steering": "calm@0.2", ...}`` a line, or OpenAI's batch lines
    (``custom_id``, ``method``, ``url``, ``body``). A job without a ``seed`` gets one that depends on ``seed`` and its
    id alone, so its answer does not depend on its place.

    ``DataError`` names the line: no JSON object, no id, an id that stands twice, a stream, or no prompt.
    """
    with as_ours(path), path.open("rb") as file:
        lines = file.read().split(b"\n")
    found: dict[str, GenerationJob] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            job = job_of(parsed(line), number, seed)
        except Refusal as refusal:
            raise DataError(str(refusal).replace("the body", "the line"), file=path, line=number) from None
        except DataError as error:
            raise DataError(str(error), file=path, line=number) from None
        if job.id in found:
            raise DataError(
                f"the id {job.id[:60]!r} stands in line {found[job.id].line} too; give each job its own",
                file=path,
                line=number,
            )
        found[job.id] = job
    if not found:
        raise DataError('no job; write one a line: {"id": "a", "prompt": "Once", "steering": "calm@0.2"}', file=path)
    return tuple(found.values())


def job_of(value: dict[str, Any], line: int = 1, seed: int = 0) -> GenerationJob:
    """One line, as ``read_jobs`` takes it. ``DataError`` says what is missing."""
    id, body = _batch(value) if value.keys() & {"custom_id", "body"} else _plain(value)
    if isinstance(id, bool) or not isinstance(id, str | int) or id == "":
        raise DataError("a job needs an id, a text or a whole number; the answers are told apart by it")
    if body.get("stream"):
        raise DataError("stream: a job is answered whole; leave the field out")
    if ("messages" in body) == ("prompt" in body):
        raise DataError("give messages (for a chat) or prompt, and not both")
    given = body.get("seed")
    return GenerationJob(str(id), {**body, "seed": _seed(seed, str(id)) if given is None else given}, line)


def _plain(value: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return value.get("id"), {name: one for name, one in value.items() if name != "id"}


def _batch(value: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """OpenAI's form; ``DataError`` for one that is not whole, or of another route."""
    body = value.get("body")
    if value.keys() != _BATCH or not isinstance(body, dict):
        raise DataError(f"a batch line has {', '.join(sorted(_BATCH))} (an object), and nothing else")
    route = CHAT if "messages" in body else TEXT
    if value["method"] != "POST" or value["url"] != route:
        raise DataError(f"a batch line of this body has method POST and url {route}")
    return value["custom_id"], body


def _seed(whole: int, id: str) -> int:
    """31 bits of a hash."""
    return int.from_bytes(hashlib.sha256(json.dumps([whole, id]).encode()).digest()[:4], "big") >> 1
