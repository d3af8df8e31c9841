"""Answers without the bias of their words: measured once, subtracted wherever an answer is chosen."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import tillerman
from tillerman.core.errors import UsageError
from tillerman.data.examples import Example
from tillerman.data.loading import LoadedData
from tillerman.data.presenting import present
from tillerman.data.writing import make_writer
from tillerman.evaluation.calibration import answer_offsets
from tillerman.evaluation.exam import Exam
from tillerman.evaluation.grid import scores_under
from tillerman.evaluation.scoring import option_scores
from tillerman.pipeline.run import Unwatched
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.side_effects import unrelated_exam

from .. import planted, tiny

CALIBRATED = replace(planted.SMALL, calibrate=True)


def store() -> tillerman.Store:
    return tillerman.Store(None, "")


def exam_of(data: LoadedData, opened: tillerman.OpenModel) -> Exam:
    return Exam.of(opened, present(data.examples), make_writer(opened.tokenizer))


@cache
def outcome() -> tillerman.Outcome:
    return tillerman.fit(CALIBRATED, planted.teller(), planted.signed(1, 120))


def test_offsets_are_the_middle_between_the_two_right_answers_whatever_their_shares() -> None:
    opened = planted.teller()
    exam = exam_of(planted.signed(2, 200), opened)
    offsets = answer_offsets(exam, store())
    words = [item.answers.index("Yes") for item in exam.items]
    odds = np.array([row[k] - row[1 - k] for row, k in zip(exam.scores_under([()], store())[0], words, strict=True)])
    yes = np.array([item.answers[item.right] == "Yes" for item in exam.items])
    assert offsets["Yes"] - offsets["No"] == pytest.approx((odds[yes].mean() + odds[~yes].mean()) / 2)
    assert sum(offsets.values()) == pytest.approx(0)
    few = [k for k in range(200) if not yes[k]][:20] + [k for k in range(200) if yes[k]]
    some = replace(exam, items=tuple(exam.items[k] for k in few), written=tuple(exam.written[k] for k in few))
    assert answer_offsets(some, store())["Yes"] == pytest.approx(offsets["Yes"], abs=0.15)


def test_a_model_that_says_no_to_everything_is_right_more_often_once_calibrated() -> None:
    data = planted.signed(1, 120)
    plain, run = (set_up(e, planted.teller(), data, store(), Unwatched()) for e in (planted.SMALL, CALIBRATED))
    assert run.calibration is not None and run.calibration["Yes"] < -0.3
    assert plain.calibration is None
    assert run.test.correct().mean() > plain.test.correct().mean() + 0.1
    assert run.writer.with_system("Say yes.").calibration == run.writer.calibration
    assert unrelated_exam(run)[0].written[0].offsets == ()


def test_the_same_nats_are_taken_off_in_a_pass_of_its_own_and_in_a_grid() -> None:
    opened = tiny.opened()
    data = planted.signed(3, 12)
    writer = make_writer(opened.tokenizer)
    items = present(data.examples)
    plain = [writer.write(item) for item in items]
    shifted = [writer.calibrated({"yes": 2.0, "No": -1.0}).write(item) for item in items]
    plans = [(), (tillerman.Intervention(tiny.vector(1), 0.5),), (tillerman.Intervention(tiny.vector(1), 1.0),)]
    expected = np.array([[2.0 if answer == "Yes" else -1.0 for answer in item.answers] for item in items])
    for before, after in (
        (option_scores(opened, plain), option_scores(opened, shifted)),
        *zip(
            scores_under(opened, plain, plans, store=store()),
            scores_under(opened, shifted, plans, store=store()),
            strict=True,
        ),
    ):
        assert np.array(before) - np.array(after) == pytest.approx(expected, abs=1e-5)


def test_the_search_the_test_the_note_and_the_artefact_are_calibrated_alike() -> None:
    log = outcome().log
    assert log.bias is not None
    rates = log.bias.condition("unsteered").rates
    assert 0.2 < rates["Yes"] < 0.8  # 0 without
    (zero,) = [cell for cell in log.cells if cell.strength == 0]
    assert zero.score > 0.6
    (note,) = [note for note in log.notes if "calibrated" in note]
    offsets = outcome().artefact.steering.provenance.options["calibration"]
    assert f"Yes −{abs(offsets['Yes']):.2f}" in note


def test_an_evaluation_takes_the_bias_that_its_fit_measured() -> None:
    whole = replace(CALIBRATED, shares=(0.0, 0.0, 1.0))  # no validation items to measure it on
    log = tillerman.evaluate(outcome().artefact, whole, planted.teller(), planted.signed(7, 30))
    offsets = outcome().artefact.steering.provenance.options["calibration"]
    assert any(f"No +{offsets['No']:.2f}" in note for note in log.notes)


def one_sided() -> LoadedData:
    rows = [replace(e, answer=0) for e in planted.signed(4, 40).examples]
    return LoadedData(tuple(rows), "yes", "made", "one sided", (), "")


def texts() -> LoadedData:
    rows = [Example("preference", f"Say {w}", (f"good {w}", f"bad {w}"), 0) for w in ("a", "b", "c", "d")]
    return LoadedData(tuple(rows), "texts", "made", "texts", (), "")


@pytest.mark.parametrize(("data", "says"), [(one_sided, "'Yes' is right for all"), (texts, "items of kind preference")])
def test_where_a_bias_cannot_be_measured_it_is_said(data, says) -> None:
    with pytest.raises(UsageError, match=says):
        answer_offsets(exam_of(data(), planted.teller()), store())


def test_a_bias_is_given_only_with_the_option_that_subtracts_it() -> None:
    with pytest.raises(UsageError, match="`calibration` is subtracted only with `calibrate`"):
        tillerman.Experiment(calibration={"Yes": 1.0})
    made = tillerman.Experiment(calibrate=True, calibration={"Yes": 1.0})
    assert tillerman.Experiment.from_json(made.to_json(), "caa").calibration == {"Yes": 1.0}


def test_no_validation_items_and_no_bias_of_a_fit_are_an_error() -> None:
    whole = replace(CALIBRATED, shares=(0.0, 0.0, 1.0))
    with pytest.raises(UsageError, match="there are none"):
        set_up(whole, planted.teller(), planted.signed(1, 20), store(), Unwatched(), needed=("test",))
