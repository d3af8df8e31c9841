"""What trackers are told of a log, and each tracker's own file of it, written without a network."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.logs.test_tidy import asked_twice
from typer.testing import CliRunner

from tillerman.cli.app import app
from tillerman.core.errors import UnknownNameError, UsageError
from tillerman.logs.base import Log
from tillerman.logs.tidy import Row
from tillerman.reports.tracked import WITH_TEXTS, Tracked, tracked
from tillerman.reports.trackers import track

from .example_log import example_log
from .examples import LOGS, comparison_log


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.kind)
def test_figures_are_known_numbers_and_no_table_of_texts_is_sent_unasked(log: Log) -> None:
    for run in tracked(log):
        assert run.figures and all(type(value) is float and abs(value) < 1e9 for value in run.figures.values())
        assert not {*WITH_TEXTS} & {*run.tables} and run.files == {} and all(run.tables.values())
        assert len(run.name) <= 120 and run.parameters["kind"] == log.kind


def test_an_evaluation_is_a_run_with_every_condition_its_intervals_and_its_curve() -> None:
    log = replace(example_log(), items=asked_twice())
    (run,) = tracked(log)
    assert run.figures["steered/effect"] == log.effect.value
    assert run.figures["steered/effect_low"] == log.effect.interval.low
    assert run.figures["unsteered/rate"] == log.condition("unsteered").rate.value
    assert run.figures["kl"] == log.side_effects.kl
    assert [step["curve/strength"] for step in run.steps] == [point.strength for point in log.curve]
    assert run.parameters["verdict"] == "good" and run.parameters["hook_point"] == log.hook_point


def test_texts_are_sent_where_they_are_asked_for() -> None:
    log = replace(example_log(), items=asked_twice())
    (run,) = tracked(log, texts=True)
    assert run.tables["items"][0]["question"] == "Which, 0?"
    assert json.loads(run.files["log.json"]) == json.loads(json.dumps(log.to_json()))
    assert run.files["report.html"].startswith("<!")


def test_a_comparison_is_a_run_per_method_with_the_baselines_beside_it() -> None:
    log = comparison_log()
    runs = tracked(log)
    assert len(runs) == sum(len(part.methods) for part in log.comparisons)
    first = log.comparisons[0].methods[0]
    assert runs[0].figures["effect"] == first.effect.value
    names = [row["condition"] for row in runs[0].tables["conditions"]]
    assert names == [one.name for one in (*log.comparisons[0].baselines, *first.nulls)]


def test_a_tracker_that_is_not_there_is_said_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match="no tracker named 'mlfow'; known: mlflow, trackio, wandb"):
        track(example_log(), "mlfow")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match=r"wandb needs it installed: pip install 'tillerman\[wandb\]'"):
        track(example_log(), "wandb")


def test_a_command_names_a_tracker_that_is_not_there_before_it_works() -> None:
    done = CliRunner().invoke(app, ["fit", "no-such-file.jsonl", "--track", "mlfow"])
    assert isinstance(done.exception, UnknownNameError) and "trackio, wandb" in str(done.exception)


def sent(to: str, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """A fresh process sends the example to a tracker: they read their settings when they are imported."""
    if find_spec(to) is None:
        pytest.skip(f"{to} is not installed: pip install 'tillerman[{to}]'")
    example_log().write(folder / "log.json")
    code = (
        "import sys, tillerman; tillerman.track(tillerman.EvaluationLog.read(sys.argv[1]), sys.argv[2], project='mine')"
    )
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(folder / "log.json"), to],
        env={**os.environ, **settings},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def run() -> Tracked:
    (run,) = tracked(example_log())
    return run


@pytest.mark.slow
def test_trackio_holds_the_run_in_its_own_database_and_the_output_stays_clean(tmp_path: Path, run: Tracked) -> None:
    done = sent("trackio", tmp_path, TRACKIO_DIR=str(tmp_path / "runs"))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    with sqlite3.connect(tmp_path / "runs/mine.db") as opened:
        rows = [json.loads(row[0]) for row in opened.execute("select metrics from metrics order by step")]
        settings = json.loads(opened.execute("select config from configs").fetchone()[0])
    told = {name: value for row in rows for name, value in row.items()}
    assert {name: told[name] for name in run.figures} == run.figures
    assert {name: settings[name] for name in run.parameters} == run.parameters
    assert [row["curve/strength"] for row in rows if "curve/strength" in row] == [
        step["curve/strength"] for step in run.steps
    ]
    assert _plain(told["tables/cells"]["_value"]) == _plain(run.tables["cells"])


def _plain(rows: Iterable[Row]) -> list[Row]:
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


@pytest.mark.slow
def test_wandb_writes_the_run_offline_and_the_output_stays_clean(tmp_path: Path, run: Tracked) -> None:
    done = sent("wandb", tmp_path, WANDB_MODE="offline", WANDB_DIR=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    (table,) = (folder / "files/media/table/tables").glob("cells_*.table.json")
    kept = json.loads(table.read_text(encoding="utf-8"))
    assert kept["columns"] == list(run.tables["cells"][0]) and len(kept["data"]) == len(run.tables["cells"])
    (binary,) = folder.glob("run-*.wandb")
    written = binary.read_bytes()
    assert all(name.encode() in written for name in (*run.figures, *run.parameters))


@pytest.mark.slow
def test_mlflow_writes_the_run_into_a_folder_and_the_output_stays_clean(tmp_path: Path, run: Tracked) -> None:
    uri = (tmp_path / "runs").as_uri()
    done = sent("mlflow", tmp_path, MLFLOW_TRACKING_URI=uri, MLFLOW_ALLOW_FILE_STORE="true")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    (folder,) = (path.parent for path in (tmp_path / "runs").glob("*/*/meta.yaml"))
    figures = {
        name: float((folder / "metrics" / name.replace(":", "-")).read_text().split()[1]) for name in run.figures
    }
    assert figures == run.figures
    assert {name: (folder / "params" / name).read_text() for name in run.parameters} == {
        name: str(value) for name, value in run.parameters.items()
    }
    table = (folder / "artifacts/tables/cells.csv").read_text().splitlines()
    assert len(table) == 1 + len(run.tables["cells"])


@pytest.mark.slow
def test_a_tracker_that_refuses_is_an_error_that_says_the_log_is_unharmed(tmp_path: Path) -> None:
    done = sent("wandb", tmp_path, WANDB_MODE="online", WANDB_API_KEY="", HOME=str(tmp_path))
    assert done.returncode == 1 and "EndpointError: wandb did not take the run" in done.stderr
    assert "The log is unharmed" in done.stderr
