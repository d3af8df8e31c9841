"""A request's body: so large, so slow, in JSON, and nothing in it that is passed over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect, Request

from tillerman.serving.refusals import Refusal
from tillerman.serving.settings import LimitSettings

B = TypeVar("B", bound=BaseModel)


class StrictBody(BaseModel):
    """Of no other field and no other type than it says."""

    model_config = ConfigDict(extra="forbid", strict=True)


async def read_bytes(request: Request, limits: LimitSettings) -> bytes:
    """``Refusal`` for a body that is no JSON by its type, too large, or too slow."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal("not_json", "send the request as Content-Type: application/json")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:12]) > limits.body_bytes:
        raise _too_large(limits)
    parts, size = [], 0
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for part in request.stream():
                size += len(part)
                if size > limits.body_bytes:
                    raise _too_large(limits)
                parts.append(part)
    except TimeoutError:
        raise Refusal("timeout", f"the body took more than {limits.body_seconds:g} seconds") from None
    except ClientDisconnect:
        raise Refusal("timeout", "the client went away within its request") from None
    return b"".join(parts)


def parsed(raw: bytes) -> dict[str, Any]:
    """A JSON object, in which no name stands twice and every number is one."""
    try:
        value = json.loads(raw, parse_constant=_no_number, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Refusal("malformed", f"the body is no JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise Refusal("malformed", "the body is no JSON object")
    return value


def checked(kind: type[B], value: dict[str, Any]) -> B:
    """``Refusal`` names the first field that is wrong, and what it should be."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        # Of a field that may have several forms each is told; the deepest place is the one that was meant.
        first = max(error.errors(include_url=False, include_context=False, include_input=False), key=_depth)
        place = _place(first["loc"], value)
        if first["type"] == "extra_forbidden":
            close = get_close_matches(str(first["loc"][-1]), kind.model_fields, n=1)
            hint = f" Did you mean {close[0]!r}?" if close and len(first["loc"]) == 1 else ""
            raise Refusal("malformed", f"{place}: no such field here.{hint}", place) from None
        raise Refusal("malformed", f"{place}: {first['msg']}", place) from None
    except RecursionError:
        raise Refusal("malformed", "the body is nested too deeply") from None


def _depth(error: Any) -> tuple[bool, int]:
    return error["type"] == "extra_forbidden", len(error["loc"])


def _place(loc: Sequence[int | str], value: Any) -> str:
    """``messages.0.content``: pydantic's names of the forms that it tried are no part of what was sent."""
    meant: list[str] = []
    for part in loc:
        if isinstance(value, dict) and (part in value or not meant):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        elif not (isinstance(value, dict) and part == loc[-1]):  # not one that is missing
            continue
        meant.append(str(part))
    return ".".join(meant)[:200]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(one for one in names if names.count(one) > 1)[:40]!r} stands twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _too_large(limits: LimitSettings) -> Refusal:
    return Refusal("too_large", f"the body has more than {limits.body_bytes} bytes")
