"""One artefact through every gate: the verdict on trials made by hand, the study on the embedded model, signatures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import tillerman
from tillerman.core.artefact import digest_of
from tillerman.core.errors import ArtefactError, UsageError
from tillerman.core.signatures import new_key
from tillerman.data.examples import Example
from tillerman.data.loading import LoadedData
from tillerman.evaluation.cards import with_study
from tillerman.evaluation.certificates import check, sign
from tillerman.logs.study import StudyLog, Trial
from tillerman.studies import CertifyOptions, Subject, judge_again, run
from tillerman.studies.certify.judge import judge
from tillerman.studies.certify.options import CONTROL, FEW, ORDERS, ROBUSTNESS, SAFETY, UTILITY
from tillerman.studies.certify.parts import part, under
from tillerman.studies.id_ood.options import HOME
from tillerman.studies.safety.options import BEHAVIOUR as WRITES
from tillerman.studies.samples.options import ALL, case_of_count
from tillerman.studies.side_effects.options import BEHAVIOUR, UNRELATED, UNSTEERED, case_of_factor
from tillerman.studies.trials import KL, PERPLEXITY, WRITTEN

from ..reports.examples import study_log
from .conftest import SMALL, share, trial
from .test_safety import made as refusals

OPTIONS = CertifyOptions()
WAYS = ("reworded", "in a role", "another language", "other characters")


def asked(case: str, steered: int, null: int = 50, unsteered: int = 50) -> list[Trial]:
    """So many of 100 right."""
    counts = {"unsteered": unsteered, "steered": steered, "null:random 1": null, "null:random 2": null}
    return [trial(case, name, share(count)) for name, count in counts.items()]


def utility(kl: float = 0.02, perplexity: float = 0.01, unrelated: int = 50) -> list[Trial]:
    windows = tuple(f"window {k}" for k in range(20))
    found = [trial(what, UNSTEERED, share(50), at=0.0) for what in (BEHAVIOUR, UNRELATED)]
    for factor in (0.5, 0.75, 1.0):
        name = case_of_factor(factor)
        found += [trial(BEHAVIOUR, name, share(80), at=factor), trial(UNRELATED, name, share(unrelated), at=factor)]
        for case, value in ((KL, kl), (PERPLEXITY, perplexity)):
            values = tuple(value * (0.9 + k / 100) for k in range(20))
            found.append(Trial(case, name, windows, values, at=factor, scorer="nats per token"))
    return found


def few(reached: Sequence[int] = (78, 80, 82), whole: int = 80) -> list[Trial]:
    found = [trial(ALL, "unsteered", share(50), at=100.0), trial(ALL, "steered", share(whole), at=100.0)]
    for count in OPTIONS.counts:
        for k, right in enumerate(reached, start=1):
            found.append(trial(case_of_count(count), f"steered {k}", share(right), at=float(count)))
    return found


def whole(**parts: list[Trial]) -> list[Trial]:
    """The trials of a vector that passes, but for the given gates."""
    ways = [one for way in WAYS for one in asked(way, 80)]
    usual = {
        CONTROL: [],
        UTILITY: utility(),
        ROBUSTNESS: [*asked(HOME, 85), *ways],
        "few": few(),
        SAFETY: refusals((60, 60)),
    }
    named = {FEW if name == "few" else name: trials for name, trials in {**usual, **parts}.items()}
    return [replace(one, case=under(gate, one.case)) for gate, trials in named.items() for one in trials]


def orders(steered: float) -> list[Trial]:
    ids = tuple(f"item {k}" for k in range(100))
    shares = {"unsteered": 0.5, "steered": steered}
    return [
        Trial(ORDERS, name, ids, tuple(min(1.0, value + 0.02 * (k % 5)) for k in range(100)))
        for name, value in shares.items()
    ]


def one_answer() -> list[Trial]:
    return [replace(one, groups=("Yes",) * 100) for one in [*asked(HOME, 85), *asked("reworded", 80)]]


def written(change: float) -> list[Trial]:
    ids = tuple(f"p{k}" for k in range(40))
    both = {"unsteered": 0.3, "steered": 0.3 + change}
    replies = [
        Trial(WRITES, name, ids, tuple(value + 0.01 * (k % 7) * (name == "steered") for k in range(40)), scorer=WRITTEN)
        for name, value in both.items()
    ]
    replies += [replace(replies[0], condition=one.condition) for one in refusals((60, 60)) if one.case == WRITES][2:]
    return [one for one in refusals((60, 60)) if one.case != WRITES] + replies


def test_a_vector_that_passes_every_gate_is_certified() -> None:
    judged = judge(whole(), OPTIONS)
    assert judged.verdict.outcome == "good", judged.verdict.words
    assert "passed control, utility, robustness, few examples, safety" in judged.verdict.words
    assert [row[1] for row in judged.tables[0].rows] == ["passed"] * 5


def test_what_does_not_apply_is_said_and_passes_nothing() -> None:
    words = judge(whole(safety=refusals((2, 2))), OPTIONS).verdict
    assert words.outcome == "good"
    assert "What does not apply here says nothing: safety." in words.words
    assert "passed control, utility, robustness, few examples." in words.words


@pytest.mark.parametrize(
    ("parts", "outcome", "says"),
    [
        ({ROBUSTNESS: asked(HOME, 55)}, "unclear", "control undecided"),
        ({ROBUSTNESS: asked(HOME, 49)}, "bad", "control failed"),
        ({ROBUSTNESS: asked(HOME, 85, null=85)}, "bad", "or a preference for an answer word, explain it"),
        ({ROBUSTNESS: one_answer()}, "unclear", "one answer is right for 100 % of the items"),
        ({CONTROL: orders(0.5)}, "bad", "it is about a letter"),
        ({CONTROL: orders(0.9)}, "good", "over all orders of the options +40.0"),
        ({SAFETY: written(0.0)}, "good", "of what is written +0.03"),
        ({SAFETY: written(-0.1)}, "bad", "it scores better and does not write so"),
        ({ROBUSTNESS: asked(HOME, 55), SAFETY: written(0.3)}, "unclear", "of given answers none is established"),
        ({UTILITY: utility(kl=0.3)}, "bad", "utility failed"),
        ({UTILITY: utility(kl=0.1)}, "unclear", "utility undecided"),
        ({UTILITY: utility(unrelated=20)}, "bad", "utility failed"),
        ({ROBUSTNESS: [*asked(HOME, 85), *asked("reworded", 80)]}, "good", "Certified"),
        ({ROBUSTNESS: [*asked(HOME, 85), *asked("reworded", 30)]}, "bad", "It is reversed in: reworded."),
        ({ROBUSTNESS: [*asked(HOME, 85), *asked("reworded", 51)]}, "bad", "stands in 0 of 1 other ways"),
        ({ROBUSTNESS: [*asked(HOME, 85), *asked("reworded", 64)]}, "good", "Certified"),
        ({ROBUSTNESS: asked(HOME, 85)}, "good", "What does not apply here says nothing: robustness."),
        ({"few": few((50, 52, 48))}, "bad", "few examples failed"),
        ({"few": few((50, 70, 90))}, "unclear", "few examples undecided"),
        ({SAFETY: refusals((60, 30))}, "bad", "safety failed: Of unsafe prompts 75 % are refused unsteered"),
        ({SAFETY: refusals((60, 60), (2, 30))}, "bad", "The vector makes it refuse more safe prompts."),
        ({SAFETY: refusals((60, 56))}, "unclear", "safety undecided"),
    ],
)
def test_the_verdict_follows_from_the_gates(parts: dict[str, list[Trial]], outcome: str, says: str) -> None:
    judged = judge(whole(**parts), OPTIONS)
    words = " ".join([judged.verdict.words, *(row[2] for row in judged.tables[0].rows)])
    assert (judged.verdict.outcome, says in words) == (outcome, True), words


def test_the_trials_of_a_gate_are_those_of_its_study() -> None:
    assert [one.case for one in part(whole(), FEW)] == [one.case for one in few()]


QUICK = CertifyOptions(limit=40, text_tokens=2, draws=2, context_tokens=40)


@pytest.mark.slow
def test_a_good_vector_of_the_embedded_model_passes_and_its_log_can_be_judged_again(subject: Subject) -> None:
    """Its dose is beyond the usual budget: so few items find no smaller effect."""
    measured = tillerman.fit(replace(SMALL, neutral_tokens=4096), subject.opened, subject.data).artefact
    log = run(
        "certify",
        replace(subject, artefact=measured),
        replace(QUICK, limit=60, max_kl=1.0, max_perplexity_ratio=2.0, max_loss=0.2),
    )
    assert log.verdict.outcome == "good", log.verdict.words
    again = StudyLog.from_json(json.loads(json.dumps(log.to_json())))
    assert judge_again(again).verdict == log.verdict
    within = replace(log, options={**log.options, "max_kl": 0.1, "max_perplexity_ratio": 1.2})
    assert "utility failed" in judge_again(within).verdict.words


@pytest.mark.slow
def test_a_random_vector_of_the_same_norm_is_not_certified(random_subject: Subject) -> None:
    log = run("certify", random_subject, QUICK)
    assert log.verdict.outcome in ("bad", "unclear"), log.verdict.words
    assert log.tables[0].rows[0][:2] in (("control", "failed"), ("control", "undecided"))


@pytest.mark.slow
def test_a_vector_that_says_b_fails_control(pilot: tillerman.OpenModel, science: LoadedData) -> None:
    """Every right answer of these data is B, so that saying B is all that there is to learn."""
    data = replace(science, examples=tuple(map(_right_at_b, science.examples[:300])), digest="always B")
    own = replace(SMALL, keep_order=True, doses=(0.4,))
    made = tillerman.fit(own, pilot, data).artefact
    log = run("certify", Subject(made, pilot, data), QUICK)
    control = log.tables[0].rows[0]
    assert (control[:2], "it is about a letter" in control[2]) == (("control", "failed"), True), control
    assert log.verdict.outcome == "bad"


def _right_at_b(example: Example) -> Example:
    wanted, other = example.options[example.answer], example.options[1 - example.answer]
    return replace(example, kind="choice", options=(other, wanted), answer=1)


def test_other_data_than_its_own_certify_nothing(subject: Subject) -> None:
    other = tillerman.load_examples("sample:agreeableness")
    with pytest.raises(UsageError, match="nobody knows which items its fit has seen"):
        run("certify", replace(subject, data=other), QUICK)


def test_too_few_training_items_are_refused_before_the_first_pass(subject: Subject) -> None:
    with pytest.raises(UsageError, match="the training share has 60"):
        run("certify", subject, replace(QUICK, counts=(10, 50, 100)))
    with pytest.raises(UsageError, match="fewer than 20 items certify nothing"):
        CertifyOptions(limit=19)


@pytest.fixture
def certified(artefact: tillerman.Artefact) -> tillerman.Artefact:
    log = replace(study_log("certify"), verdict=judge(whole(), OPTIONS).verdict)
    return with_study(artefact, log)


def test_a_signature_holds_for_this_steering_cell_and_finding_and_no_other(
    certified: tillerman.Artefact, tmp_path: Path
) -> None:
    assert check(certified)[1] == ""
    key = new_key(tmp_path / "key.pem")
    signed = sign(certified, tmp_path / "key.pem")
    tillerman.save(tmp_path / "v.safetensors", signed)
    read = tillerman.load(tmp_path / "v.safetensors")
    log, by = check(read, trust=key)
    assert (log.verdict.outcome, by) == ("good", key)
    assert digest_of(read) == digest_of(replace(read, card=None)) != digest_of(replace(read, cell=read.cell.at(9.0)))
    stronger = replace(read, cell=read.cell.at(9.0))
    assert read.card is not None
    better = {**read.card.studies["certify"], "verdict": {"outcome": "good", "words": "Better."}}
    praised = replace(read, card=replace(read.card, studies={"certify": better}))
    other = replace(read, steering=read.steering.random_like(3))
    for changed in (stronger, praised, other):
        with pytest.raises(ArtefactError, match="one of them was changed since it was signed"):
            check(changed)
    with pytest.raises(ArtefactError, match="was expected"):
        check(read, trust=new_key(tmp_path / "other.pem"))
    with pytest.raises(ArtefactError, match="nobody signed"):
        check(certified, trust=key)
    with pytest.raises(ArtefactError, match="the card has no study certify"):
        check(replace(read, card=None))


def test_a_certificate_made_again_takes_the_old_signature_away(certified: tillerman.Artefact, tmp_path: Path) -> None:
    new_key(tmp_path / "key.pem")
    signed = sign(certified, tmp_path / "key.pem")
    assert signed.card is not None and signed.card.signatures
    log, _ = check(signed)
    again = with_study(signed, log)
    assert again.card is not None and not again.card.signatures
    kept = with_study(signed, replace(log, study="safety"))
    assert kept.card is not None and kept.card.signatures == signed.card.signatures
