"""Whether requests would be answered, before any of them is: what a batch asks before its first token."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tillerman.serving.door import Door
from tillerman.serving.http.bodies import StrictBody, checked, parsed, read_bytes
from tillerman.serving.http.catalogue import known
from tillerman.serving.http.requests import ChatBody, TextBody
from tillerman.serving.policy import Caller
from tillerman.serving.refusals import Refusal

MOST = 256  # requests at a time


class CheckBody(StrictBody):
    """A request to ``/v1/tillerman/check``: bodies of chat completions (with ``messages``) and of completions."""

    requests: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MOST)]


async def check(door: Door, request: Request) -> Response:
    """For each request the fingerprint of its plan and the tokens of its prompts, or the error that it would be
    answered with. It counts as one request of the key; nothing is answered, so nothing is audited."""
    caller = known(door, request)
    body = checked(CheckBody, parsed(await read_bytes(request, door.rules.settings.limits)))
    told = await asyncio.to_thread(lambda: [_told(door, caller, one) for one in body.requests])
    about = door.engine.about
    return JSONResponse(
        {
            "object": "tillerman.check",
            "model": door.name,
            "fingerprint": about.fingerprint,
            "engine": about.engine,
            "data": told,
        }
    )


def _told(door: Door, caller: Caller, value: dict[str, Any]) -> dict[str, Any]:
    try:
        kind: type[ChatBody] | type[TextBody] = ChatBody if "messages" in value else TextBody
        admitted = door.prepared(caller, checked(kind, value).order(door.prompts, None))
    except Refusal as refusal:
        return refusal.to_json()
    tokens = sum(len(job.prompt) for job in admitted.jobs[:: admitted.choices])
    return {"plan": admitted.plan.fingerprint, "prompt_tokens": tokens, "answers": len(admitted.jobs)}
