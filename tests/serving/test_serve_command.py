"""``tillerman serve`` as a newcomer runs it: a process of its own, the pilot, the printed line, signals."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tillerman.cli.commands.serve import serve
from tillerman.cli.serve_options import ServeOptions
from tillerman.cli.serving import make_door
from tillerman.core.artefact import Artefact, save
from tillerman.core.cell import Cell
from tillerman.core.errors import TillermanError, UsageError
from tillerman.data.marked_scopes import after_instruction
from tillerman.models.opened import open_model
from tillerman.serving.audit import Audit, check_chain, last_lines
from tillerman.serving.client import SteeringClient
from tillerman.serving.http.server import Address
from tillerman.serving.keys import hash_of

from . import made

CHAT = "/v1/chat/completions"
MAIN = [sys.executable, "-c", "from tillerman.cli.app import main; main()"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two artefacts of the pilot, with cards, as ``tillerman demo`` names them."""
    path = tmp_path_factory.mktemp("pilot") / "demo"
    path.mkdir()
    pilot = open_model("pilot")
    for layer, name in ((3, "interest-in-science"), (2, "risk-seeking")):
        direction = [(-1.0) ** i for i in range(pilot.parts.width)]
        vector = pilot.vector({layer: direction}, name=name)
        cell = Cell.of(vector, scope=after_instruction(pilot.tokenizer)).at_dose(0.2, vector)
        save(path / f"{name}.safetensors", Artefact(vector, cell, card=made.card()))
    return path


