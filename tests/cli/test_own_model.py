"""Commands about an artefact open the model it was fitted on, and say where nothing is steered."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

import tillerman
from tillerman.cli import app as cli
from tillerman.cli.options import ModelChoice
from tillerman.core.artefact import ABSTAINS, Artefact, save
from tillerman.core.errors import ModelError, UsageError
from tillerman.models.opened import open_model
from tillerman.steering.steer import steer

from .. import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved model and an artefact of it."""
    place = tmp_path_factory.mktemp("own")
    tiny.new_model().save_pretrained(place / "model")
    tiny.new_tokenizer(tiny.CHAT).save_pretrained(place / "model")
    opened = open_model(place / "model")
    vector = opened.vector({1: [1.0] * tiny.WIDTH}, name="mine")
    save(place / "mine.safetensors", tillerman.Artefact(vector, tillerman.Cell.of(vector)))
    save(place / "idle.safetensors", tillerman.Artefact(vector, tillerman.Cell.of(vector).at(0.0)))
    return place


def _generate(folder, name, *more):
    said = CliRunner().invoke(
        cli.app, ["generate", "Hello", "-a", str(folder / name), "--tokens", "3", "--temperature", "0", *more]
    )
    return said, said.stdout + said.stderr


def test_without_a_model_the_artefacts_own_is_opened(folder):
    said, text = _generate(folder, "mine.safetensors", "--json")
    assert said.exit_code == 0, text
    assert [row["strength"] for row in json.loads(said.stdout)["continuations"]] == [0.0, 1.0]


def test_an_artefact_that_abstains_has_no_steered_row_and_says_why(folder):
    said, text = _generate(folder, "idle.safetensors")
    assert said.exit_code == 0, text
    flat = " ".join(text.split())
    assert ABSTAINS in flat
    assert "(unsteered)" in flat
    assert "steered at" not in flat
    _, steered = _generate(folder, "idle.safetensors", "--strengths", "1")
    assert ABSTAINS not in " ".join(steered.split())


def test_show_and_a_receipt_say_that_an_artefact_abstains(folder):
    said = CliRunner().invoke(cli.app, ["show", str(folder / "idle.safetensors")])
    assert ABSTAINS in " ".join(said.stdout.split())
    opened, artefact = open_model(folder / "model"), tillerman.load(folder / "idle.safetensors")
    assert "abstains" in repr(artefact)
    with steer(opened, artefact) as steered:
        opened.model(input_ids=tiny.padded(tiny.random_rows([4]), "left")[0])
    assert ABSTAINS in steered.receipt.warnings


@pytest.mark.parametrize("named", ["LlamaForCausalLM", "pilot, bf16", "/no/such/folder", ""])
def test_a_model_that_cannot_be_found_by_its_name_is_asked_for(folder, named, tmp_path):
    artefact = tillerman.load(folder / "mine.safetensors")
    made = replace(artefact.steering.provenance, model_id=named)
    save(tmp_path / "x.safetensors", Artefact(replace(artefact.steering, provenance=made), artefact.cell))
    with pytest.raises(UsageError, match="give --model"):
        ModelChoice(None).of(tmp_path / "x.safetensors")
    assert ModelChoice("pilot").of(tmp_path / "x.safetensors").name == "pilot"


def test_a_prompt_longer_than_the_context_is_told_before_it_runs(folder):
    said, text = _generate(folder, "mine.safetensors", "--tokens", "300")
    assert said.exit_code != 0
    error = str(said.exception)
    assert "reads 256 in all" in error, text


def test_an_own_model_that_cannot_be_opened_is_asked_for(folder, tmp_path):
    artefact = tillerman.load(folder / "mine.safetensors")
    (tmp_path / "empty").mkdir()
    made = replace(artefact.steering.provenance, model_id=str(tmp_path / "empty"))
    save(tmp_path / "x.safetensors", Artefact(replace(artefact.steering, provenance=made), artefact.cell))
    own = ModelChoice(None).of(tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=r"x.safetensors was fitted on .*, give --model where it lies now; .+") as told:
        own.open()
    assert len(str(told.value)) <= 600
    with pytest.raises(ModelError) as plain:
        ModelChoice(str(tmp_path / "empty")).open()
    assert "fitted on" not in str(plain.value)
