"""Vectors together: the verdict on trials made by hand, the study itself on the embedded model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import tillerman
from tillerman.core.errors import UsageError
from tillerman.core.steerings.lookahead import LookaheadSteering
from tillerman.core.store import Store
from tillerman.data.loading import LoadedData
from tillerman.logs.study import StudyLog, Trial
from tillerman.models.logits import option_logprobs
from tillerman.studies import InteractionOptions, Subject, judge_again, run
from tillerman.studies.base import set_up_lab
from tillerman.studies.interaction.judge import judge
from tillerman.studies.interaction.measure import _companies, _joined, _labs
from tillerman.studies.interaction.options import COMPANY, TOGETHER
from tillerman.studies.trials import KL, PERPLEXITY, odds_of

from .. import tiny
from .conftest import SMALL, share, trial

pytestmark = pytest.mark.slow  # a fit or a device that is pretended, in most of them

QUICK = InteractionOptions(limit=24, draws=2)
A, B = "science", "sports"


def odds(case: str, condition: str, values: Sequence[float]) -> Trial:
    ids = tuple(f"item {i}" for i in range(len(values)))
    return Trial(case, odds_of(condition), ids, tuple(values), scorer="log-odds")


def made(
    alone: int = 90, together: int = 90, company: tuple[int, int] = (90, 89), plain: int = 50, of: int = 100
) -> list[Trial]:
    """Two behaviours of so many items; each vector does the same on its own, nothing on the other's."""
    trials = []
    for case, other in ((A, B), (B, A)):
        rights = {
            "unsteered": plain,
            f"alone: {case}": alone,
            f"alone: {other}": plain,
            TOGETHER: together,
            "null:random 1": plain,
            "null:random 2": plain + 1,
            f"{COMPANY} 1": company[0],
            f"{COMPANY} 2": company[1],
        }
        trials += [trial(case, name, share(count, of)) for name, count in rights.items()]
        trials += [odds(case, name, [2.0 * count / of] * of) for name, count in rights.items() if "random" not in name]
    for cost, size in ((KL, 0.1), (PERPLEXITY, 0.2)):
        for name, factor in ((f"alone: {A}", 1), (f"alone: {B}", 1), (TOGETHER, 2)):
            windows = tuple(factor * size * (1 + 0.01 * i) for i in range(8))
            trials.append(Trial(cost, name, tuple(map(str, range(8))), windows, scorer="nats per token"))
    return trials


@pytest.mark.parametrize(
    ("trials", "outcome", "says"),
    [
        (made(), "good", "science keeps 100 % (100 to 100 %) of its +40.0 pp"),
        (made(together=87), "good", "keeps 92 %"),
        (made(together=55), "bad", "science: the other vector is the cause (+39.5 pp in random company)"),
        (made(together=55, company=(54, 56)), "bad", "a random direction of the same size costs as much"),
        (made(together=76), "mixed", "keeps 65 %"),
        (made(alone=18, together=15, plain=8, of=24), "unclear", "keeps 70 %"),
        (made(alone=51), "bad", "Nothing to combine: alone there is no effect beyond the controls of science, +1.0 pp"),
        (made(alone=30, together=30), "bad", "Nothing to combine"),
    ],
)
def test_the_verdict_follows_from_what_is_kept(trials: list[Trial], outcome: str, says: str) -> None:
    verdict = judge(trials, InteractionOptions()).verdict
    assert (verdict.outcome, says in verdict.words) == (outcome, True), verdict.words


def test_costs_that_add_up_are_said_to_be_the_sum() -> None:
    judged = judge(made(), InteractionOptions())
    assert "KL together is 100 % of the sum" in judged.verdict.words
    (costs,) = [table for table in judged.tables if table.title.startswith("What it costs")]
    assert costs.rows[-1] == ("together less the sum", "0.000 (0.000 to 0.000)", "0.000 (0.000 to 0.000)")


def test_log_odds_that_are_no_numbers_leave_the_accuracy() -> None:
    trials = [one for one in made() if one.condition != odds_of(TOGETHER)]
    judged = judge(trials, InteractionOptions())
    assert judged.verdict.outcome == "good" and "log-odds" not in judged.verdict.words
    (sums,) = [table for table in judged.tables if table.title == "Do effects add up?"]
    assert sums.rows[0][-1] == "not a number"


