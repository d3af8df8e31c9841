"""The ASGI app: routes, and what is true of every request and answer."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tillerman.serving.door import Door
from tillerman.serving.http import catalogue, checking, comparing, described, generation, operation, playground
from tillerman.serving.http.checking import CheckBody
from tillerman.serving.http.comparing import ComparisonBody
from tillerman.serving.http.described import DescribedApp, Route
from tillerman.serving.http.requests import ChatBody, TextBody
from tillerman.serving.refusals import Refusal

_Route = Callable[[Request], Coroutine[Any, Any, Response]]


def create_app(door: Door, hosts: Sequence[str] | None = None) -> ASGIApp:
    """``hosts``: names under which the server may be called; None: any. A page in a browser that was led to a loopback
    address by a name of its own is so kept out."""
    app = DescribedApp(title="Tillerman", version=version("tillerman"), docs_url=None, redoc_url=None)
    app.bodies = (ChatBody, TextBody, ComparisonBody, CheckBody)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _not_routed)
    app.add_exception_handler(Exception, _failed)
    _add_generation(app, door)
    _add_catalogue(app, door)
    _add_operation(app, door)
    _add_playground(app, door)
    return _Guard(app, hosts)


def _add(app: FastAPI, path: str, route: _Route, said: Route, method: str = "GET") -> None:
    known = {one["name"] for one in said.extra.get("parameters", ()) if one["in"] == "query"}

    async def strict(request: Request) -> Response:
        """What stands in the address has its effect, too, or is refused."""
        given = [name for name, _ in request.query_params.multi_items()]
        for name in given:
            if name not in known:
                raise Refusal("malformed", f"{name[:60]}: no such parameter of this route", name[:60])
            if given.count(name) > 1:
                raise Refusal("malformed", f"{name}: stands twice", name)
        return await route(request)

    answers, extra = said.responses, said.extra
    app.add_api_route(
        path, strict, methods=[method], name=route.__name__, response_model=None, responses=answers, openapi_extra=extra
    )


def _add_generation(app: FastAPI, door: Door) -> None:
    async def chat_completions(request: Request) -> Response:
        return await generation.chat_completions(door, request)

    async def completions(request: Request) -> Response:
        return await generation.completions(door, request)

    async def compare(request: Request) -> Response:
        return await comparing.compare(door, request)

    async def check(request: Request) -> Response:
        return await checking.check(door, request)

    chat = {"model": door.name, "messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 3}
    text = {"model": door.name, "prompt": "I am", "max_tokens": 3, "temperature": 0}
    compared = {"model": door.name, "prompt": "I am", "steering": [], "answer": [0]}
    said = described.answering(ChatBody, described.receipted("ChatCompletion"), chat, streams=True)
    _add(app, "/v1/chat/completions", chat_completions, said, "POST")
    said = described.answering(TextBody, described.receipted("Completion"), text, streams=True)
    _add(app, "/v1/completions", completions, said, "POST")
    said = described.answering(ComparisonBody, described.COMPARED, compared)
    _add(app, "/v1/tillerman/compare", compare, said, "POST")
    _add(app, "/v1/tillerman/check", check, described.checking(CheckBody, {"requests": [chat, text]}), "POST")


def _add_catalogue(app: FastAPI, door: Door) -> None:
    async def models(request: Request) -> Response:
        return JSONResponse(catalogue.models(door, catalogue.known(door, request)))

    async def model(request: Request) -> Response:
        return JSONResponse(catalogue.model(door, catalogue.known(door, request), request.path_params["name"]))

    async def artefacts(request: Request) -> Response:
        return JSONResponse(catalogue.artefacts(door, catalogue.known(door, request)))

    async def artefact(request: Request) -> Response:
        return JSONResponse(catalogue.artefact(door, catalogue.known(door, request), request.path_params["name"]))

    async def card(request: Request) -> Response:
        return JSONResponse(catalogue.card(door, catalogue.known(door, request), request.path_params["name"]))

    named = ({"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}},)
    _add(app, "/v1/models", models, described.reading(described.listed()))
    said = described.reading(described.told("id", "object", "steering"), "model_not_found", parameters=named)
    _add(app, "/v1/models/{name:path}", model, said)
    _add(app, "/v1/artefacts", artefacts, described.reading(described.listed()))
    said = described.reading(described.told("name", "sha256", "card", "max_dose"), "not_found", parameters=named)
    _add(app, "/v1/artefacts/{name}", artefact, said)
    said = described.reading(described.told("artefact", "sha256", "card"), "not_found", parameters=named)
    _add(app, "/v1/artefacts/{name}/card", card, said)


def _add_operation(app: FastAPI, door: Door) -> None:
    async def health(request: Request) -> Response:
        return await operation.health(door)

    async def ready(request: Request) -> Response:
        return await operation.ready(door)

    async def metrics(request: Request) -> Response:
        return await operation.metrics(door, request)

    async def audit(request: Request) -> Response:
        return JSONResponse(await operation.audit(door, request))

    async def reload(request: Request) -> Response:
        return JSONResponse(await operation.reload(door, request))

    _add(app, "/health", health, described.state())
    _add(app, "/ready", ready, described.state())
    _add(app, "/metrics", metrics, described.metrics(door.metrics.content_type))
    last = {"name": "last", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": operation.MOST_LINES}}
    said = described.reading(described.told("chain", "data"), "not_found", parameters=(last,))
    _add(app, "/v1/audit", audit, said)
    said = described.reading(described.told("artefacts"), "not_found", "reload_failed")
    _add(app, "/v1/admin/reload", reload, said, "POST")


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
        answer = _response(Refusal("method_not_allowed", f"{request.method} is not offered here"))
        answer.headers.update(error.headers or {})  # which methods are
        return answer
    return _response(Refusal("not_found", "no such route; /openapi.json lists them"))


async def _failed(request: Request, error: Exception) -> Response:
    """A fault of ours: the log has it, the client gets no word of the request."""
    told = {"error": {"message": "the server failed; its log says why", "type": "server_error", "code": "internal"}}
    return JSONResponse({"error": {**told["error"], "param": None}}, status_code=500)
