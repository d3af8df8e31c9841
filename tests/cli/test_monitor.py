"""``tillerman monitor`` and ``generate --monitor``: one command calibrates, the other follows answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tillerman
from tillerman.cli import app as cli
from tillerman.cli.monitored import MonitorChoice
from tillerman.core.artefact import save
from tillerman.core.errors import UsageError
from tillerman.logs.monitor import MonitorLog
from tillerman.models.opened import open_model

from .. import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A saved model, two artefacts of it, and rows with wanted and unwanted answers."""
    place = tmp_path_factory.mktemp("monitored")
    tiny.new_model().save_pretrained(place / "model")
    tiny.new_tokenizer(tiny.CHAT).save_pretrained(place / "model")
    opened = open_model(place / "model")
    for name, seed in (("mood", 1), ("calm", 2)):
        vector = opened.vector({1: tiny.vector(1, seed=seed).directions[tillerman.HookPoint(1)]}, name=name)
        save(place / f"{name}.safetensors", tillerman.Artefact(vector, tillerman.Cell.of(vector)))
    words = ("apple", "stone", "river", "cat", "mat", "dog", "sun", "sky", "grass", "fruit")
    rows = [
        {"prompt": f"the {a} and the {b}?", "chosen": f"green {a} {b} and sun", "rejected": f"red {b} {a} in a river"}
        for k, a in enumerate(words)
        for b in (words[(k + 3) % 10], words[(k + 7) % 10])
    ]
    (place / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return place


def run(*words: object) -> tuple[int, str, str]:
    said = CliRunner().invoke(cli.app, [str(word) for word in words])
    return said.exit_code, said.stdout, said.stderr


@pytest.fixture(scope="module")
def calibrated(folder: Path) -> tuple[int, str, str]:
    return run("monitor", folder / "rows.jsonl", "-a", folder / "mood.safetensors", "--draws", 2)


def test_the_artefacts_file_gets_its_monitor_and_the_exit_code_says_whether_it_tells(folder: Path, calibrated) -> None:
    code, out, err = calibrated
    artefact = tillerman.load(folder / "mood.safetensors")
    assert artefact.monitor is not None, err
    log = MonitorLog.from_json(dict(artefact.monitor.measured))
    assert code == (0 if log.chosen.tells else 3)
    assert "On test items" in out and "Live, on replies" in out and "mood.safetensors" in out
    assert not (folder / "mood.safetensors.partial").exists()


@pytest.mark.slow
def test_answers_are_followed_stopped_and_steered_as_asked(folder: Path, calibrated) -> None:
    base = ("generate", "Hello", "--temperature", 0, "--tokens", 6, "--json", "--monitor", folder / "mood.safetensors")
    plain = json.loads(run(*base[:6], "-a", folder / "calm.safetensors", "--json")[1])["continuations"][0]
    assert plain.keys() == {"strength", "dose", "text"}
    warned = json.loads(run(*base, "--threshold", -1000)[1])
    (one,) = warned["continuations"]
    assert one["text"] == plain["text"] and one["ending"] == "usual"
    assert one["crossings"][0].items() >= {"monitor": "mood", "action": "warn", "token": 4, "threshold": -1000}.items()
    assert any("threshold -1000 instead of the calibrated one" in text for text in warned["warnings"])
    (cut,) = json.loads(run(*base, "--threshold", -1000, "--on-crossing", "abort")[1])["continuations"]
    assert cut["ending"] == "aborted" and plain["text"].startswith(cut["text"].rstrip("\ufffd"))
    plan = f"{folder / 'calm'}@0.9"
    (moved,) = json.loads(run(*base, "--threshold", -1000, "--on-crossing", "steer", "--switch-on", plan)[1])[
        "continuations"
    ]
    assert moved["crossings"][0]["steered_from"] == 5
    shown = run(*(word for word in base if word != "--json"), "--threshold", -1000)[1]
    assert "unsteered: monitor mood crossed at token 4 of the answer" in " ".join(shown.split())
    assert "no monitor was crossed" in run(*(word for word in base if word != "--json"), "--threshold", 1000)[1]


def test_what_does_not_go_together_is_said_before_a_model_is_opened(folder: Path) -> None:
    for options, words in (
        (("-a", folder / "calm.safetensors", "--on-crossing", "abort"), "about a --monitor; give one"),
        (("--monitor", folder / "mood.safetensors", "--on-crossing", "steer"), "--switch-on 'NAME@DOSE' go together"),
        ((), "or --monitor FILE"),
    ):
        with pytest.raises(UsageError, match=words):
            CliRunner().invoke(cli.app, ["generate", "Hello", *map(str, options)], catch_exceptions=False)
    with pytest.raises(UsageError, match="give one --monitor"):
        MonitorChoice((Path("a"), Path("b")), threshold=1.0)
    with pytest.raises(UsageError, match="has no monitor; 'tillerman monitor DATA --artefact"):
        CliRunner().invoke(
            cli.app, ["generate", "Hello", "--monitor", str(folder / "calm.safetensors")], catch_exceptions=False
        )
