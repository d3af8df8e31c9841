"""Monitors of a server: settings, receipts, metrics, audit and OpenAI's words, over the local engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion
from starlette.testclient import TestClient

from tillerman.core.artefact import Artefact
from tillerman.core.errors import DataError, NotAppliedError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.monitors import Monitor
from tillerman.serving.artefacts import read_shelf
from tillerman.serving.audit import Audit
from tillerman.serving.client import ensure_applied
from tillerman.serving.door import Door, make_rules
from tillerman.serving.engines.local import LocalEngine, LocalSettings
from tillerman.serving.http.app import create_app
from tillerman.serving.metrics import Metrics
from tillerman.serving.prompts import PromptReader
from tillerman.serving.settings import read_settings

from .. import tiny
from . import made

CHAT = "/v1/chat/completions"
ASK = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "Who are you?"}],
    "max_tokens": 8,
    "temperature": 0,
    "logit_bias": {"2": -100},
}  # no text ends before its eighth token


def watched(threshold: float = -1e3, least: int = 3) -> Artefact:
    one = made.artefact(1)
    point = HookPoint(1)
    return replace(one, monitor=Monitor(one.steering.directions[point], point, threshold, least=least))


def table(action: str = "warn", **more: str) -> str:
    lines = "".join(f"{name} = {value}\n" for name, value in more.items())
    return f'[audit]\nfile = ""\n[monitors.mood]\nartefact = "calm"\naction = "{action}"\n{lines}'


@contextmanager
def served(path: Path, text: str, one: Artefact | None = None, engine: Any = None) -> Iterator[Door]:
    path.mkdir(exist_ok=True)
    there = made.folder(path / "artefacts", {"calm": one or watched(), "honesty": made.artefact(2, 0.5)})
    (path / "serve.toml").write_text(text)
    opened = tiny.opened(chat=tiny.CHAT)
    engine = engine or LocalEngine(opened, LocalSettings(max_wait_ms=1.0))
    settings, prompts = read_settings(path / "serve.toml"), PromptReader(opened.tokenizer)
    rules = make_rules(read_shelf(there, settings.artefacts, made.ANY), settings, prompts, engine)
    door = Door(engine, "tiny", prompts, rules, Audit(path / "audit.jsonl"), Metrics())
    door.checked = 1.0
    asyncio.run(engine.start())
    try:
        yield door
    finally:
        asyncio.run(engine.close())
        door.audit.close()


def ask(door: Door, **more: Any) -> Any:
    answer = TestClient(create_app(door)).post(CHAT, json={**ASK, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def plain(path: Path, **more: Any) -> str:
    with served(path / "plain", '[audit]\nfile = ""\n') as door:
        told = ask(door, **more)
    assert "monitors" not in told["steering"] and "endings" not in told["steering"]
    return told["choices"][0]["message"]["content"]


def test_warn_changes_nothing_and_is_in_receipt_metrics_and_audit(tmp_path: Path) -> None:
    with served(tmp_path, table()) as door:
        told = ask(door, n=2)
        (line,) = [one for one in made.audited(door) if one["event"] == "ended"]
        metrics = door.metrics.text().decode()
    ChatCompletion.model_validate(told, strict=True)
    assert [one["message"]["content"] for one in told["choices"]] == [plain(tmp_path)] * 2
    (one,) = told["steering"]["monitors"]
    assert (one["monitor"], one["artefact"], one["action"], one["crossed"]) == ("mood", "calm", "warn", [3, 3])
    assert told["steering"]["endings"] == ["length", "length"] and told["steering"]["applied"] == []
    assert line["receipt"]["monitors"] == json.loads(json.dumps([one]))
    assert 'tillerman_monitor_crossings_total{action="warn",monitor="mood"} 2.0' in metrics


def test_abort_ends_the_answer_and_openais_word_for_it_is_legal(tmp_path: Path) -> None:
    whole = plain(tmp_path)
    with served(tmp_path, table("abort")) as door:
        told = ask(door, steering="honesty@0.1:generated")
        metrics = door.metrics.text().decode()
    ChatCompletion.model_validate(told, strict=True)
    (choice,) = told["choices"]
    assert choice["finish_reason"] == "content_filter" and told["usage"]["completion_tokens"] == 3
    assert told["steering"]["endings"] == ["aborted"] and told["steering"]["monitors"][0]["crossed"] == [3]
    assert told["steering"]["applied"][0]["at"] == {"layers.2.resid_post": 4} and whole
    assert 'tillerman_monitor_crossings_total{action="abort",monitor="mood"} 1.0' in metrics


def test_steer_switches_the_plan_on_and_says_from_which_token(tmp_path: Path) -> None:
    whole = plain(tmp_path)
    strong = "[policy]\nmax_dose = 20\nmax_total_dose = 20\n" + table("steer", plan='"honesty@15"')
    with served(tmp_path, strong) as door:
        told = ask(door)
    (one,) = told["steering"]["monitors"]
    assert (one["crossed"], one["steered_from"]) == ([3], [4])
    assert one["applied"] == [{"artefact": "honesty", "dose": pytest.approx(15), "at": {"layers.2.resid_post": 4}}]
    text = told["choices"][0]["message"]["content"]
    assert text != whole and text[:2] == whole[:2] and told["choices"][0]["finish_reason"] == "length"


def test_a_stream_ends_with_the_reason_and_the_receipt(tmp_path: Path) -> None:
    with served(tmp_path, table("abort")) as door:
        answer = TestClient(create_app(door)).post(CHAT, json={**ASK, "stream": True})
        whole = ask(door)["choices"][0]["message"]["content"]
    parts = [part.removeprefix("data: ") for part in answer.text.split("\n\n") if part]
    assert parts[-1] == "[DONE]"
    events = [json.loads(part) for part in parts[:-1]]
    assert "".join(one["choices"][0]["delta"].get("content") or "" for one in events if one["choices"]) == whole
    last = next(one for one in events if one["choices"] and one["choices"][0]["finish_reason"])
    assert last["choices"][0]["finish_reason"] == "content_filter"
    assert last["steering"]["endings"] == ["aborted"] and last["steering"]["monitors"][0]["crossed"] == [3]


def test_an_answer_ended_before_its_plan_could_act_is_applied_as_far_as_it_goes(tmp_path: Path) -> None:
    with served(tmp_path, table("abort")) as door:
        tokens = len(door.prompts.chat(ASK["messages"], {}).tokens)
        told = ask(door, steering=f"honesty@0.1:positions:{tokens + 6}")
    assert told["steering"]["applied"][0]["at"] == {"layers.2.resid_post": 0}
    assert ensure_applied(told, None) == told["steering"]
    told["steering"].pop("endings")
    with pytest.raises(NotAppliedError, match="touched no token"):
        ensure_applied(told, None)


def test_given_tokens_are_read_to_their_end_whatever_a_monitor_says(tmp_path: Path) -> None:
    with served(tmp_path, table("abort")) as door:
        body = {"model": "tiny", "messages": ASK["messages"], "answer": [20, 21, 22, 23, 24, 25]}
        told = TestClient(create_app(door)).post("/v1/tillerman/compare", json=body).json()
    assert len(told["tokens"]) == 6 and "monitors" not in told["steering"]


def test_a_plan_and_what_monitors_add_are_held_to_the_cap_together(tmp_path: Path) -> None:
    capped = "[policy]\nmax_total_dose = 1.0\n" + table("steer", plan='"honesty@0.9"')
    with served(tmp_path, capped) as door:
        client = TestClient(create_app(door))
        refused = client.post(CHAT, json={**ASK, "steering": "honesty@0.5"})
        elsewhere = client.post(CHAT, json={**ASK, "steering": "calm@0.5"})
    assert refused.json()["error"]["code"] == "over_cap"
    assert "monitors (mood) may switch on it reaches dose 1.4" in refused.json()["error"]["message"]
    assert elsewhere.status_code == 200


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (table().replace('"calm"', '"other"'), "monitors.mood: no artefact named 'other'; known: calm, honesty"),
        (
            table().replace('"calm"', '"honesty"'),
            "monitors.mood: the artefact honesty has no monitor; 'tillerman",
        ),
        (table("steer", plan='"honesty@0.9:prompt"'), "monitors.mood: scope prompt means tokens of the prompt"),
        (table("steer", plan='"honesty@1.4"'), "monitors.mood: .*dose 1.4 is over the cap of 1"),
        (table("steer", plan='"nobody@0.4"'), "monitors.mood: .*no artefact named 'nobody'"),
    ],
)
def test_a_monitor_that_cannot_be_served_is_refused_by_name_at_the_start(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words), served(tmp_path, text):
        pass


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (table("steer"), "action 'steer' needs the plan"),
        (table("warn", plan='"honesty@0.9"'), "action 'warn' switches no plan on"),
        (table("shout"), "'warn', 'abort', 'steer'"),
        (table(threshold="inf"), "threshold inf: expected a finite number"),
        (table(plans='"a"'), r"no setting monitors\.mood\.plans\. Did you mean 'plan'"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "serve.toml").write_text(text)
    with pytest.raises(DataError, match=words):
        read_settings(tmp_path / "serve.toml")


def test_an_engine_that_lets_nobody_read_refuses_monitors_with_the_remedy(tmp_path: Path) -> None:
    words = r"\[monitors\.mood\]: the engine script-1 .* serve with --engine local, or take the monitors out"
    with pytest.raises(UsageError, match=words), served(tmp_path, table(), engine=made.ScriptEngine()):
        pass


def test_a_threshold_of_the_settings_takes_the_calibrated_ones_place(tmp_path: Path) -> None:
    with served(tmp_path, table(threshold="1000.0")) as door:
        told = ask(door)
    (one,) = told["steering"]["monitors"]
    assert one["crossed"] == [None] and "> 1e+03" in one["condition"] and one["values"][0] < 1000


def test_a_plan_of_the_request_and_a_monitors_plan_stand_side_by_side(tmp_path: Path) -> None:
    with served(tmp_path, table("steer", plan='"honesty@0.4:generated"')) as door:
        told = ask(door, steering="honesty@0.2:prompt")
    (applied,) = told["steering"]["applied"]
    assert applied["gate"] is None and applied["at"]["layers.2.resid_post"] > 0
    assert told["steering"]["monitors"][0]["applied"][0]["at"] == {"layers.2.resid_post": 4}
