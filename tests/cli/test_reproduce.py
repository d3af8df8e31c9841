"""``tillerman reproduce``: files, tables, errors, and tables made anew from a log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tillerman.cli.app import app
from tillerman.core.errors import DataError, UsageError
from tillerman.logs.reproduction import ReproductionLog
from tillerman.recipes import run as running

RECIPE = Path(__file__).parents[1] / "recipes" / "small.toml"
SMALL = ["reproduce", str(RECIPE), "--only", "curve,art", "--limit", "40", "--seeds", "1"]


def run(*more, raises=None):
    result = CliRunner().invoke(app, [*SMALL, *map(str, more)], env={"COLUMNS": "160"})
    if raises is not None:
        assert isinstance(result.exception, raises), result.output
        return result.exception
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "out"
    run("--out", folder)
    return folder


def test_a_run_writes_its_log_and_its_tables(out):
    log = ReproductionLog.from_json(json.loads((out / "reproduction.json").read_text()))
    assert {(p.step, p.task, p.arm) for p in log.pieces} == {("curve", "art", "CAA"), ("curve", "art", "random")}
    page = (out / "reproduction.md").read_text()
    assert page.startswith("# A small protocol")
    assert "| It works on Mars. | nobody's dream |  | cannot be tested here | no data from Mars |" in page
    assert "5 tests of claims: " in page


def test_the_console_shows_what_the_page_shows(out):
    shown = run("--out", out)
    for words in ("A small protocol", "cannot be tested here", "5 tests of claims", "reproduction.md"):
        assert words in " ".join(shown.stdout.split())
    assert "resuming from 2 finished pieces" in shown.stderr


def test_the_json_is_the_log(out):
    log = ReproductionLog.from_json(json.loads(run("--out", out, "--json").stdout))
    assert log.recipe == "small"


def test_verdicts_are_made_anew_from_a_log_without_a_model(out, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "reproduce", None)
    other = tmp_path / "small.toml"
    other.write_text(RECIPE.read_text().replace("no data from Mars", "Mars is far"))
    again = tmp_path / "again"
    again.mkdir()
    (again / "reproduction.json").write_text((out / "reproduction.json").read_text())
    result = CliRunner().invoke(app, ["reproduce", str(other), "--render", "--out", str(again)])
    assert result.exit_code == 0, result.output
    assert "Mars is far" in (again / "reproduction.md").read_text()


def test_rendering_what_is_not_there_says_what_writes_it(tmp_path):
    error = run("--render", "--out", tmp_path, raises=Exception)
    assert "no log of kind reproduction" in str(error)
    assert "'tillerman reproduce' writes one" in str(error)


def test_missing_files_are_one_message(tmp_path):
    command = ["reproduce", str(RECIPE), "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, DataError)
    assert "2 of the recipe's data files are missing" in str(result.exception)


def test_out_must_be_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    assert "is a file" in str(run("--out", tmp_path / "file", raises=UsageError))
