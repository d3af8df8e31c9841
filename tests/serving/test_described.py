"""``/openapi.json`` against the server: schemathesis asks every route what its description allows and what it does not,
and holds each answer to what the description says of it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import given, settings, strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS
from starlette.testclient import TestClient

from tillerman.serving.door import Door
from tillerman.serving.engine import About, Chunk, Ended, Job, Taken
from tillerman.serving.http.app import create_app

from . import made

# What a description cannot say: which artefacts, doses, lengths and token ids are right.
LEFT_OUT = ["positive_data_acceptance"]
ADMIN = ("GET /v1/audit", "POST /v1/admin/reload")
RIGHT = (None, [], "honesty@0.1", ["honesty@0.1", {"artefact": "calm", "strength": 0.1}])


@dataclass
class Reader(made.ScriptEngine):
    """Reads the tokens that it is given."""

    @property
    def about(self) -> About:
        return replace(super().about, forces=True)

    async def answer(self, job: Job) -> AsyncGenerator[Chunk | Ended, None]:
        forced = job.drawing.forced
        if not forced:
            async for event in super().answer(job):
                yield event
            return
        await asyncio.sleep(0)
        for token in forced:
            yield Chunk("x", (Taken(token, "x", -0.5),))
        yield Ended("length", len(job.prompt), len(forced), made.touched(job.plan, len(job.prompt) + len(forced)))


def door_of(path: Path, keys: bool) -> Door:
    return made.opened(path, Reader(), made.keyed(allow='["honesty", "calm"]') if keys else "", audited=keys)


def operations(door: Door) -> list[Any]:
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(door))
    return [found.ok() for found in schema.get_all_operations()]


def helped(case: Case, chance: random.Random) -> None:
    """A request that is right in form, made right in what it names, often enough to be answered."""
    if case.path_parameters and chance.random() < 0.5:
        case.path_parameters["name"] = "tiny" if "models" in case.path else "honesty"
    body = case.body
    if not isinstance(body, dict) or "model" not in body or chance.random() < 0.2:
        return
    body["model"] = "tiny"
    for name in {"steering", "against"} & set(body):
        body[name] = chance.choice(RIGHT)
    for name in {"logit_bias", "top_logprobs", "logprobs", "chat_template_kwargs", "stream_options"} & set(body):
        if chance.random() < 0.7:
            del body[name]
    for name in {"n", "max_tokens", "max_completion_tokens"} & set(body):
        body[name] = 2
    if "prompt" in body and chance.random() < 0.7:
        body["prompt"] = "the cat"
    if "answer" in body:
        body["answer"] = [3, 4]
        body.pop("messages" if body.get("prompt") else "prompt", None)


def asked(operation: Any, mode: GenerationMode, headers: dict[str, str], examples: int) -> Counter[int]:
    """How often which status was answered; a failed check raises."""
    found: Counter[int] = Counter()

    @settings(max_examples=examples)
    @given(operation.as_strategy(generation_mode=mode), st.integers(0, 2**32))
    def ask(case: Case, seed: int) -> None:
        if mode is GenerationMode.POSITIVE:
            helped(case, random.Random(seed))
        answer = case.call(headers=headers)
        found[answer.status_code] += 1
        case.validate_response(answer, excluded_checks=CHECKS.get_by_names(LEFT_OUT))

    ask()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("keys", [False, True], ids=["without keys", "with keys"])
def test_what_the_description_allows_is_answered_as_it_says(tmp_path: Path, keys: bool) -> None:
    door = door_of(tmp_path, keys)
    made.folder(tmp_path / "artefacts")
    headers = {"Authorization": f"Bearer {made.ADMIN}"} if keys else {}
    found = {one.label: asked(one, GenerationMode.POSITIVE, headers, 15) for one in operations(door)}
    assert len(found) == 14
    for label, statuses in found.items():
        if "{name}" in label:
            assert set(statuses) == {200, 404}, label
        elif label in ADMIN and not keys:
            assert set(statuses) == {403}
        else:
            assert statuses[200] >= 2, label


@pytest.mark.slow
def test_what_the_description_does_not_allow_is_a_400(tmp_path: Path) -> None:
    door = door_of(tmp_path, keys=True)
    headers = {"Authorization": f"Bearer {made.ADMIN}"}
    strict = [one for one in operations(door) if one.body or one.query]
    assert len(strict) == 5
    for one in strict:
        assert set(asked(one, GenerationMode.NEGATIVE, headers, 25)) == {400}, one.label


def test_the_examples_of_the_description_are_answered(tmp_path: Path) -> None:
    http = TestClient(create_app(door_of(tmp_path, keys=False)))
    said = http.get("/openapi.json").json()
    assert "HTTPValidationError" not in str(said)
    examples = {
        path: one["post"]["requestBody"]["content"]["application/json"]["example"]
        for path, one in said["paths"].items()
        if "requestBody" in one.get("post", {})
    }
    assert len(examples) == 4
    for path, example in examples.items():
        answer = http.post(path, json=example)
        assert answer.status_code == 200, answer.text
        assert all("error" not in one for one in answer.json().get("data", ()))
    assert http.delete("/v1/models").headers["allow"] == "GET"


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/v1/artefacts/honesty", "/v1/audit"])
def test_a_parameter_that_a_route_does_not_have_is_refused(tmp_path: Path, path: str) -> None:
    http = TestClient(create_app(door_of(tmp_path, keys=True)), headers={"Authorization": f"Bearer {made.ADMIN}"})
    assert http.get(path).status_code == 200
    error = http.get(path, params={"limit": 5}).json()["error"]
    assert (error["code"], error["param"]) == ("malformed", "limit")
    assert http.get("/v1/audit?last=5&last=6").json()["error"]["message"] == "last: stands twice"
