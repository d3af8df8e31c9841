"""Requests and answers: OpenAI's wire, our field, and every way to be refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from starlette.testclient import TestClient

from tillerman.serving.door import Door
from tillerman.serving.engine import Ended, Touched
from tillerman.serving.http.app import create_app

from . import made

ASK = {"model": "tiny", "messages": [{"role": "user", "content": "Who are you?"}]}
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    door = made.opened(tmp_path)
    yield door
    assert door.audit is not None
    door.audit.close()


def client(door: Door, key: str | None = None) -> TestClient:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return TestClient(create_app(door), headers=headers)


def ask(door: Door, key: str | None = None, path: str = CHAT, **more: Any) -> Any:
    base = ASK if path == CHAT else {"model": "tiny", "prompt": "Who"}
    return client(door, key).post(path, json={**base, **more})


def refused(answer: Any, status: int, code: str, param: str | None) -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, param) and error["message"] and error["type"]


def engine_of(door: Door) -> made.ScriptEngine:
    assert isinstance(door.engine, made.ScriptEngine)
    return door.engine


def events(answer: Any) -> list[Any]:
    parts = [part.removeprefix("data: ") for part in answer.text.split("\n\n") if part]
    return [part if part == "[DONE]" else json.loads(part) for part in parts]


# ---- answers


def test_a_chat_answer_is_openais_with_a_receipt(door: Door) -> None:
    answer = ask(door, steering="honesty@0.4")
    told = answer.json()
    ChatCompletion.model_validate(told, strict=True)
    assert told["choices"][0]["message"]["content"] == "Hello there"
    assert told["usage"]["completion_tokens"] == 3
    job = engine_of(door).jobs[0]
    assert told["steering"] == {
        "plan": job.fingerprint,
        "engine": "script-1",
        "cached_prompt_tokens": 0,
        "applied": [
            {
                "artefact": "honesty",
                "sha256": door.rules.library["honesty"].sha256[:12],
                "operator": "add",
                "at": {"layers.0.resid_post": len(job.prompt) + 3},
                "strength": pytest.approx(0.4 / 1.5),
                "dose": pytest.approx(0.4),
                "scope": "all",
                "gate": None,
            }
        ],
        "warnings": [],
    }
    assert answer.headers["x-tillerman-plan"] == job.fingerprint
    assert answer.headers["x-tillerman-engine"] == "script-1"
    assert job.names == ("honesty",) and job.plan[0].strength == pytest.approx(0.4 / 1.5)


def test_an_unsteered_answer_says_so(door: Door) -> None:
    assert ask(door).json()["steering"]["applied"] == []
    assert engine_of(door).jobs[0].plan == ()


@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_a_stream_ends_with_reason_receipt_usage_and_done(door: Door, path: str) -> None:
    told = events(ask(door, path=path, steering="calm", stream=True, stream_options={"include_usage": True}))
    assert told[-1] == "[DONE]"
    for one in told[:-1] if path == CHAT else told[-3:-1]:  # a Completion that goes on has a reason of null, untyped
        (ChatCompletionChunk if path == CHAT else Completion).model_validate(one, strict=True)
    *pieces, reason, usage = told[:-1]
    read = [one["choices"][0]["delta"].get("content") if path == CHAT else one["choices"][0]["text"] for one in pieces]
    assert "".join(filter(None, read)) == "Hello there"
    assert reason["choices"][0]["finish_reason"] == "stop"
    assert reason["steering"]["applied"][0]["artefact"] == "calm" and "seed" in reason
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == 3


def test_several_answers_have_seeds_of_their_own_and_one_receipt(door: Door) -> None:
    told = ask(door, steering="calm", n=3, seed=7).json()
    assert [choice["index"] for choice in told["choices"]] == [0, 1, 2] and told["seed"] == 7
    jobs = engine_of(door).jobs
    assert sorted(job.drawing.seed for job in jobs) == [7, 8, 9]
    assert told["usage"]["prompt_tokens"] == len(jobs[0].prompt) and told["usage"]["completion_tokens"] == 9
    assert told["steering"]["applied"][0]["at"] == {"layers.1.resid_post": 3 * (len(jobs[0].prompt) + 3)}
    streamed = events(ask(door, steering="calm", n=3, stream=True))
    assert {choice["index"] for one in streamed[:-1] for choice in one["choices"]} == {0, 1, 2}
    assert sum("steering" in one for one in streamed[:-1]) == 1


def test_a_seed_that_is_not_given_is_drawn_and_told(door: Door) -> None:
    seeds = {ask(door).json()["seed"] for _ in range(3)}
    assert len(seeds) == 3 and seeds == {job.drawing.seed for job in engine_of(door).jobs}


def test_every_field_of_sampling_reaches_the_engine(door: Door) -> None:
    ask(
        door,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        seed=3,
        stop=["a", "b"],
        max_completion_tokens=2,
        logit_bias={"5": -100},
        presence_penalty=0.1,
        frequency_penalty=0.2,
        logprobs=True,
        top_logprobs=2,
    )
    drawing = engine_of(door).jobs[0].drawing
    assert (drawing.max_tokens, drawing.temperature, drawing.top_p, drawing.top_k, drawing.seed) == (2, 0.5, 0.9, 40, 3)
    assert (drawing.stop, drawing.logit_bias, drawing.logprobs) == (("a", "b"), {5: -100.0}, 2)
    assert (drawing.presence_penalty, drawing.frequency_penalty) == (0.1, 0.2)


def test_without_a_limit_an_answer_may_fill_what_room_there_is(door: Door) -> None:
    ask(door)
    job = engine_of(door).jobs[0]
    assert job.drawing.max_tokens == 256 - len(job.prompt)
    ask(door, path=TEXT)
    assert engine_of(door).jobs[1].drawing.max_tokens == 16


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_are_told_in_both_shapes(door: Door, stream: bool) -> None:
    chat = ask(door, logprobs=True, top_logprobs=1, stream=stream)
    text = ask(door, path=TEXT, logprobs=1, stream=stream)
    if stream:
        parts = [one["choices"][0]["logprobs"] for one in events(chat)[:-1] if one["choices"][0]["logprobs"]]
        content = [token for part in parts for token in part["content"]]
        offsets = [
            n
            for one in events(text)[:-1]
            for n in (one["choices"][0]["logprobs"] or {"text_offset": []})["text_offset"]
        ]
    else:
        content = chat.json()["choices"][0]["logprobs"]["content"]
        offsets = text.json()["choices"][0]["logprobs"]["text_offset"]
    assert [token["token"] for token in content] == ["Hel", "lo", " there"] and offsets == [0, 3, 5]
    assert content[0] == {
        "token": "Hel",
        "bytes": list(b"Hel"),
        "logprob": -0.5,
        "token_id": 0,
        "top_logprobs": [{"token": "t0", "bytes": list(b"t0"), "logprob": -1.0}],
    }


def test_prompts_come_as_texts_and_as_token_ids_one_or_several(door: Door) -> None:
    tokens = made.tiny.tokenizer(made.tiny.CHAT)("the cat")["input_ids"]
    for prompt, expected in (
        ("the cat", [tokens]),
        (["the cat", "the cat"], [tokens, tokens]),
        (tokens, [tokens]),
        ([tokens, [1]], [tokens, [1]]),
    ):
        engine_of(door).jobs.clear()
        told = ask(door, path=TEXT, prompt=prompt).json()
        assert [list(job.prompt) for job in sorted(engine_of(door).jobs, key=lambda job: job.id)] == expected
        assert len(told["choices"]) == len(expected)


def test_parts_of_messages_and_the_role_developer_reach_the_template(door: Door) -> None:
    parts = [{"type": "text", "text": "Who "}, {"type": "text", "text": "are you?"}]
    ask(door, messages=[{"role": "developer", "content": "Be kind."}, {"role": "user", "content": parts}])
    said = made.tiny.tokenizer(made.tiny.CHAT).decode(engine_of(door).jobs[0].prompt)
    assert said == "<|system|>\nBe kind.<|end|>\n<|user|>\nWho are you?<|end|>\n<|assistant|>\n"


# ---- three ways to name a plan


def test_field_header_model_and_preset_name_the_same_plan(tmp_path: Path) -> None:
    door = made.opened(tmp_path, text='[presets]\nkind = "calm@0.2"\n')
    plans = {
        ask(door, steering="calm@0.2").json()["steering"]["plan"],
        ask(door, steering=[{"artefact": "calm", "dose": 0.2}]).json()["steering"]["plan"],
        ask(door, model="tiny+calm@0.2").json()["steering"]["plan"],
        ask(door, model="kind").json()["steering"]["plan"],
        client(door).post(CHAT, json=ASK, headers={"X-Tillerman-Steering": "calm@0.2"}).json()["steering"]["plan"],
    }
    assert len(plans) == 1
    listed = [one["id"] for one in client(door).get("/v1/models").json()["data"]]
    assert listed == ["tiny", "kind", "tiny+calm", "tiny+honesty"]


def test_a_default_holds_unless_a_request_says_otherwise(tmp_path: Path) -> None:
    door = made.opened(tmp_path, text='[policy]\ndefault = "calm@0.1"\n')
    assert ask(door).json()["steering"]["applied"][0]["artefact"] == "calm"
    assert ask(door, steering=[]).json()["steering"]["applied"] == []
    assert ask(door, steering="honesty").json()["steering"]["applied"][0]["artefact"] == "honesty"
    empty = client(door).post(CHAT, json=ASK, headers={"X-Tillerman-Steering": ""})
    assert empty.json()["steering"]["applied"] == []


def test_a_plan_that_is_given_twice_is_refused(door: Door) -> None:
    twice = client(door).post(CHAT, json={**ASK, "steering": "calm"}, headers={"X-Tillerman-Steering": "calm"})
    refused(twice, 400, "malformed", "steering")
    refused(ask(door, model="tiny+calm", steering="calm"), 400, "malformed", "model")


# ---- refusals


@pytest.mark.parametrize(
    ("more", "code", "param"),
    [
        ({"tools": [{"type": "function"}]}, "unsupported", "tools"),
        ({"tool_choice": "auto"}, "unsupported", "tool_choice"),
        ({"functions": []}, "unsupported", "functions"),
        ({"response_format": {"type": "json_object"}}, "unsupported", "response_format"),
        ({"modalities": ["text", "audio"]}, "unsupported", "modalities"),
        ({"reasoning_effort": "low"}, "unsupported", "reasoning_effort"),
        ({"store": True}, "unsupported", "store"),
        ({"colour": "red"}, "malformed", "colour"),
        ({"steeering": "honesty"}, "malformed", "steeering"),
        ({"temperature": 3}, "malformed", "temperature"),
        ({"temperature": "hot"}, "malformed", "temperature"),
        ({"top_p": 0}, "malformed", "top_p"),
        ({"n": 0}, "malformed", "n"),
        ({"n": 17}, "over_cap", "n"),
        ({"n": 2**60}, "over_cap", "n"),
        ({"n": True}, "malformed", "n"),
        ({"seed": 1.5}, "malformed", "seed"),
        ({"seed": 2**64}, "malformed", "seed"),
        ({"stop": ""}, "malformed", "stop"),
        ({"stop": ["x"] * 17}, "malformed", "stop"),
        ({"logit_bias": {"x": 1}}, "malformed", "logit_bias"),
        ({"logit_bias": {"99999": 1}}, "malformed", "logit_bias"),
        ({"logit_bias": {"1": 101}}, "malformed", "logit_bias.1"),
        ({"max_tokens": 0}, "malformed", "max_tokens"),
        ({"max_tokens": 2000}, "over_cap", "max_tokens"),
        ({"max_tokens": 256}, "context_length_exceeded", "messages"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "malformed", "max_completion_tokens"),
        ({"top_logprobs": 2}, "malformed", "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "malformed", "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "malformed", "stream_options"),
        ({"stream": True, "stream_options": {"colour": 1}}, "malformed", "stream_options.colour"),
        ({"messages": []}, "malformed", "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "malformed", "messages.0.role"),
        ({"messages": [{"role": "user", "content": None}]}, "malformed", "messages.0.content"),
        ({"messages": [{"role": "user", "content": "x", "name": "bob"}]}, "unsupported", "messages.name"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc"}}]}]},
            "malformed",
            "messages.0.content.0.image_url",
        ),
        ({"chat_template_kwargs": {"colour": 1}}, "malformed", "chat_template_kwargs"),
        ({"steering": "honesty@1.01"}, "over_cap", "steering"),
        ({"steering": "nobody"}, "unknown_artefact", "steering"),
        ({"steering": "../honesty"}, "unknown_artefact", "steering"),
        ({"steering": "honesty@@"}, "malformed", "steering"),
        ({"steering": "honesty:positions:400"}, "no_token", "steering"),
        ({"steering": ["honesty"] * 9}, "over_cap", "steering"),
        ({"model": None}, "malformed", "model"),
    ],
)
def test_what_cannot_be_done_is_a_400_that_names_the_field(door: Door, more: Any, code: str, param: str) -> None:
    answer = ask(door, **more)
    refused(answer, 400, code, param)
    assert engine_of(door).jobs == []
    assert [(line["event"], line["id"]) for line in made.audited(door)] == [("refused", answer.headers["x-request-id"])]


@pytest.mark.parametrize(
    ("more", "code", "param"),
    [
        ({"echo": True}, "unsupported", "echo"),
        ({"suffix": "x"}, "unsupported", "suffix"),
        ({"best_of": 2}, "unsupported", "best_of"),
        ({"prompt": ""}, "malformed", "prompt"),
        ({"prompt": []}, "malformed", "prompt"),
        ({"prompt": [99999]}, "malformed", "prompt"),
        ({"prompt": ["x"] * 300}, "over_cap", "prompt"),
        ({"prompt": "x", "messages": []}, "malformed", "messages"),
    ],
)
def test_the_same_of_plain_completions(door: Door, more: Any, code: str, param: str) -> None:
    if more.get("prompt") == "":  # this tokenizer writes nothing before a text
        assert made.tiny.tokenizer(made.tiny.CHAT)("")["input_ids"] == []
    refused(ask(door, path=TEXT, **more), 400, code, param)


def test_fields_that_ask_for_nothing_are_taken(door: Door) -> None:
    nothing = {"tools": None, "tool_choice": "none", "response_format": {"type": "text"}, "store": False, "n": None}
    assert ask(door, **nothing, user="u-1", temperature=None, stop=None).status_code == 200
    assert made.audited(door)[0]["user"] == "u-1"


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"model": NaN}', b'{"a": 1, "a": 1}', b"[" * 100_000, b"1" * 5000],
)
def test_a_body_that_is_no_json_object_is_refused(door: Door, raw: bytes) -> None:
    answer = client(door).post(CHAT, content=raw, headers={"Content-Type": "application/json"})
    refused(answer, 400, "malformed", None)


def test_a_number_too_large_for_a_float_is_none(door: Door) -> None:
    raw = json.dumps({**ASK, "steering": [{"artefact": "calm", "dose": 7}]}).replace("7", "1e999")
    answer = client(door).post(CHAT, content=raw, headers={"Content-Type": "application/json"})
    refused(answer, 400, "malformed", "steering")


def test_only_json_is_taken_so_that_a_page_elsewhere_cannot_ask(door: Door) -> None:
    answer = client(door).post(CHAT, content=json.dumps(ASK), headers={"Content-Type": "text/plain"})
    refused(answer, 415, "not_json", None)


def test_a_model_that_is_not_here_is_not_found(door: Door) -> None:
    refused(ask(door, model="gpt-4"), 404, "model_not_found", "model")
    refused(client(door).get("/v1/models/gpt-4"), 404, "model_not_found", "model")
    assert client(door).get("/v1/models/tiny+calm").json()["id"] == "tiny+calm"


def test_what_the_engine_cannot_do_is_refused_before_any_token(door: Door) -> None:
    engine_of(door).cannot = "no gates here"
    refused(ask(door, steering="calm"), 400, "not_servable", "steering")


def test_a_model_without_a_template_has_no_chat(door: Door) -> None:
    door.prompts = made.PromptReader(made.tiny.tokenizer(None))
    refused(ask(door), 400, "unsupported", "messages")
    assert ask(door, path=TEXT).status_code == 200


def test_messages_that_the_template_refuses_are_a_400(door: Door) -> None:
    door.prompts = made.PromptReader(made.tiny.tokenizer(made.tiny.CHAT_WITHOUT_SYSTEM))
    answer = ask(door, messages=[{"role": "system", "content": "Be kind."}])
    refused(answer, 400, "malformed", "messages")
    assert "no system role" in answer.json()["error"]["message"]


def test_routes_and_methods_that_there_are_not_are_told_in_the_same_form(door: Door) -> None:
    refused(client(door).get("/v2"), 404, "not_found", None)
    refused(client(door).get(CHAT), 405, "method_not_allowed", None)


def test_limits_of_size_and_of_answers_at_a_time(tmp_path: Path) -> None:
    door = made.opened(tmp_path, text="[limits]\nbody_bytes = 200\nrunning = 2\nchoices = 4\n")
    long = {"messages": [{"role": "user", "content": "x" * 200}]}
    refused(ask(door, **long), 413, "too_large", None)
    busy = ask(door, n=3)
    refused(busy, 503, "busy", None)
    assert busy.headers["retry-after"] == "1"
    assert ask(door, n=2).status_code == 200 and ask(door, n=2).status_code == 200


# ---- keys


def test_keys_open_what_they_allow_and_no_more(tmp_path: Path) -> None:
    door = made.opened(tmp_path, text=made.keyed(max_dose="0.3", requests_per_minute="5"))
    refused(ask(door), 401, "invalid_api_key", None)
    refused(ask(door, "tlm-other"), 401, "invalid_api_key", None)
    assert ask(door, made.KEY, steering="honesty@0.3").status_code == 200
    refused(ask(door, made.KEY, steering="calm@0.1"), 403, "forbidden", "steering")
    refused(ask(door, made.KEY, steering="honesty@0.31"), 400, "over_cap", "steering")
    alice = client(door, made.KEY)
    assert [one["name"] for one in alice.get("/v1/artefacts").json()["data"]] == ["honesty"]
    refused(alice.get("/v1/artefacts/calm"), 404, "not_found", None)
    late = ask(door, made.KEY)
    refused(late, 429, "rate_limit_exceeded", None)
    assert int(late.headers["retry-after"]) >= 1
    assert [line.get("key") for line in made.audited(door)] == ["alice", None, "alice", "alice"]


def test_artefacts_and_cards_are_told_without_tensors_and_paths(door: Door, tmp_path: Path) -> None:
    listed = client(door).get("/v1/artefacts")
    assert {one["name"]: one["max_dose"] for one in listed.json()["data"]} == {"calm": 1.0, "honesty": 1.0}
    card = client(door).get("/v1/artefacts/honesty/card")
    assert card.json()["card"]["effect_found"] is True and "model" not in card.json()["card"]
    for answer in (listed, card, client(door).get("/v1/artefacts/honesty")):
        assert str(tmp_path) not in answer.text and "directions" not in answer.text
    refused(client(door).get("/v1/artefacts/nobody/card"), 404, "not_found", None)
    assert client(door).get("/v1/artefacts/..%2F..%2Fetc/card").status_code == 404


# ---- fail closed


def shut(plan_tokens: int) -> Ended:
    return Ended("stop", 5, 3, (Touched({"layers.1.resid_post": plan_tokens}),))


@pytest.mark.parametrize(
    "ended",
    [
        Ended("stop", 5, 3, ()),
        shut(0),
        Ended("stop", 5, 3, (Touched({}),)),
        Ended("stop", 5, 3, (Touched({"layers.0.resid_post": 8}),)),
        Ended("stop", 5, 3, (Touched({"layers.1.resid_post": 8}), Touched({"layers.1.resid_post": 8}))),
    ],
    ids=["no receipt", "no token", "no hook point", "another hook point", "one too many"],
)
def test_an_answer_whose_receipt_is_not_its_plan_is_withheld(door: Door, ended: Ended) -> None:
    engine_of(door).ended = ended
    refused(ask(door, steering="calm"), 502, "not_applied", "steering")
    told = events(ask(door, steering="calm", stream=True))
    assert told[-1]["error"]["code"] == "not_applied" and "[DONE]" not in told
    assert "tillerman_unsteered_caught_total 2.0" in client(door).get("/metrics").text
    assert [line.get("outcome") for line in made.audited(door)] == [None, "not_applied"] * 2


def test_an_unsteered_answer_that_was_steered_is_withheld_too(door: Door) -> None:
    engine_of(door).ended = shut(8)
    refused(ask(door), 502, "not_applied", "steering")


def test_an_engine_that_fails_gives_no_answer_and_no_word_of_its_own(door: Door) -> None:
    engine_of(door).fault = RuntimeError("/secret/path of the prompt")
    answer = ask(door, steering="calm")
    refused(answer, 502, "engine_error", None)
    assert "secret" not in answer.text
    told = events(ask(door, steering="calm", stream=True, n=2))
    assert told[-1]["error"]["code"] == "engine_error"
    engine_of(door).fault = None
    engine_of(door).ended = replace(shut(8), ending="error", why="no finite numbers")
    answer = ask(door, steering="calm")
    refused(answer, 502, "engine_error", None)
    assert "no finite numbers" in answer.text


# ---- operation


def test_health_ready_metrics(door: Door) -> None:
    ask(door, steering="calm@0.2")
    ask(door, steering="nobody")
    http = client(door)
    assert http.get("/health").status_code == 200 and http.get("/ready").json()["status"] == "ready"
    told = http.get("/metrics").text
    for line in (
        'tillerman_requests_total{artefact="calm",outcome="answered"} 1.0',
        'tillerman_refused_total{code="unknown_artefact"} 1.0',
        "tillerman_unsteered_caught_total 0.0",
        "tillerman_answers_running 0.0",
        'tillerman_dose_bucket{le="0.2"} 1.0',
    ):
        assert line in told.splitlines()
    engine_of(door).ill = "the engine's process died"
    assert http.get("/health").status_code == 503 and http.get("/ready").status_code == 503
    engine_of(door).ill = None
    door.stopping = True
    assert http.get("/ready").status_code == 503
    refused(ask(door), 503, "stopping", None)


def test_the_audit_is_for_admins_and_says_whether_it_is_whole(tmp_path: Path) -> None:
    door = made.opened(tmp_path, text=made.keyed())
    ask(door, made.KEY, steering="honesty@0.2")
    refused(client(door, made.KEY).get("/v1/audit"), 403, "forbidden", None)
    told = client(door, made.ADMIN).get("/v1/audit?last=2").json()
    assert told["chain"] == 2
    admitted, ended = told["data"]
    assert admitted["key"] == "alice" and admitted["acts"][0]["dose"] == pytest.approx(0.2)
    assert len(admitted["prompts"][0]["prompt_sha256"]) == 64 and "Who are you" not in json.dumps(told)
    assert (
        ended["outcome"] == "answered" and ended["receipt"]["plan"] == admitted["plan"] and ended["answer_tokens"] == 3
    )
    refused(client(door, made.ADMIN).get("/v1/audit?last=0"), 400, "malformed", "last")


def test_without_keys_nobody_is_admin(door: Door) -> None:
    refused(client(door).post("/v1/admin/reload"), 403, "forbidden", None)


def test_a_reload_takes_all_or_nothing(tmp_path: Path) -> None:
    door = made.opened(tmp_path, text=made.keyed())
    admin = client(door, made.ADMIN)
    made.folder(tmp_path / "artefacts")
    made.folder(tmp_path / "artefacts", {"brave": made.artefact(2, seed=5)})
    assert admin.post("/v1/admin/reload").json() == {"artefacts": ["brave", "calm", "honesty"], "left_out": {}}
    assert ask(door, made.ADMIN, steering="brave@0.1").status_code == 200
    (tmp_path / "artefacts" / "calm.safetensors").write_bytes(b"torn")
    refused(admin.post("/v1/admin/reload"), 409, "reload_failed", None)
    assert ask(door, made.ADMIN, steering="calm@0.1").status_code == 200
    (tmp_path / "artefacts" / "calm.safetensors").unlink()
    assert admin.post("/v1/admin/reload").status_code == 200
    refused(ask(door, made.ADMIN, steering="calm@0.1"), 400, "unknown_artefact", "steering")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a system without /dev/full")
def test_what_cannot_be_audited_is_not_answered(tmp_path: Path) -> None:
    door = made.opened(tmp_path, audited=False)
    door.audit = made.Audit(Path("/dev/full"))
    refused(ask(door), 503, "audit_failed", None)
    assert engine_of(door).jobs == []
    door.audit.close()


def test_an_audit_that_fails_in_the_middle_withholds_the_end(tmp_path: Path) -> None:
    """The disk that held the first line does not take the last one."""
    for stream in (False, True):
        door = made.opened(tmp_path / str(stream))
        assert door.audit is not None
        engine_of(door).midway = door.audit.close
        answer = ask(door, stream=stream)
        if stream:
            told = events(answer)
            assert told[-1]["error"]["code"] == "audit_failed" and "[DONE]" not in told
            assert not any("steering" in one for one in told)
        else:
            refused(answer, 503, "audit_failed", None)
        assert "tillerman_answers_running 0.0" in door.metrics.text().decode()
        assert [line["event"] for line in made.audited(door)] == ["admitted"]


def test_only_the_hosts_that_it_is_called_by_are_answered(door: Door) -> None:
    """A page that resolves its own name to 127.0.0.1 (DNS rebinding) gets nothing."""
    http = TestClient(create_app(door, ("localhost", "127.0.0.1", "::1")))
    assert http.get("/health", headers={"Host": "127.0.0.1:8000"}).status_code == 200
    assert http.get("/health", headers={"Host": "[::1]:8000"}).status_code == 200
    refused(http.get("/health", headers={"Host": "evil.example"}), 403, "forbidden", None)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def unaudited(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    return client(made.opened(tmp_path_factory.mktemp("junk"), audited=False))


@pytest.mark.slow
@settings(max_examples=60)
@given(
    st.sampled_from([CHAT, TEXT]),
    st.dictionaries(
        st.sampled_from(["model", "messages", "prompt", "steering", "n", "stop", "stream", "logit_bias", "max_tokens"])
        | st.text(max_size=5),
        JUNK | st.just("tiny"),
        max_size=5,
    ),
)
def test_no_request_is_a_fault_of_ours(unaudited: TestClient, path: str, more: Any) -> None:
    base = ASK if path == CHAT else {"model": "tiny", "prompt": "Who"}
    answer = unaudited.post(path, json={**base, **more})
    assert answer.status_code in (200, 400, 404, 503), answer.text
