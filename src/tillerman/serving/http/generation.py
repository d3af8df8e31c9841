"""The two routes that answer: from a request to an answer with its receipt, or to a refusal that says why."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tillerman.serving.answering import whole
from tillerman.serving.door import Admitted, Door
from tillerman.serving.http.bodies import checked, parsed, read_bytes
from tillerman.serving.http.replies import ChatShape, Shape, TextShape
from tillerman.serving.http.requests import ChatBody, TextBody
from tillerman.serving.http.streams import EventStream, extras, stream, unless_gone
from tillerman.serving.policy import Caller
from tillerman.serving.refusals import Refusal

PLAN_HEADER = "X-Tillerman-Steering"
_LARGE = 20_000  # bytes of a body from which on reading it would hold up other requests


async def chat_completions(door: Door, request: Request) -> Response:
    return await _answered(door, request, ChatBody, ChatShape)


async def completions(door: Door, request: Request) -> Response:
    return await _answered(door, request, TextBody, TextShape)


async def _answered(
    door: Door, request: Request, kind: type[ChatBody] | type[TextBody], shape: type[Shape]
) -> Response:
    caller: Caller | None = None
    try:
        caller = door.caller(request.headers.get("authorization"))
        door.rates.take(caller)
        raw = await read_bytes(request, door.rules.settings.limits)
        header = request.headers.get(PLAN_HEADER)
        body = checked(kind, parsed(raw))
        if len(raw) > _LARGE:
            order = await asyncio.to_thread(body.order, door.prompts, header)
        else:
            order = body.order(door.prompts, header)
        admitted = door.admit(caller, order)
    except Refusal as refusal:
        door.refused(caller, refusal)
        raise
    if body.stream:
        return EventStream(stream(door, admitted, shape(admitted), usage=body.wants_usage), _headers(door, admitted))
    try:
        answers = await unless_gone(request.receive, whole(door, admitted))
    except Refusal as refusal:
        door.metrics.refused.labels(refusal.code).inc()
        raise
    if answers is None:
        return Response(status_code=499)  # nobody reads it
    ends = [one.ended for one in answers if one.ended is not None]
    told = shape(admitted).whole(answers, extras(door, admitted, ends))
    return JSONResponse(told, headers=_headers(door, admitted))


def _headers(door: Door, admitted: Admitted) -> dict[str, str]:
    return {
        "X-Request-Id": admitted.id,
        "X-Tillerman-Plan": admitted.plan.fingerprint,
        "X-Tillerman-Engine": door.engine.about.engine,
    }
