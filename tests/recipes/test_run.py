"""A recipe runs on the embedded model, goes on after a kill, and says what was missing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import tillerman
from tillerman.core.errors import DataError, LogError, UnknownNameError, UsageError
from tillerman.logs.reproduction import ReproductionLog, merged
from tillerman.pipeline.run import Unwatched
from tillerman.recipes import run
from tillerman.recipes.parse import SHIPPED, parse_recipe, read_recipe
from tillerman.recipes.report import claims_table, tables_of, to_markdown
from tillerman.recipes.run import Request, reproduce
from tillerman.recipes.sources import find_sources

from ..data.shared import shared_data

pytestmark = pytest.mark.slow  # a fit or a device that is pretended, in most of them

SMALL = Path(__file__).parent / "small.toml"
MOODS = Path(__file__).parents[1] / "pipeline"  # holds moods.csv
TEXT = SMALL.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pilot():
    return tillerman.open_model("pilot")


@pytest.fixture(scope="module")
def log(pilot):
    request = Request(MOODS, limit=60, only=("fits", "curve", "thinking"), skip_missing=True)
    return reproduce(read_recipe(SMALL), [pilot], request)


def test_a_run_has_a_piece_for_every_arm_task_and_seed_and_cell(log):
    found = {(p.step, p.task, p.arm, p.seed, p.layer, p.strength) for p in log.pieces}
    fits = {("fits", t, a, s, None, None) for t in ("science", "art") for a in ("CAA", "wrong") for s in (0, 1)}
    curve = {
        ("curve", t, a, s, 13, strength)
        for t in ("science", "art", "moods")
        for a in ("CAA", "random")
        for s in (0, 1)
        for strength in (-3, 0, 3)
    }
    assert found == fits | curve
    assert all(p.figures for p in log.pieces)


def test_the_figures_of_a_fit_are_those_of_the_pipeline(log, pilot):
    piece = next(p for p in log.pieces if (p.step, p.task, p.arm, p.seed) == ("fits", "art", "wrong", 1))
    experiment = tillerman.Experiment(
        max_kl=None,
        max_perplexity_ratio=None,
        method="ipas-wrong",
        seed=1,
        layers=(3, 4),
        doses=(0.2, 0.4),
        null_draws=2,
        neutral="sample:tinystories",
        neutral_tokens=256,
        unrelated_items=4,
        shots=2,
        generations=(),
    )
    alone = tillerman.fit(experiment, pilot, tillerman.load_examples("sample:interest-in-art", limit=60)).log
    assert piece.figures["effect"].value == pytest.approx(alone.effect.value)
    assert piece.figures["null_random"].value == pytest.approx(alone.condition("null:random").effect.value)
    assert piece.figures["kl"].value == pytest.approx(alone.side_effects.kl, abs=1e-5)


def test_at_strength_zero_nothing_changes_and_nothing_is_paid(log):
    for piece in log.pieces:
        if piece.strength == 0:
            assert piece.figures["effect"].value == 0
            assert piece.figures["right"].value == pytest.approx(piece.figures["unsteered"].value)
            assert "kl" not in piece.figures or piece.figures["kl"].value == 0
    strong = [p for p in log.pieces if p.step == "curve" and p.arm == "CAA" and p.strength == 3]
    assert all(p.figures["kl"].value > 0 and p.figures["dose"].value > 0 for p in strong)


def test_what_was_left_out_or_stood_in_is_told(log):
    reasons = {one.what: one.reason for one in log.left_out}
    assert reasons["lost"] == "no file nowhere/lost.jsonl in the data folder"
    assert reasons["thinking"] == "pilot has no thinking tags"
    assert log.notes == ("moods: moods.csv instead of published/moods.csv: made for a test",)
    verdicts = {v.claim: v for v in log.verdicts}
    assert set(verdicts) == {claim.name for claim in read_recipe(SMALL)[0].claims}
    assert verdicts["lost-works"].why == f"lost: {reasons['lost']}"
    assert verdicts["thinks-less"].why == reasons["thinking"]
    assert verdicts["strength-works"].interval is not None


def test_published_figures_stand_beside_measured_ones(log):
    recipe, _ = read_recipe(SMALL)
    (table,) = tables_of(recipe, log)
    assert table.title == "Change of answers, pp (published: nobody's table)"
    assert table.rows[0] == ("both", "published", "+25.0", "")
    assert table.rows[1][1] == "small settings; 2 tasks, 2 seeds"
    assert " to " in table.rows[1][2]
    assert table.rows[2] == ("lost", "published", "+50.0", "+50.0")
    page = to_markdown(recipe, log)
    for row in claims_table(recipe, log).rows:
        assert f"| {row[3]} |" in page
    assert "left out: lost: no file nowhere/lost.jsonl" in page


def test_the_log_comes_back_from_its_file(log):
    again = ReproductionLog.from_json(json.loads(json.dumps(log.to_json())))
    assert again.verdicts == log.verdicts
    recipe, _ = read_recipe(SMALL)
    assert tables_of(recipe, again) == tables_of(recipe, log)
    with pytest.raises(LogError, match="a log of kind reproduction, version 99"):
        ReproductionLog.from_json({**log.to_json(), "version": 99})


def test_runs_of_parts_make_one_log(log, pilot):
    recipe, request = read_recipe(SMALL), Request(None, limit=40, seeds=1)
    parts = [reproduce(recipe, [pilot], replace(request, only=("curve", task))) for task in ("art", "science")]
    whole = reproduce(recipe, [pilot], replace(request, only=("curve", "both")))
    both = merged(parts)
    assert {(p.task, p.arm, p.strength): p.figures for p in both.pieces} == {
        (p.task, p.arm, p.strength): p.figures for p in whole.pieces
    }
    assert merged([both, parts[0]]).pieces == both.pieces
    assert tables_of(recipe[0], both) == tables_of(recipe[0], whole)
    with pytest.raises(UsageError, match="logs of several recipes: other, small"):
        merged([log, replace(log, recipe="other")])
    elsewhere = tuple(replace(ran, model_fingerprint="another") for ran in log.ran)
    with pytest.raises(UsageError, match="run on several models"):
        merged([log, replace(log, ran=elsewhere)])


def test_a_run_of_some_claims_finds_what_the_whole_run_finds(log, pilot):
    request = Request(MOODS, limit=60, seeds=1, claims=("it-works", "strength-works"))
    some = reproduce(read_recipe(SMALL), [pilot], request)
    assert {(p.step, p.arm, p.strength) for p in some.pieces} == {
        ("fits", "CAA", None),
        ("curve", "CAA", 3),
        ("curve", "CAA", -3),
    }
    whole = {(p.step, p.task, p.arm, p.seed, p.strength): p.figures["effect"] for p in log.pieces}
    for p in some.pieces:
        assert p.figures["effect"] == whole[p.step, p.task, p.arm, p.seed, p.strength]
        assert p.step == "fits" or "kl" not in p.figures
    said = {v.claim: v for v in some.verdicts}
    assert set(said) == {v.claim for v in log.verdicts}
    assert said["it-works"].interval is not None
    assert said["lost-works"].outcome == "cannot be tested here"


def test_a_second_model_takes_the_steps_that_the_first_cannot_do(pilot):
    request = Request(None, limit=30, seeds=1, only=("thinking",))
    made = reproduce(read_recipe(SMALL), [pilot, tillerman.open_model("pilot-moe")], request)
    assert [(ran.step, ran.model_id) for ran in made.ran] == [("thinking", "pilot-moe")]
    plain, steered = made.pieces
    assert (plain.strength, plain.figures["thought_change"].value) == (0, 0)
    assert steered.figures["thought"].value > 0
    assert steered.figures["right"].n == plain.figures["right"].n


def test_all_missing_files_are_one_error_before_any_work(tmp_path, pilot):
    class Looking(Unwatched):
        def stage(self, title, total):
            raise AssertionError(f"work began: {title}")

    with pytest.raises(DataError, match=r"2 of the recipe's data files are missing") as error:
        reproduce(read_recipe(SMALL), [pilot], Request(tmp_path), watch=Looking())
    for line in (f"in {tmp_path}:", "  published/moods.csv  (task moods)", "  nowhere/lost.jsonl  (task lost)"):
        assert line in str(error.value)
    assert "`skip_missing`" in str(error.value)


def test_a_recipe_of_files_wants_their_folder():
    recipe, _ = read_recipe(SMALL)
    with pytest.raises(UsageError, match="`data` DIR"):
        find_sources(recipe.tasks, None, skip_missing=True)
    found, _, _ = find_sources([recipe.task("art")], None, skip_missing=False)
    assert found["art"].file == "sample:interest-in-art"


def test_an_unknown_task_to_run_is_named(pilot):
    with pytest.raises(UnknownNameError, match="no task or group named 'siense'"):
        reproduce(read_recipe(SMALL), [pilot], Request(only=("siense",)))
    with pytest.raises(UsageError, match="`limit` 0"):
        Request(limit=0)


def test_what_the_data_cannot_feed_is_told_and_stops_nothing(pilot):
    text = TEXT.replace('method = "ipas-wrong"', 'method = "sta"')  # wants an autoencoder's layer, and gets 3 and 4
    text = text.replace('tasks = ["both", "lost"]', 'tasks = ["moods"]').replace(
        'method = "sta"', 'method = "ipas-wrong"'
    )
    made = reproduce((parse_recipe(text), ""), [pilot], Request(MOODS, limit=60, seeds=1, only=("fits",)))
    assert {p.arm: bool(p.figures) for p in made.pieces} == {"CAA": True, "wrong": False}
    (unfit,) = [p for p in made.pieces if not p.figures]
    assert unfit.reason


def test_an_arm_of_other_settings_does_not_take_the_answers_of_one_of_the_same_method(pilot):
    text = TEXT.replace(
        'name = "wrong"\nmethod = "ipas-wrong"', 'name = "wrong"\nmethod = "caa"\nsettings = { max_train = 3 }'
    )
    assert text != TEXT
    request = Request(None, limit=60, seeds=1, only=("fits", "art"))
    few = {p.arm: p for p in reproduce((parse_recipe(text), ""), [pilot], request).pieces}["wrong"]
    swapped = text.replace(
        'name = "CAA"\nmethod = "caa"\n[[step.arm]]', 'name = "CAA"\nmethod = "ipas-wrong"\n[[step.arm]]', 1
    )
    assert swapped != text
    alone = {p.arm: p for p in reproduce((parse_recipe(swapped), ""), [pilot], request).pieces}["wrong"]
    assert (few.cell, few.figures) == (alone.cell, alone.figures)


def counting(monkeypatch):
    """How often work is really done."""
    done = []
    real = run._made

    def made(work, shared):
        done.append((work.step.name, work.source.task.name, work.arm.name, work.seed))
        return real(work, shared)

    monkeypatch.setattr(run, "_made", made)
    return done


def test_finished_pieces_are_not_run_again_and_other_settings_are(tmp_path, pilot, monkeypatch):
    request = Request(None, limit=40, seeds=1, only=("curve", "art"))
    done = counting(monkeypatch)
    first = reproduce(read_recipe(SMALL), [pilot], request, store=tillerman.Store(tmp_path / "pieces", "r"))
    assert len(done) == 2
    again = reproduce(read_recipe(SMALL), [pilot], request, store=tillerman.Store(tmp_path / "pieces", "r"))
    assert len(done) == 2
    assert [p.figures for p in again.pieces] == [p.figures for p in first.pieces]
    assert again.seconds > first.seconds / 2  # of the run that made what was found
    changed = (parse_recipe(TEXT.replace("strengths = [-3, 0, 3]", "strengths = [-3, 0, 3, 5]")), "")
    reproduce(changed, [pilot], request, store=tillerman.Store(tmp_path / "pieces", "r"))
    assert len(done) == 4


def test_an_arm_under_another_name_is_not_run_again(tmp_path, pilot, monkeypatch):
    done, folder = counting(monkeypatch), tmp_path / "pieces"
    request = Request(None, limit=40, seeds=1, only=("curve", "art"))
    first = reproduce(read_recipe(SMALL), [pilot], request, store=tillerman.Store(folder, "r"))
    renamed = parse_recipe(TEXT.replace("CAA", "Means"))
    again = reproduce((renamed, ""), [pilot], request, store=tillerman.Store(folder, "r"))
    assert len(done) == 2
    assert [p.arm for p in again.pieces] == [p.arm.replace("CAA", "Means") for p in first.pieces]
    assert {p.arm for p in again.pieces} == {"Means", "random"}
    assert [p.figures for p in again.pieces] == [p.figures for p in first.pieces]


def test_after_kill_9_a_run_goes_on_and_gives_the_same_numbers(tmp_path):
    asked = ["--data", str(MOODS), "--skip-missing", "--limit", "40", "--seeds", "1", "--only", "fits,curve"]
    command = [sys.executable, "-c", "from tillerman.cli.app import main; main()", "reproduce", str(SMALL), *asked]
    whole = subprocess.run([*command, "--out", str(tmp_path / "whole")], capture_output=True, text=True, check=True)
    assert "verdict" in whole.stdout
    killed = subprocess.Popen(
        [*command, "--out", str(tmp_path / "killed")], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    kept = tmp_path / "killed" / "pieces" / "values.jsonl"
    until = time.monotonic() + 300
    while not (kept.exists() and kept.stat().st_size) and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "reproduction.json").exists()
    again = subprocess.run([*command, "--out", str(tmp_path / "killed")], capture_output=True, text=True, check=True)
    assert "resuming from" in again.stderr
    logs = [json.loads((tmp_path / name / "reproduction.json").read_text()) for name in ("whole", "killed")]
    assert logs[0]["pieces"] == logs[1]["pieces"]
    assert logs[0]["verdicts"] == logs[1]["verdicts"]


# Of each recipe a few tasks that are quick, so that every kind of step runs on published files.
SOME = {
    "pas": "age,truthfulqa,paper,ours",
    "cae": "extraversion,samples,paper",
    "cold-steer": "coordinate,democrat,paper,opinions",
    "sta": "science,thoughts,strengths,overthinking",
    "rice": "sums,experts",
    "steerability": "nihilism,slopes,words",
}


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_runs_on_published_files(name):
    folder = shared_data()
    models = [tillerman.open_model("pilot"), tillerman.open_model("pilot-moe")]
    request = Request(folder, limit=40, seeds=1, only=tuple(SOME[name].split(",")), skip_missing=True)
    made = reproduce(read_recipe(name), models, request)
    assert {ran.step for ran in made.ran} == {
        n for n in SOME[name].split(",") if n in {s.name for s in read_recipe(name)[0].steps}
    }
    assert any(p.figures for p in made.pieces)
    assert tables_of(read_recipe(name)[0], made)
    assert len(made.verdicts) >= len(read_recipe(name)[0].claims)
