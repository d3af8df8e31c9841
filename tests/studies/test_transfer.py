"""Vectors on other models of the same shape: the verdict on trials made by hand, the study on the embedded model."""

from __future__ import annotations

import builtins
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tillerman
from tillerman.core.errors import MetricError, MismatchError, ModelError, UnknownNameError, UsageError
from tillerman.core.store import Store
from tillerman.logs.study import StudyLog, Trial
from tillerman.models import precision
from tillerman.models.precision import in_precision, makeable
from tillerman.studies import Subject, TransferOptions, judge_again, run
from tillerman.studies.base import study_key
from tillerman.studies.transfer.judge import judge
from tillerman.studies.transfer.options import HOME, OWN, TUNED
from tillerman.studies.trials import KL, change, odds_of

from .. import tiny
from .conftest import share, trial
from .test_interaction import odds

QUICK = TransferOptions(limit=60, draws=2, precisions=("bf16",))
COMMAND = [sys.executable, "-c", "from tillerman.cli.app import main; main()", "study"]


def made(
    there: Sequence[tuple[int, int]] = ((50, 90),),
    *,
    home: int = 90,
    moved: Sequence[float] | None = None,
    own: int = 90,
) -> list[Trial]:
    """Of 100 items so many are right at home and on each target, unsteered and steered; ``moved``: the change of
    log-odds on each target, of 1.0 at home."""
    trials = []
    for k, (plain, steered) in enumerate(((50, home), *there)):
        case = HOME if k == 0 else f"target {k}"
        rights = {"unsteered": plain, "steered": steered, "null:random 1": plain, "null:random 2": plain + 1}
        if k:
            rights[OWN] = own
        trials += [trial(case, name, share(count)) for name, count in rights.items()]
        if moved is not None:
            change_of = 1.0 if k == 0 else moved[k - 1]
            trials += [odds(case, "unsteered", [0.1] * 100), odds(case, "steered", [0.1 + change_of] * 100)]
    return trials


@pytest.mark.parametrize(
    ("trials", "outcome", "says"),
    [
        (made(), "good", "target 1: +40.0 (+30.9 to +49.8) pp, 100 % (100 to 100 %) of home."),
        (made(((50, 90), (50, 85))), "good", "target 2: +35.0"),
        (made(((50, 60),)), "bad", "a vector fitted there gives +40.0 (+30.9 to +49.8) pp: fit it anew"),
        (made(((50, 50),), own=50), "bad", "target 1: 0.0 (−3.7 to +3.7) pp, 0 % (0 to 0 %) of home."),
        (made(((50, 90), (50, 52))), "mixed", "target 2: +2.0"),
        (made(((50, 76),)), "mixed", "65 %"),
        (made(((95, 98),)), "unclear", "unsteered it is already right on 95 %, so only 5.0 pp could be gained"),
        (made(((70, 88),), moved=(1.0,)), "good", "100 % (100 to 100 %) of home in log-odds (unsteered it is +20.0 pp"),
        (made(((50, 88),), moved=(0.3,)), "bad", "30 % (30 to 30 %) of home in log-odds"),
        (made(home=51), "bad", "Nothing to transfer: at home there is no effect beyond the controls, +1.0 pp"),
        (made(()), "unclear", "No other model was asked"),
    ],
)
def test_the_verdict_follows_from_what_is_kept(trials: list[Trial], outcome: str, says: str) -> None:
    verdict = judge(trials, TransferOptions()).verdict
    assert (verdict.outcome, says in verdict.words) == (outcome, True), verdict.words


def test_a_target_that_random_directions_steer_as_well_is_none() -> None:
    trials = [one for one in made() if not (one.case == "target 1" and one.condition.startswith("null"))]
    trials += [trial("target 1", "null:random 1", share(88)), trial("target 1", "null:random 2", share(91))]
    assert judge(trials, TransferOptions()).verdict.outcome == "bad"


