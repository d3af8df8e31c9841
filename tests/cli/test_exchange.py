"""From the command line: out, back, and a newcomer's vector evaluated in two commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tillerman
from tillerman.cli.app import app

PEERS = ["--convention", "output"]


def run(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    model = tillerman.open_model("pilot")
    path = tmp_path / "mine.safetensors"
    tillerman.save(path, tillerman.vector_from(model, ["Yes, gladly."], ["No, never."], layers=3, name="gladly"))
    return path


def test_an_artefact_goes_out_and_comes_back_without_a_model(tmp_path, mine):
    pytest.importorskip("gguf")
    out, back = str(tmp_path / "v.gguf"), str(tmp_path / "back.safetensors")
    assert "llama-cli -m MODEL.gguf --control-vector" in run("export", "gguf", str(mine), "--out", out)
    assert "the artefact that it carries is as it was" in run("import", out, "--out", back, "--model", "no/such/model")
    assert tillerman.load(back).cell == tillerman.load(mine).cell
    told = json.loads(run("export", "svec", str(mine), "--out", str(tmp_path / "v.svec"), "--json"))
    assert told["hook_point"] == "layers.3.resid_post" and told["changed"] == [] and told["parity"] is None


@pytest.mark.slow
def test_a_newcomer_with_a_vector_of_repengs_gets_it_evaluated_in_two_commands(tmp_path, mine):
    gguf = pytest.importorskip("gguf")
    theirs, out = tmp_path / "theirs.gguf", tmp_path / "out.safetensors"
    writer = gguf.GGUFWriter(theirs, "controlvector")
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_tensor("direction.3", next(iter(tillerman.load(mine).steering.directions.values())).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    run("import", str(theirs), *PEERS, "--out", str(out))
    assert tillerman.load(out).card is None
    short = ["--limit", "24", "--written-prompts", "0", "--shots", "0", "--all-items", "--exit-zero"]
    run("eval", str(out), "sample:interest-in-science", *short)
    card = tillerman.load(out).card
    assert card is not None and card.report["n_test"] == 24
