"""Routes for those who run a server: health, readiness, metrics, audit, reload."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tillerman.core.errors import TillermanError
from tillerman.serving.audit import check_chain, last_lines
from tillerman.serving.door import Door
from tillerman.serving.http.catalogue import known
from tillerman.serving.policy import ensure_admin
from tillerman.serving.refusals import Refusal

MOST_LINES = 1000


async def health(door: Door) -> Response:
    """Whether the engine works."""
    wrong = await door.engine.alive()
    told = {"status": "ok" if wrong is None else "down", "engine": door.engine.about.engine}
    return JSONResponse(told, status_code=200 if wrong is None else 503)


async def ready(door: Door) -> Response:
    """Whether requests should be sent here: it works, steering was proved and still is, and it is not stopping."""
    wrong = await door.engine.alive()
    if wrong is None and door.stopping:
        wrong = "stopping"
    if wrong is None and not door.checked:
        wrong = "steering has not been proved yet"
    if wrong is None and door.unproved:
        wrong = f"not shown to steer any more: {', '.join(sorted(door.unproved))}"
    age = round(time.time() - door.checked, 1) if door.checked else None
    told = {"status": wrong or "ready", "checked_seconds_ago": age, "artefacts": len(door.rules.library)}
    return JSONResponse(told, status_code=200 if wrong is None else 503)


async def metrics(door: Door, request: Request) -> Response:
    door.caller(request.headers.get("authorization"))
    return Response(door.metrics.text(), media_type=door.metrics.content_type)


async def audit(door: Door, request: Request) -> dict[str, Any]:
    """The newest lines, and whether the chain is whole."""
    ensure_admin(known(door, request))
    if door.audit is None:
        raise Refusal("not_found", "this server keeps no audit")
    last = request.query_params.get("last", "100")
    if not (last.isascii() and last.isdecimal() and 1 <= int(last[:6]) <= MOST_LINES):
        raise Refusal("malformed", f"last: a whole number from 1 to {MOST_LINES}", "last")
    return await asyncio.to_thread(_read, door.audit.path, int(last))


async def reload(door: Door, request: Request) -> dict[str, Any]:
    """Artefacts, keys and policy from their files: all of them, or what was served goes on."""
    ensure_admin(known(door, request))
    try:
        await door.renew()
    except TillermanError as error:
        raise Refusal("reload_failed", f"nothing was changed: {error}") from error
    return {"artefacts": sorted(door.rules.library), "left_out": dict(door.rules.left_out)}


def _read(path: Path, last: int) -> dict[str, Any]:
    try:
        whole: int | str = check_chain(path)
    except TillermanError as error:
        whole = str(error).replace(f"{path}:", "line ")
    return {"chain": whole, "data": last_lines(path, last)}
