"""A server that listens: OpenAI's own clients, curl, our client, and clients that go away or are slow."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tillerman.core.errors import EndpointError, NotAppliedError, UsageError
from tillerman.serving.client import SteeringClient, ensure_applied
from tillerman.serving.door import Door
from tillerman.serving.engine import Ended
from tillerman.serving.http.server import Address, bound
from tillerman.serving.settings import KeySettings, Settings

from . import made

SAID = [{"role": "user", "content": "Who are you?"}]


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    door = made.opened(tmp_path)
    yield door
    assert door.audit is not None
    door.audit.close()


def _head(length: int) -> bytes:
    lines = (
        "POST /v1/chat/completions HTTP/1.1",
        "Host: x",
        "Content-Type: application/json",
        f"Content-Length: {length}",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def engine_of(door: Door) -> made.ScriptEngine:
    assert isinstance(door.engine, made.ScriptEngine)
    return door.engine


def test_the_openai_sdk_reads_answers_streams_and_refusals(door: Door) -> None:
    with made.listening(door) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as sdk:
        answer = sdk.chat.completions.create(model="tiny", messages=SAID, extra_body={"steering": "honesty@0.4"})
        assert answer.choices[0].message.content == "Hello there"
        assert answer.model_extra["steering"]["applied"][0]["artefact"] == "honesty"
        parts = list(sdk.chat.completions.create(model="tiny+calm@0.1", messages=SAID, stream=True))
        assert "".join(part.choices[0].delta.content or "" for part in parts) == "Hello there"
        assert parts[-1].model_extra["steering"]["applied"][0]["dose"] == pytest.approx(0.1)
        header = {"X-Tillerman-Steering": "calm"}
        text = sdk.completions.create(model="tiny", prompt="Who", logprobs=1, extra_headers=header)
        assert text.choices[0].text == "Hello there" and text.choices[0].logprobs.tokens == ["Hel", "lo", " there"]
        assert [one.id for one in sdk.models.list()] == ["tiny", "tiny+calm", "tiny+honesty"]
        with pytest.raises(openai.BadRequestError, match="over the cap") as refused:
            sdk.chat.completions.create(model="tiny", messages=SAID, extra_body={"steering": "honesty@4"})
        assert refused.value.code == "over_cap" and refused.value.param == "steering"
        with pytest.raises(openai.BadRequestError, match="tools"):
            tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
            sdk.chat.completions.create(model="tiny", messages=SAID, tools=[tool])
        engine_of(door).ended = Ended("stop", 5, 3, ())
        with pytest.raises(openai.APIError, match="not steered as asked"):
            list(sdk.chat.completions.create(model="tiny+calm", messages=SAID, stream=True))
        with pytest.raises(openai.InternalServerError, match="not steered as asked"):
            sdk.chat.completions.create(model="tiny+calm", messages=SAID)


def test_the_openai_sdk_asks_many_at_a_time(door: Door) -> None:
    async def ask_all(url: str) -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as sdk:
            plans = [f"honesty@{dose / 100}" for dose in range(1, 17)]
            asked = [
                sdk.chat.completions.create(model="tiny", messages=SAID, extra_body={"steering": plan})
                for plan in plans
            ]
            stream = await sdk.chat.completions.create(model="tiny", messages=SAID, stream=True)
            assert "".join([part.choices[0].delta.content or "" async for part in stream]) == "Hello there"
            return [answer.model_extra["steering"]["plan"] for answer in await asyncio.gather(*asked)]

    engine_of(door).pause = 0.01
    with made.listening(door) as url:
        assert len(set(asyncio.run(ask_all(url)))) == 16
    lines = made.audited(door)
    assert [sum(line["event"] == event for line in lines) for event in ("admitted", "ended")] == [17, 17]


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_curl_reads_a_receipt_and_a_stream(door: Door) -> None:
    with made.listening(door) as url:

        def curl(*more: str, **body: object) -> str:
            asked = json.dumps({"model": "tiny", "messages": SAID, **body})
            command = ["curl", "-sN", f"{url}/v1/chat/completions", "-H", "Content-Type: application/json", *more]
            return subprocess.run([*command, "-d", asked], capture_output=True, text=True, check=True).stdout

        assert json.loads(curl(steering="calm"))["steering"]["applied"][0]["artefact"] == "calm"
        assert json.loads(curl("-H", "X-Tillerman-Steering: calm@0.1"))["steering"]["applied"][0]["dose"] == 0.1
        assert curl(stream=True).endswith("data: [DONE]\n\n")
        broken = ["curl", "-s", f"{url}/v1/chat/completions", "-H", "Content-Type: application/json", "-d", "{"]
        said = subprocess.run(broken, capture_output=True, text=True, check=True).stdout
        assert json.loads(said)["error"]["code"] == "malformed"


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_frees_its_row_and_is_written_down(door: Door, stream: bool) -> None:
    engine = engine_of(door)
    engine.words, engine.pause = ("word",) * 2000, 0.005
    body = json.dumps({"model": "tiny", "messages": SAID, "steering": "calm", "stream": stream}).encode()
    with made.listening(door) as url:
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as one:
            one.sendall(_head(len(body)) + body)
            if stream:
                assert one.recv(4096).startswith(b"HTTP/1.1 200")
            made.until(lambda: bool(engine.jobs))
        made.until(lambda: bool(engine.cancelled))
        made.until(lambda: len(made.audited(door)) == 2)
    assert made.audited(door)[-1]["outcome"] == "disconnected"
    assert "tillerman_answers_running 0.0" in door.metrics.text().decode()


def test_a_client_that_sends_slowly_is_let_go(tmp_path: Path) -> None:
    door = made.opened(tmp_path, text="[limits]\nbody_seconds = 0.2\n")
    with made.listening(door) as url, socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as one:
        one.sendall(_head(50) + b"{")
        one.settimeout(5)
        assert one.recv(4096).startswith(b"HTTP/1.1 408")


def test_one_who_reads_slowly_holds_up_nobody(door: Door) -> None:
    engine_of(door).words = ("word " * 200,) * 200
    body = json.dumps({"model": "tiny", "messages": SAID, "stream": True}).encode()
    with made.listening(door) as url, socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as one:
        one.sendall(_head(len(body)) + body)
        with SteeringClient(url, model="tiny") as other:
            began = time.monotonic()
            assert other.chat("Hi").receipt["applied"] == []
            assert time.monotonic() - began < 2


def test_the_client_tells_what_was_done_and_raises_where_it_was_not(door: Door) -> None:
    with made.listening(door) as url, SteeringClient(url) as client:
        assert client.model == "tiny" and [one["name"] for one in client.artefacts()] == ["calm", "honesty"]
        reply = client.chat("Who are you?", steering="honesty@0.4", options={"max_tokens": 2})
        assert reply.text == "Hello" and reply.receipt["applied"][0]["dose"] == pytest.approx(0.4)
        assert "".join(client.stream(SAID, steering=["calm@0.1", "honesty"])) == "Hello there"
        with pytest.raises(EndpointError, match=r"unknown_artefact: .*nobody"):
            client.chat("Hi", steering="nobody")
        with pytest.raises(EndpointError, match="unknown_artefact"):
            list(client.stream("Hi", steering="nobody"))
        engine_of(door).ended = Ended("stop", 5, 3, ())
        with pytest.raises(NotAppliedError, match="withheld"):
            client.chat("Hi", steering="calm")
        with pytest.raises(NotAppliedError, match="withheld"):
            list(client.stream("Hi", steering="calm"))
    with SteeringClient(url, model="tiny") as client, pytest.raises(EndpointError, match="cannot be reached"):
        client.chat("Hi")


APPLIED = {"artefact": "calm", "dose": 0.2, "strength": 1.0, "at": {"layers.0.resid_post": 3}, "gate": None}


@pytest.mark.parametrize(
    ("answer", "steering", "plan"),
    [
        ({}, None, None),
        ({"steering": None}, [], None),
        ({"steering": {"plan": "a", "applied": []}}, "calm@0.2", None),
        ({"steering": {"plan": "a", "applied": [APPLIED]}}, "calm@0.3", None),
        ({"steering": {"plan": "a", "applied": [APPLIED]}}, [], None),
        ({"steering": {"plan": "a", "applied": [APPLIED, APPLIED]}}, "calm@0.2", None),
        ({"steering": {"plan": "a", "applied": [APPLIED]}}, "calm@0.2", "b"),
        ({"steering": {"plan": "a", "applied": [{**APPLIED, "at": {"layers.0.resid_post": 0}}]}}, "calm", "a"),
    ],
)
def test_an_answer_without_the_receipt_of_its_plan_is_an_error(answer, steering, plan) -> None:
    """Another server, or ours without its engine's plug-in, answers 200 and unsteered."""
    with pytest.raises(NotAppliedError):
        ensure_applied(answer, steering, plan)


def test_a_right_receipt_passes() -> None:
    good = {"steering": {"plan": "a", "applied": [APPLIED]}}
    assert ensure_applied(good, "calm@0.2", "a") == good["steering"]
    assert ensure_applied(good, None) == good["steering"]
    shut = {**APPLIED, "at": {"layers.0.resid_post": 0}, "gate": {"condition": "x", "open": [False]}}
    ensure_applied({"steering": {"plan": "a", "applied": [shut]}}, "calm")


def test_an_address_that_others_reach_needs_keys() -> None:
    for host in ("127.0.0.1", "localhost", "::1"):
        Address(host).ensure_guarded(Settings())
    for host in ("0.0.0.0", "::", "192.168.1.7", "example.org"):
        with pytest.raises(UsageError, match="no keys are set"):
            Address(host).ensure_guarded(Settings())
    Address("0.0.0.0").ensure_guarded(Settings(keys=(KeySettings("a", "0" * 64),)))


def test_a_port_that_is_taken_is_told_and_a_bound_one_takes_nothing_yet() -> None:
    with bound(Address(port=0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        first.listen()
        with pytest.raises(UsageError, match="the port is taken"):
            bound(Address(port=port))
