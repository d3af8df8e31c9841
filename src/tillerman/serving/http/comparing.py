"""One answer's tokens, read under two plans: what steering has changed of their probabilities."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tillerman.serving.answering import Answer, whole
from tillerman.serving.asked import read_steering
from tillerman.serving.door import Admitted, Door, Order
from tillerman.serving.engine import Drawing, Taken
from tillerman.serving.http.bodies import StrictBody, checked, parsed, read_bytes
from tillerman.serving.http.replies import finite
from tillerman.serving.http.requests import ChatMessage, SteeringField
from tillerman.serving.http.streams import extras, unless_gone
from tillerman.serving.policy import Caller
from tillerman.serving.prompts import PromptReader
from tillerman.serving.refusals import Refusal


class ComparisonBody(StrictBody):
    """A request to ``/v1/tillerman/compare``: the token ids of ``answer`` after the messages, or after a prompt, under
    the plan ``steering`` and under ``against``, which is unsteered if not given."""

    model: Annotated[str, Field(max_length=1000)]
    messages: Annotated[list[ChatMessage], Field(min_length=1)] | None = None
    prompt: str | None = None
    steering: SteeringField = None
    against: SteeringField = None
    answer: Annotated[list[int], Field(min_length=1)]
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    user: Annotated[str, Field(max_length=256)] | None = None

    def orders(self, reader: PromptReader, name: str) -> tuple[Order, Order]:
        """The same tokens under both plans; ``name`` is the model's, without an alias."""
        if (self.messages is None) == (self.prompt is None):
            raise Refusal("malformed", "give messages or a prompt, and not both", "messages")
        if self.messages is not None:
            prompt = reader.chat([message.plain() for message in self.messages], {})
        else:
            prompt = reader.plain(self.prompt or "")
        forced = reader.given(self.answer, "answer").tokens
        drawing = Drawing(len(forced), temperature=0, logprobs=self.top_logprobs or 0, forced=forced)
        against = read_steering(self.against, "against") or ()
        steering = read_steering(self.steering)
        return (
            Order(self.model, steering, (prompt,), drawing, seed=0, user=self.user),
            Order(name, against, (prompt,), drawing, seed=0, user=self.user),
        )


async def compare(door: Door, request: Request) -> Response:
    """Both plans are admitted, audited and held to their receipts as any request's is."""
    caller: Caller | None = None
    admitted: list[Admitted] = []
    try:
        caller = door.caller(request.headers.get("authorization"))
        door.rates.take(caller)
        body = checked(ComparisonBody, parsed(await read_bytes(request, door.rules.settings.limits)))
        if not door.engine.about.forces:
            raise Refusal("unsupported", "answer: this engine cannot read given tokens; --engine local can", "answer")
        orders = await asyncio.to_thread(body.orders, door.prompts, door.name)
        for order, field in zip(orders, ("steering", "against"), strict=True):
            admitted.append(_admitted(door, caller, order, field))
    except Refusal as refusal:
        for one in admitted:
            with suppress(Refusal):
                door.ended(one, [], refusal.code)
        door.refused(caller, refusal)
        raise
    try:
        found = await unless_gone(request.receive, _both(door, admitted))
        if found is None:
            return Response(status_code=499)  # nobody reads it
        return JSONResponse(_told(door, body, admitted, found))
    except Refusal as refusal:
        door.metrics.refused.labels(refusal.code).inc()
        raise


def _admitted(door: Door, caller: Caller, order: Order, field: str) -> Admitted:
    """``Refusal`` names the field whose plan it is."""
    try:
        return door.admit(caller, order)
    except Refusal as refusal:
        if refusal.param == "steering":
            refusal.param = field
        raise


async def _both(door: Door, admitted: list[Admitted]) -> list[Answer]:
    """Side by side, so that an engine may read them in one batch."""
    tasks = [asyncio.create_task(whole(door, one)) for one in admitted]
    try:
        return [answer for answers in await asyncio.gather(*tasks) for answer in answers]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _told(door: Door, body: ComparisonBody, admitted: list[Admitted], answers: list[Answer]) -> dict[str, Any]:
    for answer in answers:
        taken = [one.token for one in answer.tokens]
        if taken == body.answer[: len(taken)] and len(taken) < len(body.answer):
            wrong = body.answer[len(taken)]
            raise Refusal("malformed", f"answer: token id {wrong} ends an answer; give those before it", "answer")
        if taken != body.answer:
            raise Refusal("engine_error", "the engine has read other tokens than it was given")
    pairs = zip(answers[0].tokens, answers[1].tokens, strict=True)
    receipts = [extras(door, one, [a.ended] if a.ended else []) for one, a in zip(admitted, answers, strict=True)]
    return {
        "object": "tillerman.comparison",
        "model": body.model,
        "tokens": [_pair(steered, plain) for steered, plain in pairs],
        "steering": receipts[0]["steering"],
        "against": receipts[1]["steering"],
    }


def _pair(steered: Taken, plain: Taken) -> dict[str, Any]:
    mine, theirs = finite(steered.logprob), finite(plain.logprob)
    return {
        "token": steered.text,
        "token_id": steered.token,
        "logprob": mine,
        "against_logprob": theirs,
        "change": mine - theirs,
        "top_logprobs": [{"token": text, "logprob": finite(p)} for _, text, p in steered.others],
        "against_top_logprobs": [{"token": text, "logprob": finite(p)} for _, text, p in plain.others],
    }
