"""What ``/openapi.json`` says: what each route takes, what it answers, and with which status it refuses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from openai.types import Completion
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from tillerman.serving.http.bodies import StrictBody
from tillerman.serving.refusals import CODES

_JSON, _EVENTS = "application/json", "text/event-stream"
_ANYWHERE = ("malformed", "invalid_api_key", "forbidden", "rate_limit_exceeded")  # of every route that asks who asks
_OF_BODIES = ("timeout", "too_large", "not_json")
_OF_PLANS = (
    "model_not_found",
    "busy",
    "engine_down",
    "not_proved",
    "audit_failed",
    "stopping",
    "not_applied",
    "engine_error",
)

Described = Mapping[str, Any]


@dataclass(frozen=True)
class Route:
    """One route's part of OpenAPI's description, as FastAPI takes it."""

    responses: dict[int | str, dict[str, Any]]
    extra: dict[str, Any]


def answering(kind: type[StrictBody], answer: Described, example: Described, *, streams: bool = False) -> Route:
    """Of a route that takes a body and runs the model."""
    told = {_JSON: {"schema": answer}} | ({_EVENTS: {"schema": {"type": "string"}}} if streams else {})
    header = {"name": "X-Tillerman-Steering", "in": "header", "schema": {"type": "string"}}
    return Route(
        _responses(told, (*_ANYWHERE, *_OF_BODIES, *_OF_PLANS)),
        {**_body(kind, example), **_KEYED} | ({"parameters": [header]} if streams else {}),
    )


def checking(kind: type[StrictBody], example: Described) -> Route:
    """Of a route that takes a body and runs nothing."""
    return Route(
        _responses({_JSON: {"schema": listed("engine")}}, (*_ANYWHERE, *_OF_BODIES)),
        {**_body(kind, example), **_KEYED},
    )


def reading(answer: Described, *codes: str, parameters: Iterable[Described] = ()) -> Route:
    """Of a route that takes no body; ``codes`` are those of its refusals beside those of every route."""
    found = list(parameters)
    return Route(
        _responses({_JSON: {"schema": answer}}, (*_ANYWHERE, *codes)),
        {**_KEYED, **({"parameters": found} if found else {})},
    )


def metrics(kind: str) -> Route:
    told = {kind.partition(";")[0]: {"schema": {"type": "string"}}}
    return Route(_responses(told, ("malformed", "invalid_api_key", "forbidden")), _KEYED)


def state() -> Route:
    """Of a route that says by its status how the server is."""
    answer = {_JSON: {"schema": {"type": "object", "required": ["status"]}}}
    down = {"description": "it is not so", "content": answer}
    return Route(
        {200: {"description": "it is so", "content": answer}, 503: down, **_refusals(("malformed", "forbidden"))}, {}
    )


def listed(*more: str) -> Described:
    """A list of objects, in OpenAI's form, with more beside it."""
    data = {"type": "array", "items": {"type": "object"}}
    return {"type": "object", "required": ["object", "data", *more], "properties": {"data": data}}


def told(*names: str) -> Described:
    """An object that has these."""
    return {"type": "object", "required": list(names)}


def receipted(name: str) -> Described:
    """An answer of OpenAI's that has its receipt."""
    both = {"steering": _ref("Receipt"), "seed": {"type": "integer"}}
    return {"allOf": [_ref(name), {"type": "object", "required": list(both), "properties": both}]}


COMPARED: Described = {
    "type": "object",
    "required": ["tokens", "steering", "against"],
    "properties": {"steering": {"$ref": "#/components/schemas/Receipt"}},
}


class DescribedApp(FastAPI):
    """An app whose description holds all that the routes name, and nothing that does not happen."""

    bodies: tuple[type[BaseModel], ...] = ()

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            whole = super().openapi()
            for path in whole["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)  # FastAPI's own; here it is a 400
            whole["components"] = {"schemas": self._schemas(), "securitySchemes": {"key": _BEARER}}
            self.openapi_schema = whole
        return self.openapi_schema

    def _schemas(self) -> dict[str, Any]:
        found: dict[str, Any] = {"Refusal": _REFUSAL, "Receipt": _RECEIPT}
        kinds: tuple[type[BaseModel], ...] = (*self.bodies, ChatCompletion, Completion)
        for kind in kinds:
            made = kind.model_json_schema(ref_template=_ref("{model}")["$ref"])
            found |= made.pop("$defs", {})
            found[kind.__name__] = made
        return found


def _responses(told: Described, codes: Iterable[str]) -> dict[int | str, dict[str, Any]]:
    return {200: {"description": "as asked", "content": dict(told)}, **_refusals(codes)}


def _refusals(codes: Iterable[str]) -> dict[int | str, dict[str, Any]]:
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(CODES[code][0], []).append(code)
    content = {_JSON: {"schema": _ref("Refusal")}}
    return {status: {"description": ", ".join(names), "content": content} for status, names in by_status.items()}


def _body(kind: type[StrictBody], example: Described) -> dict[str, Any]:
    content = {_JSON: {"schema": _ref(kind.__name__), "example": dict(example)}}
    return {"requestBody": {"required": True, "content": content}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


_BEARER = {"type": "http", "scheme": "bearer", "description": "a key of 'tillerman keys new', where the server has any"}
_KEYED: dict[str, Any] = {"security": [{"key": []}, {}]}
_TEXT, _NUMBER = {"type": "string"}, {"type": "number"}
_REFUSAL: Described = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": _TEXT,
                "type": _TEXT,
                "param": {"type": ["string", "null"]},
                "code": {"enum": sorted(CODES)},
            },
        }
    },
}
_MONITORED: Described = {
    "type": "object",
    "description": "one of the server's monitors; a list has a value per answer, null where it was not crossed",
    "required": ["monitor", "artefact", "condition", "action", "crossed", "values"],
    "properties": {
        "monitor": _TEXT,
        "artefact": _TEXT,
        "condition": _TEXT,
        "action": {"enum": ["warn", "abort", "steer"]},
        "crossed": {"type": "array", "items": {"type": ["integer", "null"]}},
        "values": {"type": "array", "items": {"type": ["number", "null"]}},
        "steered_from": {"type": "array", "items": {"type": ["integer", "null"]}},
        "applied": {"type": "array", "items": {"type": "object"}},
    },
}
_RECEIPT: Described = {
    "type": "object",
    "description": "what was done to an answer; nothing was, where 'applied' is empty",
    "required": ["plan", "engine", "cached_prompt_tokens", "applied", "warnings"],
    "properties": {
        "plan": _TEXT,
        "engine": _TEXT,
        "cached_prompt_tokens": {"type": "integer"},
        "applied": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["artefact", "sha256", "operator", "at", "strength", "dose", "scope", "gate"],
                "properties": {
                    "artefact": _TEXT,
                    "sha256": _TEXT,
                    "operator": _TEXT,
                    "at": {"type": "object", "additionalProperties": {"type": "integer"}},
                    "strength": _NUMBER,
                    "dose": _NUMBER,
                    "scope": _TEXT,
                    "gate": {"type": ["object", "null"]},
                },
            },
        },
        "warnings": {"type": "array", "items": _TEXT},
        "monitors": {"type": "array", "items": _MONITORED},
        "endings": {"type": "array", "items": {"enum": ["stop", "length", "aborted"]}},
    },
}