def test_a_plan_that_wrecks_neutral_text_has_no_cost() -> None:
    judged = judge(
        [one for one in made() if one.condition != TOGETHER or one.case not in (KL, PERPLEXITY)], InteractionOptions()
    )
    (costs,) = [table for table in judged.tables if table.title.startswith("What it costs")]
    assert costs.rows[-1][1] == "not a number" and "KL" not in judged.verdict.words


@settings(max_examples=20)
@given(st.lists(st.tuples(*[st.floats(-5, 5)] * 3), min_size=4, max_size=30), st.floats(-2, 2))
def test_log_odds_that_add_up_have_no_interaction_and_any_other_gap_is_found(
    items: list[tuple[float, float, float]], gap: float
) -> None:
    plain, one, two = np.array(items).T
    of = len(items)
    trials = [t for t in made(of=of, plain=of // 3, alone=of, together=of, company=(of, of)) if t.scorer != "log-odds"]
    for case, other in ((A, B), (B, A)):
        sums = {"unsteered": plain, f"alone: {case}": plain + one, f"alone: {other}": plain + two}
        sums[TOGETHER] = plain + one + two + gap
        trials += [odds(case, name, values.tolist()) for name, values in sums.items()]
    (table,) = [t for t in judge(trials, InteractionOptions()).tables if t.title == "Do effects add up?"]
    shown = table.rows[0][-1].replace("−", "-").split()[0]
    assert float(shown) == pytest.approx(gap, abs=0.0051)


@pytest.fixture(scope="module")
def agreeable(pilot: tillerman.OpenModel) -> tuple[tillerman.Artefact, LoadedData]:
    data = tillerman.load_examples("sample:agreeableness")
    return tillerman.fit(SMALL, pilot, data).artefact, data


@pytest.fixture(scope="module")
def pair(subject: Subject, agreeable: tuple[tillerman.Artefact, LoadedData]) -> Subject:
    return replace(subject, others=(agreeable,))


@pytest.fixture(scope="module")
def log(pair: Subject) -> StudyLog:
    return run("interaction", pair, QUICK)


def test_the_same_seed_gives_the_same_numbers_and_the_log_can_be_judged_again(log: StudyLog, pair: Subject) -> None:
    assert run("interaction", pair, QUICK).trials == log.trials
    assert judge_again(log).verdict == log.verdict


def test_every_behaviour_is_asked_under_each_vector_and_under_all(log: StudyLog) -> None:
    names = ("interest-in-science", "agreeableness")
    wanted = {"unsteered", *(f"alone: {name}" for name in names), TOGETHER, "prompt", f"{COMPANY} 2", "null:random 2"}
    for name in names:
        assert wanted <= {t.condition for t in log.trials if t.case == name}
    assert {t.condition for t in log.trials if t.case == KL} == {*(f"alone: {name}" for name in names), TOGETHER}


def test_log_odds_are_those_of_the_options_as_the_model_gives_them(log: StudyLog, pair: Subject) -> None:
    lab = set_up_lab(pair, QUICK)
    prompts = [w.prompt for w in lab.exam.written]
    with tillerman.steer(pair.opened.model, lab.plan()):
        oracle = option_logprobs(pair.opened, prompts, [[a[0] for a in w.answers] for w in lab.exam.written])
    found = next(t for t in log.trials if t.condition == odds_of("alone: interest-in-science"))
    right = next(t for t in log.trials if t.condition == "alone: interest-in-science")
    expected = [float(row[w.right] - row[1 - w.right]) for row, w in zip(oracle, lab.exam.written, strict=True)]
    assert found.values == pytest.approx(expected, abs=1e-4)
    assert [value > 0 for value in found.values] == [value == 1 for value in right.values]


def test_a_random_vector_is_called_bad(pair: Subject, random_subject: Subject) -> None:
    verdict = run("interaction", replace(random_subject, others=pair.others), replace(QUICK, limit=60)).verdict
    assert verdict.outcome == "bad" and "of interest-in-science" in verdict.words


def test_a_vector_beside_one_that_undoes_it_is_called_bad(subject: Subject) -> None:
    opposite = replace(subject.artefact, steering=-subject.artefact.steering)
    assert subject.artefact.card is not None
    log = run("interaction", replace(subject, others=((opposite, subject.data),)), replace(QUICK, limit=60))
    cases = dict.fromkeys(t.case for t in log.trials)
    assert list(cases)[:2] == ["interest-in-science, caa 1", "interest-in-science, caa 2"]
    plain, both = (
        next(t for t in log.trials if t.case == "interest-in-science, caa 1" and t.condition == condition).values
        for condition in (odds_of("unsteered"), odds_of(TOGETHER))
    )
    assert both == pytest.approx(plain, abs=1e-3)
    assert log.verdict.outcome == "bad"


def test_no_two_directions_of_a_random_company_are_alike(
    subject: Subject, agreeable: tuple[tillerman.Artefact, LoadedData]
) -> None:
    labs = _labs(set_up_lab(replace(subject, others=(agreeable, agreeable)), QUICK))
    plans = _companies(labs, "interest-in-science", 2)
    assert list(plans) == [f"{COMPANY} 1", f"{COMPANY} 2"]
    drawn = [next(iter(item.steering.directions.values())) for plan in plans.values() for item in plan[1:]]
    alike = torch.corrcoef(torch.stack(drawn)).abs() - torch.eye(4)
    assert float(alike.max()) < 0.5
    own = [next(iter(plan[0].steering.directions.values())) for plan in plans.values()]
    assert torch.equal(own[0], own[1])


def test_of_three_vectors_each_is_also_left_out(
    subject: Subject, agreeable: tuple[tillerman.Artefact, LoadedData]
) -> None:
    log = run("interaction", replace(subject, others=(agreeable, agreeable)), QUICK)
    left = [t.condition for t in log.trials if t.case == "interest-in-science" and t.condition.startswith("without")]
    assert left == [f"without: {n}" for n in ("interest-in-science", "agreeableness, caa 2", "agreeableness, caa 3")]
    cross = next(table for table in log.tables if table.title.startswith("Each vector on every"))
    assert len(cross.rows) == 7


def test_what_looks_ahead_goes_first_and_two_that_cannot_be_combined_are_one_clear_error() -> None:
    def ahead(layer: int) -> tillerman.Plan:
        point = tillerman.HookPoint(layer)
        steering = LookaheadSteering(
            change_norms={point: 1.0},
            stream_norms={point: 1.0},
            provenance=tiny.provenance(),
            mode="fd",
            epsilon=1.0,
            displacement={"weight": torch.ones(2)},
            depths={"weight": 0},
            widths={point: tiny.WIDTH},
        )
        return (tillerman.Intervention(steering),)

    added: tillerman.Plan = (tillerman.Intervention(tiny.vector(2)),)
    first, second = _joined({"added": added, "ahead": ahead(2)})
    assert isinstance(first.steering, LookaheadSteering) and second is added[0]
    earlier: tillerman.Plan = (tillerman.Intervention(tiny.vector(1)),)
    with pytest.raises(UsageError, match=r"added and ahead cannot act together: a look ahead at layers.2.resid_post"):
        _joined({"added": earlier, "ahead": ahead(2)})


def test_exemplars_of_one_behaviour_are_chosen_by_answers_to_its_own_items(
    subject: Subject, agreeable: tuple[tillerman.Artefact, LoadedData], tmp_path: Path
) -> None:
    """Both runs ask after exemplars that the model answers wrong, and both share one store."""

    def after_shots(artefact: tillerman.Artefact) -> tillerman.Artefact:
        made = artefact.steering.provenance
        return replace(
            artefact,
            steering=replace(artefact.steering, provenance=replace(made, options={**made.options, "base_shots": 1})),
        )

    pair = replace(subject, artefact=after_shots(subject.artefact), others=((after_shots(agreeable[0]), agreeable[1]),))
    store = Store(tmp_path / "kept", "key")
    other = list(_labs(set_up_lab(pair, QUICK, store)).values())[1]
    alone = set_up_lab(Subject(pair.others[0][0], pair.opened, pair.others[0][1]), QUICK)
    assert other.run.writer.shots == alone.run.writer.shots != ()
    assert other.store is store


def test_one_vector_alone_has_no_company(subject: Subject) -> None:
    with pytest.raises(UsageError, match="one vector has no company"):
        run("interaction", subject, QUICK)
    with pytest.raises(UsageError, match="at least two"):
        InteractionOptions(draws=1)
