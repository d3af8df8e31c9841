"""The ASGI app: routes, and what is true of every request and answer."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tillerman.serving.door import Door
from tillerman.serving.http import catalogue, checking, comparing, generation, operation, playground
from tillerman.serving.http.bodies import StrictBody
from tillerman.serving.http.checking import CheckBody
from tillerman.serving.http.comparing import ComparisonBody
from tillerman.serving.http.requests import ChatBody, TextBody
from tillerman.serving.refusals import Refusal

_Route = Callable[[Request], Awaitable[Response]]


def create_app(door: Door, hosts: Sequence[str] | None = None) -> ASGIApp:
    """``hosts``: names under which the server may be called; None: any. A page in a browser that was led to a loopback
    address by a name of its own is so kept out."""
    app = FastAPI(title="Tillerman", version=version("tillerman"), docs_url=None, redoc_url=None)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _not_routed)
    app.add_exception_handler(Exception, _failed)
    _add_generation(app, door)
    _add_catalogue(app, door)
    _add_operation(app, door)
    _add_playground(app, door)
    return _Guard(app, hosts)


def _add_generation(app: FastAPI, door: Door) -> None:
    async def chat_completions(request: Request) -> Response:
        return await generation.chat_completions(door, request)

    async def completions(request: Request) -> Response:
        return await generation.completions(door, request)

    async def compare(request: Request) -> Response:
        return await comparing.compare(door, request)

    async def check(request: Request) -> Response:
        return await checking.check(door, request)

    routes: tuple[tuple[str, _Route, type[StrictBody]], ...] = (
        ("/v1/chat/completions", chat_completions, ChatBody),
        ("/v1/completions", completions, TextBody),
        ("/v1/tillerman/compare", compare, ComparisonBody),
        ("/v1/tillerman/check", check, CheckBody),
    )
    for path, route, kind in routes:
        shown = {"requestBody": {"required": True, "content": {"application/json": {"schema": _schema(kind)}}}}
        app.add_api_route(path, route, methods=["POST"], response_model=None, openapi_extra=shown)


def _add_catalogue(app: FastAPI, door: Door) -> None:
    async def models(request: Request) -> dict[str, Any]:
        return catalogue.models(door, catalogue.known(door, request))

    async def model(request: Request, name: str) -> dict[str, Any]:
        return catalogue.model(door, catalogue.known(door, request), name)

    async def artefacts(request: Request) -> dict[str, Any]:
        return catalogue.artefacts(door, catalogue.known(door, request))

    async def artefact(request: Request, name: str) -> dict[str, Any]:
        return catalogue.artefact(door, catalogue.known(door, request), name)

    async def card(request: Request, name: str) -> dict[str, Any]:
        return catalogue.card(door, catalogue.known(door, request), name)

    app.add_api_route("/v1/models", models)
    app.add_api_route("/v1/models/{name:path}", model)
    app.add_api_route("/v1/artefacts", artefacts)
    app.add_api_route("/v1/artefacts/{name}", artefact)
    app.add_api_route("/v1/artefacts/{name}/card", card)


def _add_operation(app: FastAPI, door: Door) -> None:
    async def health() -> Response:
        return await operation.health(door)

    async def ready() -> Response:
        return await operation.ready(door)

    async def metrics(request: Request) -> Response:
        return await operation.metrics(door, request)

    async def audit(request: Request) -> dict[str, Any]:
        return await operation.audit(door, request)

    async def reload(request: Request) -> dict[str, Any]:
        return await operation.reload(door, request)

    app.add_api_route("/health", health, response_model=None)
    app.add_api_route("/ready", ready, response_model=None)
    app.add_api_route("/metrics", metrics, response_model=None)
    app.add_api_route("/v1/audit", audit)
    app.add_api_route("/v1/admin/reload", reload, methods=["POST"])


def _add_playground(app: FastAPI, door: Door) -> None:
    async def shown(request: Request) -> Response:
        return playground.shown(door, request.url.path)

    for path in playground.FILES:
        app.add_api_route(path, shown, response_model=None, include_in_schema=False)


class _Guard:
    """Around the app: which host was called, and headers of every answer."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str] | None) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._hosts is not None and _host(scope) not in self._hosts:
            refusal = Refusal("forbidden", f"this server is called {' or '.join(self._hosts)}; others need keys")
            await _response(refusal)(scope, receive, send)
            return

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-content-type-options", b"nosniff")]
            await send(message)

        await self._app(scope, receive, dressed)


def _host(scope: Scope) -> str:
    """The name that was called, without its port."""
    found = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
    return found.partition("]")[0].lstrip("[") if found.startswith("[") else found.partition(":")[0]


def _schema(kind: type[StrictBody]) -> dict[str, Any]:
    """Whole in itself, for OpenAPI."""
    made = kind.model_json_schema()
    named = made.pop("$defs", {})

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            name = str(value.get("$ref", "")).rpartition("/")[2]
            return filled(named[name]) if name in named else {key: filled(one) for key, one in value.items()}
        return [filled(one) for one in value] if isinstance(value, list) else value

    found: dict[str, Any] = filled(json.loads(json.dumps(made)))
    return found


def _response(refusal: Refusal) -> JSONResponse:
    headers = {"X-Request-Id": refusal.request_id}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(refusal.retry_after)))
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(refusal.to_json(), status_code=refusal.status, headers=headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _response(error)


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return _response(Refusal("method_not_allowed", f"{request.method} is not offered here"))
    return _response(Refusal("not_found", "no such route; /openapi.json lists them"))


async def _failed(request: Request, error: Exception) -> Response:
    """A fault of ours: the log has it, the client gets no word of the request."""
    told = {"error": {"message": "the server failed; its log says why", "type": "server_error", "code": "internal"}}
    return JSONResponse({"error": {**told["error"], "param": None}}, status_code=500)
