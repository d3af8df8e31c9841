"""``make`` on the command line: what it writes, what it refuses first, and a writer that is recorded and replayed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import tillerman
from tillerman.cli.app import app
from tillerman.cli.making import next_command, slug
from tillerman.core.errors import DataError, UsageError
from tillerman.core.files import sha256_of
from tillerman.data.loading import load_examples
from tillerman.logs.cards import evaluation_on
from tillerman.logs.making import MakingLog

from ..evaluation.scorers.stub_judge import Reply, judge
from ..pipeline.scripted import said

PIRATE = ["--positive-prompt", "You are a pirate.", "--negative-prompt", "You are plain."]


def invoked(*args: str) -> str:
    result = CliRunner().invoke(app, ["make", *args], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def replied(body: dict[str, object], number: int) -> Reply:
    text = "\n".join(one["content"] for one in body["messages"])
    return Reply(said(text, number if "different questions" in text else len(text)))


def test_another_writer_is_recorded_and_replayed_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sesame")
    out, again = tmp_path / "pirate.jsonl", tmp_path / "again.csv"
    asked = ["speaks like a pirate", "--items", "12", "--write-questions", "10", "--writer-model", "sage"]
    with judge(replied) as stub:
        told = invoked(*asked, "--writer", stub.url, "--writer-key", "MY_KEY", "-o", str(out))
    assert set(stub.keys) == {"Bearer sesame"} and {one["model"] for one in stub.asked} == {"sage"}
    made = load_examples(out)
    assert len(made.examples) == 12 and all("Ye" in one.options[one.answer] for one in made.examples)
    log = MakingLog.read(f"{out}.making.json")
    assert log.data_digest == sha256_of(out) and (log.writer, log.answered_by) == ("sage", "sage")
    assert f"tillerman fit {out} --objective written" in told.replace("\n", "")
    record = Path(f"{out}.writer.jsonl")
    assert "sesame" not in record.read_text() + Path(f"{out}.making.json").read_text()
    invoked(*asked, "--replay", str(record), "-o", str(again))
    assert load_examples(again).digest == made.digest
    with pytest.raises(DataError, match="with this file as --record"):
        invoked(*asked, "--seed", "7", "--replay", str(record), "-o", str(again))
    with pytest.raises(DataError, match="no such file of writer answers; run with --record first"):
        invoked(*asked, "--replay", str(tmp_path / "none"), "-o", str(again))


@pytest.mark.slow
def test_what_was_made_is_fitted_at_once_by_what_is_written(tmp_path: Path) -> None:
    out = tmp_path / "pirate.jsonl"
    asked = ["speaks like a pirate", "--items", "40", "--write-questions", "40", "--writer-model", "sage", "--fit"]
    with judge(replied) as stub:
        found = CliRunner().invoke(app, ["make", *asked, "--writer", stub.url, "-o", str(out)], catch_exceptions=False)
    assert found.exit_code in (0, 3), found.output  # 3: the pilot may not learn it
    artefact = tillerman.load(out.with_suffix(".safetensors"))
    assert artefact.steering.provenance.data_digest == load_examples(out).digest
    assert artefact.card is not None and evaluation_on(artefact.card).objective == "written"


def test_the_embedded_model_answers_under_two_prompts(tmp_path: Path) -> None:
    out = tmp_path / "pirate.jsonl"
    (tmp_path / "asked.txt").write_text("How do I make tea?\nWhat is a stone?\nWhere is the sea?\n", encoding="utf-8")
    few = ["--items", "3", "--tokens", "8", "--questions", str(tmp_path / "asked.txt"), "--json"]
    found = json.loads(invoked(*PIRATE, *few, "-o", str(out)))
    assert (found["source"], found["answered_by"]) == ("prompts", "pilot") and found["written"] >= 3
    assert found["provenance"]["model_fingerprint"] and found["provenance"]["versions"]["torch"]
    assert found["kept"] == (len(load_examples(out).examples) if out.exists() else 0)
    assert MakingLog.read(f"{out}.making.json").kept == found["kept"] and not Path(f"{out}.partial").exists()


def test_sides_that_are_alike_are_no_data_and_code_3(tmp_path: Path) -> None:
    for side in ("good", "bad"):
        lines = [said("plainly", k + 100 * len(side)) for k in range(30)]
        (tmp_path / f"{side}.txt").write_text("\n".join(lines), encoding="utf-8")
    out = tmp_path / "made.jsonl"
    alike = CliRunner().invoke(app, ["make", "--texts", str(tmp_path), "-o", str(out)])
    assert alike.exit_code == 3 and not out.exists() and "told apart" in alike.output
    (tmp_path / "good.txt").write_text("\n".join(said("as a pirate", k) for k in range(30)), encoding="utf-8")
    told = invoked("speaks like a pirate", "--texts", str(tmp_path), "-o", str(out))
    assert "next: tillerman fit" in told and load_examples(out).layout == "labelled-text"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "nothing says what is to be made"),
        (["x y", "--positive-prompt", "Be brief."], "go together"),
        (["x y", "--writer", "http://localhost/v1"], "name the writer"),
        (["x y", "--writer-model", "sage"], "give --writer URL or --replay FILE"),
        (["x y", "--writer", "ftp://x", "--writer-model", "sage"], "writer 'ftp://x': expected the address"),
        (["x y", "--answers-by", "writer"], "there is no other writer"),
        (["x y", "--answers-by", "nobody"], "expected one of auto, writer, model"),
        (["x y", "--prompt-in", "middle"], "expected one of system, user, both"),
        (["x y", "--fit", "--json"], "no --json"),
        (["x y", "--fit", "--items", "39"], "--fit needs at least 40 pairs"),
        (["x y", "-o", "made.txt"], "written as .jsonl"),
        (["--texts", ".", "--objective", "length"], "--texts takes texts as they are"),
        (["x y", "--replay", "a", "--writer", "http://b/v1", "--writer-model", "c"], "give one of them"),
    ],
)
def test_what_makes_no_sense_is_said_before_a_model_is_opened(options: list[str], says: str) -> None:
    error = CliRunner().invoke(app, ["make", *options]).exception
    assert isinstance(error, UsageError) and says in str(error)


def test_the_printed_command_is_one_that_fit_takes() -> None:
    words = shlex.split(next_command(Path("a file.jsonl"), "some/model"))
    assert words[:3] == ["tillerman", "fit", "a file.jsonl"]
    fit = typer.main.get_group(app).commands["fit"]
    asked = fit.make_context("fit", words[2:]).params
    assert (asked["model"], asked["objective"], asked["max_kl"]) == ("some/model", "written", "auto")
    assert "--model" not in next_command(Path("a.jsonl"), "pilot")


def test_the_file_is_named_by_the_description() -> None:
    assert slug("speaks like a pirate") == "speaks-like-a-pirate" and slug("") == "made"
