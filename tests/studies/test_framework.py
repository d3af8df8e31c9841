"""What all studies share: trials, logs, cards, resumption, the command line."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tillerman
from tillerman import studies
from tillerman.cli import app as cli
from tillerman.core.errors import MetricError, TillermanError, UsageError
from tillerman.core.store import Store
from tillerman.data.loading import LoadedData
from tillerman.evaluation.cards import studies_of, with_study
from tillerman.logs.study import StudyLog, Trial
from tillerman.reports.study import to_markdown
from tillerman.studies import STUDIES, SamplesOptions, SideEffectsOptions, Subject, judge_again, run
from tillerman.studies.base import experiment_of, study_key
from tillerman.studies.options import StudyOptions

QUICK = SideEffectsOptions(limit=20, factors=(0.5, 1.0), unrelated_items=10)
COMMAND = [sys.executable, "-c", "from tillerman.cli.app import main; main()", "study"]


@pytest.fixture(scope="module")
def log(subject: Subject) -> StudyLog:
    return run("side-effects", subject, QUICK)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_a_finite_number_is_refused(value: float) -> None:
    with pytest.raises(MetricError, match=r"case, steered: score is not a finite number for 1 of 3 items, the first b"):
        Trial("case", "steered", ("a", "b", "c"), (0.0, value, 1.0), scorer="score")


def test_a_trial_has_one_value_per_item() -> None:
    with pytest.raises(MetricError, match="2 items, 1 values"):
        Trial("case", "steered", ("a", "b"), (1.0,))
    with pytest.raises(MetricError, match="2 items, 1 groups"):
        Trial("case", "steered", ("a", "b"), (1.0, 0.0), ("A",))
    with pytest.raises(MetricError, match="no item was scored"):
        Trial("case", "steered", (), ())


def test_a_log_comes_back_from_json_as_it_was(log: StudyLog) -> None:
    again = StudyLog.from_json(json.loads(json.dumps(log.to_json())))
    assert again == replace(log, options=again.options)
    assert again.options["factors"] == [0.5, 1.0]


def test_a_log_judged_again_says_the_same(log: StudyLog) -> None:
    emptied = replace(log, tables=(), charts=(), notes=(), verdict=replace(log.verdict, words="?"))
    again = judge_again(StudyLog.from_json(json.loads(json.dumps(emptied.to_json()))))
    assert (again.verdict, again.tables, again.charts, again.notes) == (log.verdict, log.tables, log.charts, log.notes)


def test_a_log_of_another_version_is_refused(log: StudyLog) -> None:
    with pytest.raises(tillerman.LogError, match="version 99; this Tillerman reads version 1"):
        StudyLog.from_json({**log.to_json(), "version": 99})


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers(log: StudyLog, subject: Subject) -> None:
    assert run("side-effects", subject, QUICK).trials == log.trials


def test_a_card_carries_verdict_and_tables_but_no_trials(
    log: StudyLog, artefact: tillerman.Artefact, tmp_path: Path
) -> None:
    path = tmp_path / "vector.safetensors"
    tillerman.save(path, with_study(with_study(artefact, log), log))
    (stored,) = studies_of(tillerman.load(path))
    assert stored.verdict == log.verdict and stored.tables == log.tables
    assert stored.trials == ()
    with pytest.raises(UsageError, match="holds no trials"):
        judge_again(stored)


def test_test_items_are_those_that_the_fit_did_not_see(
    subject: Subject, artefact: tillerman.Artefact, log: StudyLog
) -> None:
    experiment = experiment_of(artefact)
    assert (experiment.max_test, experiment.layers, experiment.method) == (60, (3,), "caa")
    assert len(next(t for t in log.trials if t.case == "behaviour").items) == 20
    lab = studies.base.set_up_lab(subject, StudyOptions(limit=1000))
    fitted = {item.example.id for share in (lab.run.train, lab.run.validation) for item in share.items}
    assert len(lab.exam.items) == 60 and not fitted & {item.example.id for item in lab.exam.items}


@pytest.mark.slow
def test_a_vector_that_was_read_otherwise_is_studied_as_it_was_read(artefact: tillerman.Artefact) -> None:
    made = replace(artefact.steering.provenance, method="caa, read as mean, layers together", read_positions="mean")
    found = experiment_of(replace(artefact, steering=replace(artefact.steering, provenance=made)))
    assert (found.spec, found.read) == ("caa", "mean")


@pytest.mark.slow
def test_a_stopped_study_goes_on_from_its_pieces(subject: Subject, tmp_path: Path, log: StudyLog) -> None:
    key = study_key("side-effects", QUICK, subject)
    first = Store(tmp_path / "kept", key)
    run("side-effects", subject, QUICK, store=first)
    first.close(finished=False)
    again = Store(tmp_path / "kept", key)
    assert again.resumed
    assert run("side-effects", subject, QUICK, store=again).trials == log.trials


def test_other_options_name_another_run(subject: Subject) -> None:
    keys = {
        study_key("side-effects", QUICK, subject),
        study_key("side-effects", replace(QUICK, seed=1), subject),
        study_key("side-effects", replace(QUICK, max_kl=0.2), subject),
        study_key("samples", SamplesOptions(), subject),
    }
    assert len(keys) == 4


def test_an_artefact_that_abstains_cannot_be_studied(
    artefact: tillerman.Artefact, pilot: tillerman.OpenModel, science: LoadedData
) -> None:
    with pytest.raises(UsageError, match=r"abstains \(strength 0\)"):
        Subject(replace(artefact, cell=artefact.cell.at(0.0)), pilot, science)


def test_options_of_one_study_are_refused_by_another(subject: Subject) -> None:
    with pytest.raises(UsageError, match="samples: expected SamplesOptions, got SideEffects"):
        run("samples", subject, QUICK)


def test_every_study_is_named_in_the_help_and_on_its_page() -> None:
    help_text = " ".join(CliRunner().invoke(cli.app, ["study", "--help"], env={"COLUMNS": "200"}).output.split())
    page = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")
    for name in STUDIES:
        assert name in help_text
        assert f"## {name}" in page


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (["side-effects", "sample:agreeableness", "--counts", "1,2,3"], "does not read it; it belongs to samples"),
        (["side-effect", "sample:agreeableness"], "Did you mean 'side-effects'?"),
        (["samples"], "DATA is missing"),
        (["samples", "sample:agreeableness", "--counts", "1,2"], "at least three numbers"),
        (["side-effects", "sample:agreeableness", "--factors", "2,3"], "1 must be among them"),
        (["side-effects", "--rejudge", "nothing.json"], "no log of kind study"),
        (["samples", "sample:agreeableness", "-a", "nothing.safetensors"], "no such file"),
        (
            ["samples", "sample:agreeableness", "-a", "x", "--template-args", "a=1"],
            "an artefact brings",
        ),
        (["samples", "sample:agreeableness", "--template-args", "effort=low"], "this chat template does not take it"),
    ],
)
def test_a_bad_call_is_one_clear_error(
    call: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.app, ["study", *call])
    assert isinstance(done.exception, TillermanError) and says in str(done.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_killed_study_goes_on_and_ends_with_the_same_log(artefact: tillerman.Artefact, tmp_path: Path) -> None:
    tillerman.save(tmp_path / "v.safetensors", artefact)
    base = [
        "sample:interest-in-science",
        "-a",
        "v.safetensors",
        "--no-card",
        "--draws",
        "3",
        "--steps",
        "4",
        "--limit",
        "40",
    ]

    def command(out: str) -> list[str]:
        return [*COMMAND, "samples", *base, "--limit", "40", "-o", out]

    subprocess.run(command("whole"), cwd=tmp_path, check=True, capture_output=True)
    running = subprocess.Popen(command("killed"), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    partial = tmp_path / "killed" / "samples.partial"
    until = time.monotonic() + 120
    while len(list(partial.glob("draw*"))) < 2:
        assert running.poll() is None, "finished before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.005)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    assert not (tmp_path / "killed" / "samples.json").exists()
    again = subprocess.run(command("killed"), cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "finished pieces of an interrupted run" in again.stderr
    whole, resumed = (json.loads((tmp_path / name / "samples.json").read_text()) for name in ("whole", "killed"))
    assert resumed["trials"] == whole["trials"] and resumed["verdict"] == whole["verdict"]
    assert not partial.exists()


@pytest.mark.slow
def test_a_study_writes_its_files_and_the_card(artefact: tillerman.Artefact, tmp_path: Path) -> None:
    tillerman.save(tmp_path / "v.safetensors", artefact)
    call = [*COMMAND, "side-effects", "sample:interest-in-science", "-a", "v.safetensors", "--limit", "20", "-o", "out"]
    subprocess.run(call, cwd=tmp_path, check=True, capture_output=True)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"side-effects.json", "side-effects.md", "side-effects.html", "side-effects-1.svg", "report.html"} <= names
    (stored,) = studies_of(tillerman.load(tmp_path / "v.safetensors"))
    assert stored.study == "side-effects"
    told = subprocess.run(
        [*COMMAND[:-1], "show", "v.safetensors"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "side-effects: " in told.stdout
    again = [*COMMAND, "side-effects", "--rejudge", "out/side-effects.json", "--json"]
    judged = subprocess.run(again, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(judged.stdout)["verdict"]["words"] == stored.verdict.words


def test_markdown_holds_the_verdict_and_every_table(log: StudyLog) -> None:
    page = to_markdown(log)
    assert log.verdict.words.split(" (")[0] in page
    assert all(table.title in page for table in log.tables)