@contextmanager
def serving(folder: Path, where: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The running process and the lines it has printed, the line to copy last."""
    command = [*MAIN, "serve", "pilot", "--artefacts", str(folder), "--port", "0", *more]
    with subprocess.Popen(
        command, cwd=where, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        try:
            while not (lines and lines[-1].startswith("curl")):
                line = process.stdout.readline()
                assert line, process.stderr.read() if process.stderr else ""
                lines.append(line.strip())
            yield process, lines
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_the_line_that_serve_prints_answers_with_a_receipt(folder: Path, tmp_path: Path) -> None:
    with serving(folder, tmp_path) as (process, lines):
        assert any("interest-in-science: dose 0.2, effect +44 pp" in line for line in lines)
        curl, *rest = shlex.split(lines[-1])
        answer = json.loads(subprocess.run([curl, "-s", *rest], capture_output=True).stdout)
        (applied,) = answer["steering"]["applied"]
        assert (applied["artefact"], applied["scope"]) == ("interest-in-science", "after_instruction")
        assert applied["dose"] == pytest.approx(0.2) and applied["at"]["layers.3.resid_post"] > 0
        url = re.search(r"http://[\w.:]+", lines[-1])
        assert url is not None
        with SteeringClient(url[0]) as client:
            greedy = {"temperature": 0, "max_tokens": 8}
            plain = client.chat("Tell me about yourself.", steering=[], options=greedy).text
            assert client.chat("Tell me about yourself.", steering="risk-seeking@0", options=greedy).text == plain
            assert client.chat("Tell me about yourself.", steering="risk-seeking@1", options=greedy).text != plain
            assert "".join(client.stream("Tell me about yourself.", steering=[], options=greedy)) == plain
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    path = tmp_path / "audit.jsonl"
    assert check_chain(path) == 10
    assert [line["event"] for line in last_lines(path, 10)] == ["admitted", "ended"] * 5


@pytest.mark.slow
def test_sighup_reads_keys_and_artefacts_anew_while_an_answer_is_made_and_sigterm_waits_for_it(
    folder: Path, tmp_path: Path
) -> None:
    own = tmp_path / "artefacts"
    shutil.copytree(folder, own)
    settings = tmp_path / "serve.toml"

    def keys(*names: str) -> None:
        settings.write_text("".join(f'[[keys]]\nname = "{n}"\nsha256 = "{hash_of(n)}"\n' for n in names))

    keys("alice")
    with serving(own, tmp_path, "--config", str(settings), "--audit", "none") as (process, lines):
        found = re.search(r"http://[\w.:]+", lines[-1])
        assert found is not None and "Bearer KEY" in lines[-1]
        http = httpx.Client(base_url=found[0], headers={"Authorization": "Bearer alice"}, timeout=30)
        body = {"model": "pilot", "messages": [{"role": "user", "content": "Hi"}], "stream": True, "max_tokens": 200}
        with http.stream("POST", CHAT, json={**body, "steering": "risk-seeking"}) as answer:
            parts = answer.iter_lines()
            next(parts)
            (own / "risk-seeking.safetensors").unlink()
            keys("bob")
            process.send_signal(signal.SIGHUP)
            made.until(lambda: http.get("/v1/models").status_code == 401, 20)
            process.send_signal(signal.SIGTERM)
            rest = [line for line in parts if line]
        assert rest[-1] == "data: [DONE]" and '"artefact":"risk-seeking"' in rest[-2]
        assert process.wait(20) == 0
    assert not (tmp_path / "audit.jsonl").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"host": "0.0.0.0"}, "no keys are set"),
        ({"artefacts": Path("nowhere")}, "no such folder"),
        ({"default": "nobody@0.1"}, "no artefact named 'nobody'"),
        ({"default": "risk-seeking@3"}, "over the cap"),
        ({"config": Path("nowhere.toml")}, "cannot read the settings"),
        ({"tls_cert": Path("a.pem")}, "TLS needs both files"),
        ({"artefacts": None}, "name the folder of the artefacts"),
        ({"model": None}, "name the model"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_served_is_told_before_anything_is_listened_to(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TillermanError, match=words):
        serve(**{"model": "pilot", "artefacts": folder, "port": 0, **more})


def test_a_reload_without_keys_does_not_open_a_server_to_all(folder: Path, tmp_path: Path) -> None:
    settings = tmp_path / "serve.toml"
    settings.write_text(made.keyed())
    options = ServeOptions("pilot", folder, settings, None, None, "none", False, False, Address("0.0.0.0"))
    door = make_door(options, open_model("pilot"))
    before = door.rules
    settings.write_text("")
    with pytest.raises(UsageError, match="no keys are set"):
        asyncio.run(door.renew())
    assert door.rules is before


def test_an_artefact_that_a_reload_brings_is_proved_through_the_engine(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "artefacts"
    shutil.copytree(folder, own)
    (own / "risk-seeking.safetensors").rename(tmp_path / "later")
    options = ServeOptions("pilot", own, None, None, None, "none", False, False)
    door = make_door(options, open_model("pilot"))

    async def renewed() -> list[float]:
        await door.engine.start()
        try:
            await door.renew()  # nothing new
            before = door.checked
            (tmp_path / "later").rename(own / "risk-seeking.safetensors")
            await door.renew()
            return [before, door.checked]
        finally:
            await door.engine.close()

    before, after = asyncio.run(renewed())
    assert before == 0 < after and "risk-seeking" in door.rules.library
    assert door.canary is not None


def test_without_the_extra_serve_says_what_to_install(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UsageError, match=r"serving needs uvicorn.*pip install 'tillerman\[serve\]'"):
        serve("pilot", folder)


@pytest.mark.slow
def test_a_server_that_is_killed_in_a_stream_leaves_a_trace(folder: Path, tmp_path: Path) -> None:
    body = {"model": "pilot", "messages": [{"role": "user", "content": "Hi"}], "stream": True, "max_tokens": 200}
    path = tmp_path / "audit.jsonl"
    with serving(folder, tmp_path) as (process, lines):
        found = re.search(r"http://[\w.:]+", lines[-1])
        assert found is not None
        asked = {**body, "steering": "risk-seeking"}
        with pytest.raises(httpx.RemoteProtocolError), httpx.stream("POST", f"{found[0]}{CHAT}", json=asked) as answer:
            for _ in answer.iter_lines():
                process.kill()
        process.wait(20)
    assert [line["event"] for line in last_lines(path, 10)] == ["admitted"]
    again = Audit(path)
    again.write("admitted", {})
    again.close()
    assert check_chain(path) == 2


@pytest.mark.slow
def test_verify_shows_that_each_artefact_steers(folder: Path, tmp_path: Path) -> None:
    command = [*MAIN, "verify", "pilot", "--artefacts", str(folder), "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    told = json.loads(done.stdout)
    assert done.returncode == 0 and [one["name"] for one in told["artefacts"]] == [
        "interest-in-science",
        "risk-seeking",
    ]
    assert all(check["passed"] for one in told["artefacts"] for check in one["checks"])
    assert all(0 < one["cost"] < 20 for one in told["artefacts"])
    assert not (tmp_path / "audit.jsonl").exists()


def test_a_key_is_shown_once_and_its_hash_opens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tillerman.cli.commands.keys import KeyAction, keys

    keys(KeyAction.NEW, "alice")
    told = capsys.readouterr()
    key = told.out.strip()
    assert key.startswith("tlm-") and len(key) > 40
    assert tomllib.loads(told.err)["keys"] == [{"name": "alice", "sha256": hash_of(key)}]  # to be put into the file
    assert key not in told.err
