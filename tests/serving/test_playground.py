"""The playground: what is served, what its policy lets it do, and what it does in a real browser; the comparison that
colours its tokens; ``tillerman chat``."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from tillerman.cli.commands.chat import chat
from tillerman.cli.serve_options import ServeOptions
from tillerman.core.errors import EndpointError, NotAppliedError
from tillerman.serving.asked import read_steering
from tillerman.serving.client import SteeringClient
from tillerman.serving.door import Door
from tillerman.serving.engine import Drawing, Ended, Job, Taken
from tillerman.serving.engines.local import LocalEngine
from tillerman.serving.http.app import create_app
from tillerman.serving.http.playground import FILES

from .. import tiny
from . import made

PAGE = Path(create_app.__code__.co_filename).parent / "page"
COMPARE = "/v1/tillerman/compare"
SAID = [{"role": "user", "content": "Who are you?"}]


def read(name: str) -> str:
    return (PAGE / name).read_text()


def client(door: Door) -> TestClient:
    return TestClient(create_app(door))


def test_the_page_comes_with_its_files_and_a_policy_that_lets_in_nothing_else(tmp_path: Path) -> None:
    asked = client(made.opened(tmp_path, text=made.keyed(), audited=False))  # no key is needed for the page itself
    for path, (name, kind) in FILES.items():
        answer = asked.get(path)
        assert answer.status_code == 200 and answer.text == read(name)
        assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_setting_leaves_the_page_out(tmp_path: Path) -> None:
    asked = client(made.opened(tmp_path, text="playground = false", audited=False))
    assert [asked.get(path).status_code for path in FILES] == [404] * 3
    assert asked.get("/v1/models").status_code == 200
    flags = ("pilot", None, None, None, None, None, False, False)
    assert (
        not ServeOptions(*flags, playground=False).settings().playground and ServeOptions(*flags).settings().playground
    )


def test_the_page_names_no_other_origin() -> None:
    assert {path.name for path in PAGE.iterdir()} == {name for name, _ in FILES.values()}
    for name, _ in FILES.values():
        assert re.findall(r"https?:|//[a-z]+\.|@import|\burl\(", read(name)) == [], name


def test_no_text_of_a_model_or_server_becomes_html() -> None:
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "DOMParser"):
        assert word not in read("playground.js"), word
    assert (
        re.findall(
            r"<script(?! type=\"module\" src=\"playground.js\"></script>)|<style|\son\w+=|style=", read("index.html")
        )
        == []
    )


def test_a_key_is_kept_for_the_tab_alone() -> None:
    stored = re.findall(r"(\w+Storage)\.setItem\((\w+)", read("playground.js"))
    assert sorted(stored) == [("localStorage", "SESSIONS"), ("sessionStorage", "KEY")]


def test_every_element_that_the_script_asks_for_is_there_once() -> None:
    ids = re.findall(r'\bid="([\w-]+)"', read("index.html"))
    script = read("playground.js")
    fields = re.search(r"const FIELDS = \[(.*?)\]", script)
    assert fields is not None
    asked = set(re.findall(r'byId\("([\w-]+)"\)', script)) | set(re.findall(r'"(\w+)"', fields[1]))
    assert len(asked) > 20 and sorted(ids) == sorted(set(ids)) and asked <= set(ids)


@pytest.fixture
def local(tmp_path: Path) -> Door:
    """The tiny model itself behind the door."""
    return made.opened(tmp_path, LocalEngine(tiny.opened()), audited=False)


def compared(door: Door, **more: Any) -> Any:
    """On an engine that runs for this request only."""

    async def asked() -> Any:
        await door.engine.start()
        try:
            transport = httpx.ASGITransport(app=create_app(door))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
                body = {"model": "tiny", "messages": SAID, "steering": "honesty@0.4", **more}
                return await http.post(COMPARE, json=body)
        finally:
            await door.engine.close()

    return asyncio.run(asked())


def taken(door: Door, plan: str | list[str], tokens: int) -> list[Taken]:
    """A greedy answer as the engine makes it by itself."""

    async def asked() -> list[Taken]:
        asked_for = read_steering(plan)
        assert asked_for is not None
        ready = door.rules.ready(asked_for)
        prompt = door.prompts.chat(SAID, {}).tokens
        drawing = Drawing(tokens, temperature=0, logprobs=2)
        found: list[Taken] = []
        await door.engine.start()
        try:
            async for event in door.engine.answer(
                Job("a", prompt, ready.plan, ready.names, ready.fingerprint, drawing, ready.digests)
            ):
                found.extend([] if isinstance(event, Ended) else event.tokens)
        finally:
            await door.engine.close()
        return found

    return asyncio.run(asked())


def test_given_tokens_have_the_log_probabilities_that_they_have_when_they_are_made(local: Door) -> None:
    plan = "honesty@0.4:generated"
    steered = taken(local, plan, 6)
    told = compared(local, steering=plan, answer=[one.token for one in steered], top_logprobs=2).json()
    assert [one["token_id"] for one in told["tokens"]] == [one.token for one in steered]
    for one, mine in zip(told["tokens"], steered, strict=True):
        assert one["logprob"] == pytest.approx(mine.logprob, abs=1e-5)
        assert one["change"] == pytest.approx(one["logprob"] - one["against_logprob"])
        assert [other["token"] for other in one["top_logprobs"]] == [text for _, text, _ in mine.others]
    assert max(abs(one["change"]) for one in told["tokens"]) > 1e-4
    # The last token of the prompt and those given, less the one that is not run: as when they were made.
    assert list(told["steering"]["applied"][0]["at"].values()) == [6]
    assert told["steering"]["applied"][0]["artefact"] == "honesty" and told["against"]["applied"] == []


def test_the_unsteered_side_is_what_the_model_says_by_itself(local: Door) -> None:
    plain = taken(local, [], 5)
    told = compared(local, answer=[one.token for one in plain]).json()
    assert [one["against_logprob"] for one in told["tokens"]] == pytest.approx([one.logprob for one in plain], abs=1e-5)
    assert max(abs(one["change"]) for one in told["tokens"]) > 1e-4
    same = compared(local, answer=[one.token for one in plain], against="honesty@0.4").json()
    assert max(abs(one["change"]) for one in same["tokens"]) < 1e-5


@pytest.mark.parametrize(
    ("more", "code", "param"),
    [
        ({"answer": []}, "malformed", "answer"),
        ({"answer": [10**6]}, "malformed", "answer"),
        ({"steering": "honesty@2"}, "over_cap", "steering"),
        ({"against": "nobody"}, "unknown_artefact", "against"),
        ({"prompt": "Who"}, "malformed", "messages"),
        ({"n": 2}, "malformed", "n"),
    ],
)
def test_a_comparison_is_held_to_the_same_rules(local: Door, more: dict[str, Any], code: str, param: str) -> None:
    answer = compared(local, **{"answer": [5, 6], **more})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, param), error
    assert local._running == 0  # what was admitted before the refusal is let go


def test_an_engine_that_cannot_read_given_tokens_says_so(tmp_path: Path) -> None:
    door = made.opened(tmp_path, audited=False)
    answer = client(door).post(COMPARE, json={"model": "tiny", "messages": SAID, "answer": [5]})
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "unsupported"
    assert made.script(door).jobs == []


def test_chat_shows_the_answer_and_its_receipt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    door = made.opened(tmp_path, audited=False)
    with made.listening(door) as url:
        chat(url, steering="honesty@0.4", say="Who are you?")
        told = capsys.readouterr()
        assert told.out == "Hello there\n" and "honesty@0.4 add, all:" in told.err
        chat(url, steering="", say="Who are you?")
        assert "[unsteered]" in capsys.readouterr().err
        with pytest.raises(EndpointError, match="over_cap"):
            chat(url, steering="honesty@9", say="Who are you?")
        made.script(door).ended = Ended("stop", 5, 3, ())
        with pytest.raises(NotAppliedError):
            chat(url, steering="honesty@0.4", say="Who are you?")


def test_a_stream_gives_its_receipt_at_the_end(tmp_path: Path) -> None:
    with made.listening(made.opened(tmp_path, audited=False)) as url, SteeringClient(url) as asked:
        pieces = asked.stream("Hi", steering="calm@0.1")
        said: list[str] = []
        with pytest.raises(StopIteration) as ended:
            while True:
                said.append(next(pieces))
        assert "".join(said) == "Hello there" and ended.value.value["applied"][0]["artefact"] == "calm"
