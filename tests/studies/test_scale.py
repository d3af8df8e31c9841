"""One behaviour in several models: the verdict on trials made by hand, the study itself on embedded models."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

import tillerman
from tillerman.core.cell import Cell
from tillerman.core.errors import UsageError
from tillerman.core.store import Store
from tillerman.logs.study import StudyLog, Trial
from tillerman.models.precision import in_precision
from tillerman.studies import ScaleOptions, Subject, judge_again, run
from tillerman.studies.base import model_labels, set_up_lab, study_key
from tillerman.studies.scale.judge import judge
from tillerman.studies.scale.measure import _depths, _residents
from tillerman.studies.scale.options import BYTES, SIZE, STEERED
from tillerman.studies.trials import KL, PERPLEXITY

from .conftest import share, trial

DOSES = (0.25, 0.5, 1.0)
HAND = ScaleOptions(doses=DOSES)
QUICK = ScaleOptions(models=("twin",), doses=(0.1, 0.4), limit=24, draws=2, characters=1500)


def made(
    costs: Sequence[float],
    sizes: Sequence[float],
    steered: Sequence[int] | None = None,
    families: str = "llama",
    bytes_per_token: float = 2.0,
) -> list[Trial]:
    """Models of these sizes whose log of the perplexity ratio per byte is ``cost * dose^2``, but for some noise over
    windows; 50 of 100 items are right unsteered."""
    trials = []
    for k, (cost, size) in enumerate(zip(costs, sizes, strict=True)):
        case, count = f"model {k}", 90 if steered is None else steered[k]
        family = families.split()[k % len(families.split())]
        trials += [
            Trial(case, SIZE, ("model",), (size,), texts=(family,), scorer="count"),
            Trial(case, BYTES, ("neutral text",), (bytes_per_token,), scorer="bytes"),
            trial(case, "unsteered", share(50), at=0.0),
            trial(case, STEERED, share(count), at=0.3),
            *(trial(case, f"null:random {j}", share(50 + j), at=0.3) for j in (1, 2)),
        ]
        for dose in DOSES:
            trials.append(trial(case, f"dose {dose:g}", share(count), at=dose))
            windows = tuple(cost * bytes_per_token * dose**2 * (1 + 0.02 * (i - 3.5)) for i in range(8))
            names = tuple(f"window {i}" for i in range(8))
            for what in (PERPLEXITY, KL):
                trials.append(Trial(case, f"{what}, dose {dose:g}", names, windows, at=dose, scorer="nats per token"))
    return trials


SIZES = (1e6, 1e7, 1e8, 1e9)


@pytest.mark.parametrize(
    ("trials", "outcome", "says"),
    [
        (made((1.6, 0.8, 0.42, 0.2), SIZES), "good", "Larger models resist degradation."),
        (made((0.2, 0.4, 0.82, 1.6), SIZES), "mixed", "Larger models degrade more."),
        (made((1.0, 0.4, 1.1, 0.9), SIZES), "good", "No trend with size is found."),
        (
            made((1.6, 0.8, 0.42, 0.2), SIZES, families="llama bitnet"),
            "good",
            "cannot be decided: the models are of different families (bitnet, llama)",
        ),
        (made((1.6, 0.8, 0.4), SIZES[:3]), "good", "cannot be decided from 3 models; that takes 4 sizes of one family"),
        (made((1.6, 0.8, 0.4, 0.4), (1e6, 1e7, 1e8, 1e8)), "good", "cannot be decided from 4 models"),
        (made((1.6, 0.8), SIZES[:2], steered=(90, 51)), "unclear", "found on one model only"),
        (made((1.6, 0.8, 0.4), SIZES[:3], steered=(90, 51, 90)), "mixed", "on model 1 +1.0 (−2.7 to +5.4) pp, none"),
        (made((1.6, 0.8), SIZES[:2], steered=(51, 90)), "bad", "Nothing to scale: on model 0 there is no effect"),
    ],
)
def test_the_verdict_follows_from_effects_and_costs(trials: list[Trial], outcome: str, says: str) -> None:
    verdict = judge(trials, HAND).verdict
    assert (verdict.outcome, says in verdict.words) == (outcome, True), verdict.words


@pytest.mark.slow
@settings(max_examples=20)
@given(st.floats(0.01, 20), st.floats(0.5, 5))
def test_a_cost_that_grows_with_the_squared_dose_is_found_whatever_the_tokenizer(cost: float, length: float) -> None:
    table = judge(made((cost, 1.0), SIZES[:2], bytes_per_token=length), HAND).tables[0]
    assert float(table.rows[0][8].split()[0]) == pytest.approx(cost, abs=0.00051)
    doubles = math.sqrt(math.log(2) / (cost * length))
    said = table.rows[0][9]
    if doubles > 1.02:
        assert said.startswith("beyond 1")
    elif doubles < 0.98:
        assert float(said.split()[0]) == pytest.approx(doubles, abs=0.0051)


def test_ten_times_the_size_at_half_the_cost_is_said_so() -> None:
    words = judge(made((1.6, 0.8, 0.4, 0.2), SIZES), HAND).verdict.words
    assert (
        "Ten times the size multiplies it by 0.5 (95 % interval 0.5 to 0.5, rank correlation −1.00, 4 models)" in words
    )


def test_doses_that_wreck_a_model_are_left_out_and_said_so() -> None:
    trials = made((1.6, 0.8), SIZES[:2])
    some = [t for t in trials if not (t.case == "model 1" and t.condition == f"{PERPLEXITY}, dose 1")]
    judged = judge(some, HAND)
    assert judged.tables[0].rows[1][8].startswith("0.8")
    assert "not a number" in judged.tables[1].rows[-1]
    none = [t for t in trials if not (t.case == "model 1" and t.condition.startswith(PERPLEXITY))]
    judged = judge(none, HAND)
    assert judged.tables[0].rows[1][8:10] == ("not a number", "below all doses")
    assert "cannot be decided from 1 models" in judged.verdict.words


def test_layers_of_another_model_lie_as_deep() -> None:
    assert _depths({3}, 8, 8) == (3,)
    assert _depths({0, 7}, 8, 4) == (0, 3)
    assert _depths({3}, 8, 32) == (14,)
    assert _depths({15}, 32, 2) == (0,)
    assert _depths({1}, 2, 5) == (3,)


@pytest.fixture(scope="module")
def twins(subject: Subject) -> Subject:
    """The second model is the first in bf16."""
    return replace(subject, opener=lambda name: in_precision(subject.opened, "bf16"))


@pytest.fixture(scope="module")
def log(twins: Subject) -> StudyLog:
    return run("scale", twins, QUICK)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_and_the_log_can_be_judged_again(log: StudyLog, twins: Subject) -> None:
    assert run("scale", twins, QUICK).trials == log.trials
    assert judge_again(StudyLog.from_json(json.loads(json.dumps(log.to_json())))).verdict == log.verdict


def test_a_model_and_its_rounded_twin_pay_the_same_for_the_same_dose(log: StudyLog) -> None:
    assert list(dict.fromkeys(t.case for t in log.trials)) == ["pilot", "twin"]

    def of(condition: str) -> list[float]:
        return [sum(t.values) / len(t.values) for t in log.trials if t.condition == condition]

    for condition in (f"{KL}, dose 0.4", f"{PERPLEXITY}, dose 0.4", SIZE, BYTES):
        one, other = of(condition)
        assert one == pytest.approx(other, rel=0.03) and one > 0
    assert [t.at for t in log.trials if t.condition == "dose 0.4"] == [0.4, 0.4]


def test_a_plan_of_a_dose_has_that_dose(twins: Subject) -> None:
    for resident in _residents(set_up_lab(twins, QUICK), QUICK):
        (item,) = resident.plan(0.4)
        assert Cell.of(item.steering, item.strength).dose(item.steering) == pytest.approx(0.4)


@pytest.mark.slow
def test_a_vector_that_works_on_both_is_called_good(twins: Subject) -> None:
    verdict = run("scale", twins, replace(QUICK, limit=60)).verdict
    assert verdict.outcome == "good", verdict.words
    assert "cannot be decided from 2 models" in verdict.words


@pytest.mark.slow
def test_a_random_vector_is_called_bad(random_subject: Subject, twins: Subject) -> None:
    planted = replace(random_subject, opener=twins.opener)
    assert run("scale", planted, replace(QUICK, limit=60)).verdict.outcome == "bad"


@pytest.mark.slow
def test_a_stopped_study_opens_no_model_that_is_finished(log: StudyLog, twins: Subject, tmp_path: Path) -> None:
    key = study_key("scale", QUICK, twins)
    first = Store(tmp_path / "kept", key)
    run("scale", twins, QUICK, store=first)
    first.close(finished=False)

    def never(name: str) -> tillerman.OpenModel:
        raise AssertionError(name)

    assert run("scale", replace(twins, opener=never), QUICK, store=Store(tmp_path / "kept", key)).trials == log.trials


def test_folders_are_called_by_their_last_part(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    assert model_labels([str(tmp_path / "small"), "owner/name"]) == ["small", "owner/name"]


def test_one_model_has_no_scale(subject: Subject) -> None:
    with pytest.raises(UsageError, match="one model has no scale; give `models`"):
        run("scale", subject, replace(QUICK, models=("pilot",)))
    with pytest.raises(UsageError, match="two models are both called pilot"):
        model_labels(["pilot", "pilot"])
    with pytest.raises(UsageError, match="all above 0"):
        ScaleOptions(doses=(0.0, 1.0))
    with pytest.raises(UsageError, match="at least two"):
        ScaleOptions(draws=1)


@pytest.mark.slow
def test_labelled_texts_scale_over_models_that_answer_no_questions(pilot: tillerman.OpenModel) -> None:
    data = tillerman.load_examples(Path(__file__).parents[1] / "pipeline" / "moods.csv", positive_label="happy")
    experiment = tillerman.Experiment(
        max_kl=None,
        max_perplexity_ratio=None,
        method="caa",
        layers=(2, 3),
        doses=(0.4,),
        zero=False,
        shares=(0.4, 0.3, 0.3),
        null_draws=2,
        generations=(),
        neutral="sample:tinystories",
        neutral_tokens=512,
        unrelated_items=5,
    )
    artefact = tillerman.fit(experiment, pilot, data).artefact
    subject = Subject(artefact, pilot, data, opener=lambda name: in_precision(pilot, "bf16"))
    log = run("scale", subject, QUICK)
    assert log.verdict.outcome in ("bad", "unclear", "mixed", "good")
    assert len([t for t in log.trials if t.condition == STEERED]) == 2