def test_other_items_than_those_asked_at_home_are_refused() -> None:
    trials = [
        replace(one, items=tuple(f"other {i}" for i in range(100))) if one.case != HOME else one for one in made()
    ]
    with pytest.raises(MetricError, match="target 1: was not asked the same items as"):
        judge(trials, TransferOptions())


@pytest.fixture(scope="module")
def log(subject: Subject) -> StudyLog:
    return run("transfer", subject, QUICK)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_and_the_log_can_be_judged_again(log: StudyLog, subject: Subject) -> None:
    assert run("transfer", subject, QUICK).trials == log.trials
    assert judge_again(StudyLog.from_json(json.loads(json.dumps(log.to_json())))).verdict == log.verdict


@pytest.mark.slow
def test_a_stopped_study_opens_no_model_that_is_finished(
    log: StudyLog, subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = study_key("transfer", QUICK, subject)
    first = Store(tmp_path / "kept", key)
    run("transfer", subject, QUICK, store=first)
    first.close(finished=False)

    def never(*_: object) -> tillerman.OpenModel:
        raise AssertionError("a finished target was made again")

    monkeypatch.setattr("tillerman.studies.transfer.measure.in_precision", never)
    assert run("transfer", subject, QUICK, store=Store(tmp_path / "kept", key)).trials == log.trials


@pytest.mark.slow
def test_no_target_is_fitted_on_what_another_one_said(subject: Subject, tmp_path: Path) -> None:
    louder = in_precision(subject.opened, "bf16")
    with torch.no_grad():
        for parameter in louder.parts.blocks[0].parameters():
            parameter.mul_(1.2)
    two = replace(subject, opener=lambda name: louder)
    asked = replace(QUICK, limit=10, to=("louder",))
    log = run("transfer", two, asked, store=Store(tmp_path / "kept", study_key("transfer", asked, two)))
    plain, loud = (t.values[0] for t in log.trials if t.condition == "stream norm" and t.case != HOME)
    assert abs(loud / plain - 1) > 0.01


def test_rounding_to_bf16_keeps_the_vector_and_its_dose(log: StudyLog) -> None:
    assert log.verdict.outcome == "good", log.verdict.words
    home, there = (change(log.trials, case, odds_of("steered"), odds_of("unsteered")).mean() for case in (HOME, "bf16"))
    assert there == pytest.approx(home, rel=0.05) and there != home
    doses = [t.values[0] for t in log.trials if t.condition == "dose"]
    assert doses == pytest.approx([0.2, 0.2], rel=0.01)
    (alike,) = [t.values for t in log.trials if (t.case, t.condition) == ("bf16", "cosine")]
    assert alike[0] > 0.999
    assert {t.case for t in log.trials if t.condition == KL} == {HOME, "bf16"}


@pytest.mark.slow
def test_a_random_vector_is_called_bad(random_subject: Subject) -> None:
    assert run("transfer", random_subject, QUICK).verdict.outcome == "bad"


@pytest.mark.slow
def test_a_model_whose_upper_blocks_are_lost_is_called_bad(subject: Subject) -> None:
    """The stream that the vector steers no longer reaches the answers: the vector is the same, the effect is not."""
    broken = in_precision(subject.opened, "bf16")
    with torch.no_grad():
        for block in list(broken.parts.blocks)[4:]:
            for parameter in block.parameters():
                parameter.mul_(-1)
    opened = replace(subject, opener=lambda name: broken)
    log = run("transfer", opened, replace(QUICK, precisions=None, to=("broken",)))
    assert [t.case for t in log.trials if t.condition == "steered"] == [HOME, "broken"]
    assert log.verdict.outcome in ("bad", "mixed"), log.verdict.words
    assert "broken: " in log.verdict.words


@pytest.mark.slow
def test_a_model_of_another_width_is_refused(subject: Subject) -> None:
    other = replace(subject, opener=lambda name: tiny.opened("llama"))
    with pytest.raises(MismatchError, match="width"):
        run("transfer", other, replace(QUICK, precisions=None, to=("narrow",)))


@pytest.mark.slow
def test_a_fine_tuned_copy_that_knows_the_answers_leaves_no_room(subject: Subject) -> None:
    pytest.importorskip("peft", reason="peft is not installed: make test installs it")
    log = run("transfer", subject, replace(QUICK, precisions=None, tuned=True))
    assert [t.case for t in log.trials if t.condition == "steered"] == [HOME, TUNED]
    assert "could be gained" in log.verdict.words


def test_what_can_be_made_is_asked_where_nothing_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert makeable()[0] == "bf16"
    monkeypatch.setattr(precision, "find_spec", lambda name: None)
    assert makeable() == ("bf16",)
    with pytest.raises(UsageError, match="at least two"):
        TransferOptions(draws=1)


def test_a_rounded_copy_leaves_the_model_as_it_was(pilot: tillerman.OpenModel) -> None:
    before = {name: p.clone() for name, p in pilot.model.named_parameters()}
    rounded = in_precision(pilot, "bf16")
    assert rounded.id == "pilot, bf16" and next(rounded.model.parameters()).dtype == torch.bfloat16
    assert {p.dtype for p in pilot.model.parameters()} == {torch.float32}
    assert all(torch.equal(p, before[name]) for name, p in pilot.model.named_parameters())
    assert rounded.fingerprint == pilot.fingerprint  # it is taken in bf16


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_quantised_copies_have_other_weights(pilot: tillerman.OpenModel, name: str) -> None:
    pytest.importorskip("torchao", reason="torchao is not installed: make test installs it")
    made = in_precision(pilot, name)
    weight = made.parts.blocks[0].mlp.down_proj.weight  # type: ignore[union-attr]
    exact = pilot.parts.blocks[0].mlp.down_proj.weight  # type: ignore[union-attr]
    error = float((weight.dequantize().float() - exact).norm() / exact.norm())
    assert (0.001 < error < 0.02) if name == "int8" else (0.02 < error < 0.2)
    with pytest.raises(ModelError, match="not quantised"):
        in_precision(made, "bf16")


def test_a_precision_that_is_none_or_cannot_be_made_is_one_clear_error(
    pilot: tillerman.OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnknownNameError, match="no precision named 'int3'"):
        in_precision(pilot, "int3")
    with pytest.raises(UnknownNameError, match="no precision named 'int3'"):
        TransferOptions(precisions=("bf16", "int3"))
    usual = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("torchao"):
            raise ImportError(name)
        return usual(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ModelError, match=r"int8 needs torchao: pip install 'torchao>=0.15'"):
        in_precision(pilot, "int8")


@pytest.mark.slow
def test_a_killed_study_goes_on_and_ends_with_the_same_log(artefact: tillerman.Artefact, tmp_path: Path) -> None:
    tillerman.save(tmp_path / "v.safetensors", artefact)

    def command(out: str) -> list[str]:
        given = ["sample:interest-in-science", "-a", "v.safetensors", "--no-card", "--limit", "60", "-o", out]
        return [*COMMAND, "transfer", *given, "--precisions", "bf16"]

    subprocess.run(command("whole"), cwd=tmp_path, check=True, capture_output=True)
    running = subprocess.Popen(command("killed"), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    values = tmp_path / "killed" / "transfer.partial" / "values.jsonl"
    until = time.monotonic() + 120
    while not values.exists() or values.read_text().count('["at home') < 2:
        assert running.poll() is None, "finished before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.005)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    assert not (tmp_path / "killed" / "transfer.json").exists()
    again = subprocess.run(command("killed"), cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "finished pieces of an interrupted run" in again.stderr
    whole, resumed = (json.loads((tmp_path / name / "transfer.json").read_text()) for name in ("whole", "killed"))
    assert resumed["trials"] == whole["trials"] and resumed["verdict"] == whole["verdict"]
