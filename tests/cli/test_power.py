"""What the test items can show is said before anything is run, and nested folds from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tillerman.cli.app import app
from tillerman.core.artefact import Artefact, save
from tillerman.core.cell import Cell
from tillerman.core.errors import DataError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.provenance import Provenance
from tillerman.core.steerings.vector import SteeringVector
from tillerman.pipeline import flow

DATA = "sample:interest-in-science"
SAID = "are detected with 80 % power (if 20 % of items change their answer"


def _said(*command: str) -> str:
    """All that is printed, on one line."""
    return " ".join(CliRunner().invoke(app, list(command), env={"COLUMNS": "400"}).output.split())


def test_a_fit_says_what_it_can_show_before_the_model_is_opened() -> None:
    output = _said("fit", DATA, "-m", "no-such-folder/model", "--out", "unwritten.safetensors")
    assert SAID in output
    assert "warning" not in output


def test_a_fit_on_few_items_says_what_to_do() -> None:
    output = _said("fit", DATA, "-m", "no-such-folder/model", "--limit", "40", "--out", "unwritten.safetensors")
    assert "warning: effects below 25 pp are likely to be missed (power below 80 %); provide more data" in output


def test_a_comparison_says_it_for_each_data_set_and_shares_alpha() -> None:
    output = _said("compare", DATA, "sample:agreeableness", "--methods", "caa,pas-full", "-m", "no-such-folder/model")
    assert output.count(SAID) == 2
    assert output.count("at p below 0.025: several methods share 0.05") == 2
    assert "interest-in-science: n =" in output
    assert "agreeableness: n =" in output


def test_an_evaluation_says_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point = HookPoint(3)
    made = Provenance("pilot", "feedbeef", 128, 8, "t", "c", "chat", "caa")
    steering = SteeringVector({point: torch.ones(128)}, {point: 10.0}, made)
    save(tmp_path / "v.safetensors", Artefact(steering, Cell.of(steering)))

    def stop(*_: object, **__: object) -> None:
        raise DataError("nothing is run here")

    monkeypatch.setattr(flow, "evaluate", stop)
    output = _said("eval", str(tmp_path / "v.safetensors"), DATA, "--model", "pilot", "--allow-mismatch")
    assert SAID in output


@pytest.mark.slow
def test_nested_folds_are_in_the_json_beside_the_detectable_effect(tmp_path: Path) -> None:
    command = [
        "fit",
        DATA,
        "--limit",
        "150",
        "--method",
        "caa",
        "--layers",
        "3",
        "--doses",
        "0.3",
        "--nested",
        "2",
        "--shots",
        "0",
        "--neutral",
        "sample:tinystories",
        "--unrelated",
        "sample:bbq-age",
        "--json",
        "-o",
        str(tmp_path / "v.safetensors"),
    ]
    made = CliRunner().invoke(app, command)
    assert made.exit_code in (0, 3), made.output
    found = json.loads(made.stdout)
    assert found["minimum_detectable_effect"] > 0.05
    assert len(found["nested"]["folds"]) == 2
    assert found["optimism"] == found["nested"]["optimism"]
    shown = CliRunner().invoke(app, ["show", str(tmp_path / "v.safetensors")], env={"COLUMNS": "400"})
    assert "Selection optimism" in shown.output
