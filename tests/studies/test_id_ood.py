"""Where a vector works: the verdict on trials made by hand, the study itself on the embedded model."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tillerman.logs.study import StudyLog, Trial
from tillerman.studies import IdOodOptions, Subject, run
from tillerman.studies.id_ood.judge import judge
from tillerman.studies.id_ood.measure import _first_answer
from tillerman.studies.id_ood.options import FREE, HOME, MATRIX, OTHER

from .conftest import share, trial

pytestmark = pytest.mark.slow  # a fit or a device that is pretended, in most of them

SHIFTS = ("reworded", "longer question", "second turn")


def made(home: int, shifts: Sequence[int], other: int = 50, null: tuple[int, int] = (50, 51)) -> list[Trial]:
    """Of 100 items 50 are right unsteered; so many are when steered."""
    trials = []
    for case, count in ((HOME, home), *zip(SHIFTS, shifts, strict=True), (OTHER + "sports", other)):
        trials += [
            trial(case, "unsteered", share(50)),
            trial(case, "steered", share(count)),
            trial(case, "null:random 1", share(null[0])),
            trial(case, "null:random 2", share(null[1])),
        ]
    return trials


@pytest.mark.parametrize(
    ("trials", "outcome", "says"),
    [
        (made(85, (85, 80, 82)), "good", "holds in 3 of 3"),
        (made(85, (85, 50, 48)), "mixed", "Not found: longer question (0.0 pp), second turn (−2.0 pp)"),
        (made(85, (50, 50, 50)), "bad", "holds in 0 of 3"),
        (made(85, (85, 85, 85), other=84), "mixed", "not specific to this one"),
        (made(52, (85, 85, 85)), "bad", "There is no effect to generalise"),
        (made(85, (85, 85, 85), null=(82, 88)), "bad", "Random directions of the same norm have a comparable effect"),
    ],
)
def test_the_verdict_follows_from_the_cases(trials: list[Trial], outcome: str, says: str) -> None:
    verdict = judge(trials, IdOodOptions()).verdict
    assert (verdict.outcome, says in verdict.words) == (outcome, True), verdict.words


def test_an_effect_that_only_chance_would_call_one_is_adjusted_away() -> None:
    """57 against 50 of 100 has p = 0.016; among five cases it is 0.06."""
    table = judge(made(85, (57, 57, 57)), IdOodOptions()).tables[0]
    assert [float(row[5]) for row in table.rows[1:]] == [0.062] * 3
    assert table.strong == (0,)


@pytest.mark.parametrize(
    ("text", "found"),
    [("Yes, I would.", 0), ("No.", 1), ("no! yes", 1), ("Nothing to say", -1), ("", -1), ("Answer: Yes", 0)],
)
def test_the_first_answer_word_counts_and_no_part_of_a_word(text: str, found: int) -> None:
    assert _first_answer(text, ("Yes", "No")) == found


@pytest.fixture(scope="module")
def log(subject: Subject) -> StudyLog:
    options = IdOodOptions(
        limit=40, others=("sample:interest-in-art",), sources=("sample:interest-in-sports",), draws=2, context_tokens=64
    )
    return run("id-ood", subject, options)


def test_every_way_of_asking_is_tried_on_the_same_items(log: StudyLog) -> None:
    cases = list(dict.fromkeys(t.case for t in log.trials))
    assert cases == [
        HOME,
        "as A/B choice",
        "reworded",
        "longer question",
        "after a long context",
        "in a role",
        "another language",
        "other characters",
        "second turn",
        "third turn",
        FREE,
        "source: interest-in-sports",
        OTHER + "interest-in-art",
        f"{MATRIX}interest-in-art on {HOME}",
        f"{MATRIX}interest-in-art on interest-in-art",
    ]
    home = next(t for t in log.trials if t.case == HOME)
    assert all(t.items == home.items for t in log.trials if t.case in ("reworded", "second turn", FREE))
    assert {t.condition for t in log.trials if t.case == HOME} == {
        "unsteered",
        "steered",
        "null:random 1",
        "null:random 2",
        "prompt",
    }


def test_the_steered_trial_as_fitted_is_the_evaluation_of_the_artefact(log: StudyLog, subject: Subject) -> None:
    """Rates of the study's items are those that the fit's own test gives."""
    found = run("id-ood", subject, IdOodOptions(limit=1000, others=(), matrix=False, draws=2))
    steered = next(t for t in found.trials if (t.case, t.condition) == (HOME, "steered"))
    assert subject.artefact.card is not None
    conditions = {c["name"]: c["rate"]["value"] for c in subject.artefact.card.report["conditions"]}
    assert sum(steered.values) / len(steered.values) == pytest.approx(conditions["steered"])


def test_replies_in_its_own_words_are_kept(log: StudyLog) -> None:
    replies = next(t for t in log.trials if (t.case, t.condition) == (FREE, "steered"))
    assert len(replies.texts) == len(replies.items) and any("Yes" in text for text in replies.texts)


def test_a_random_vector_is_called_bad(random_subject: Subject) -> None:
    log = run("id-ood", random_subject, IdOodOptions(limit=60, others=(), matrix=False, draws=2))
    assert log.verdict.outcome == "bad", log.verdict.words
