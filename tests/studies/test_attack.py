"""The attack: verdicts on trials made by hand, the study on the embedded model."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

import tillerman
from tillerman.core.errors import UsageError
from tillerman.core.store import Store
from tillerman.data.loading import LoadedData
from tillerman.data.presenting import lengthened, present
from tillerman.data.writing import make_writer
from tillerman.evaluation import epo
from tillerman.evaluation.reversal import margins
from tillerman.logs.study import StudyLog, Trial
from tillerman.studies import AttackOptions, Subject, run
from tillerman.studies.attack.judge import judge
from tillerman.studies.attack.measure import _victims, budgets, search_of
from tillerman.studies.attack.options import (
    AFTER,
    FIRST,
    LIKELIEST,
    MARGIN,
    NATURAL,
    PROMPT,
    PROMPT_RANDOM,
    RANDOM,
    STEERED,
    TRANSFER,
    USUAL,
    WITH,
)
from tillerman.studies.base import set_up_lab

from .conftest import share, trial

QUICK = AttackOptions(limit=3, tokens=4, members=3, iterations=3, children=4, top=64, draws=2)
WHOLE = f"{AFTER}{QUICK.candidates}"


def made(steered: int, random: int, other: int, prompted: int, above: float = 4.0) -> list[Trial]:
    """So many of 100 items reversed at the end, none after one text; texts cost ``above`` nats more than usual."""
    counts = {STEERED: steered, RANDOM: random, NATURAL: other, PROMPT: prompted, PROMPT_RANDOM: random}
    trials = []
    for name, count in counts.items():
        trials += [trial(f"{AFTER}1", name, share(0), 1.0), trial(WHOLE, name, share(count), 39.0)]
    for name in (STEERED, PROMPT):
        ids = tuple(f"item {i}" for i in range(100))
        trials.append(Trial(USUAL, name, ids, tuple(5.0 + 0.1 * (i % 7) for i in range(100))))
        for case in (FIRST, LIKELIEST) if counts[name] else ():
            found = tuple(5.0 + 0.1 * (i % 5) + above for i in range(counts[name]))
            trials.append(Trial(case, name, ids[: counts[name]], found))
    return trials


@pytest.mark.parametrize(
    ("counts", "outcome", "says"),
    [
        (
            (90, 5, 10, 60),
            "bad",
            "90 of 100 steered answers can be reversed by 4 tokens within 39 candidates (90 %,",
        ),
        ((90, 5, 10, 60), "bad", "Steering is easier to reverse than the prompt (+30.0 pp"),
        ((20, 5, 10, 60), "good", "Steering is harder to reverse than the prompt (−40.0 pp"),
        ((50, 5, 10, 50), "mixed", "Whether steering or the prompt is easier to reverse cannot be told"),
        ((70, 70, 10, 60), "bad", "The search does not clearly find more than random texts do"),
        ((70, 5, 80, 60), "bad", "No adversary is needed"),
        ((70, 5, 10, 60), "bad", "3.9 nats per token (3.8 to 4.0) above ends of other questions"),
        ((0, 0, 0, 0), "good", "0 of 100 steered answers"),
    ],
)
def test_the_verdict_follows_from_the_rates(counts: tuple[int, int, int, int], outcome: str, says: str) -> None:
    verdict = judge(made(*counts), QUICK).verdict
    assert (verdict.outcome, says in verdict.words) == (outcome, True), verdict.words


@pytest.mark.parametrize("never", ["does not clearly find more", "No adversary is needed"])
def test_a_search_that_beats_both_controls_is_not_blamed_on_them(never: str) -> None:
    assert never not in judge(made(70, 5, 10, 60), QUICK).verdict.words


@pytest.fixture(scope="module")
def log(subject: Subject) -> StudyLog:
    return run("attack", subject, QUICK)


def of(log: StudyLog, case: str, condition: str) -> Trial:
    (found,) = [t for t in log.trials if (t.case, t.condition) == (case, condition)]
    return found


@pytest.mark.slow
def test_the_same_seed_gives_the_same_trials_and_another_seed_other_texts(log: StudyLog, subject: Subject) -> None:
    assert run("attack", subject, QUICK).trials == log.trials
    other = run("attack", subject, replace(QUICK, seed=1))
    assert of(other, WHOLE, STEERED).texts != of(log, WHOLE, STEERED).texts


def test_more_texts_never_reverse_fewer_items(log: StudyLog) -> None:
    for condition in (STEERED, PROMPT, RANDOM, PROMPT_RANDOM):
        steps = [of(log, f"{AFTER}{k}", condition).values for k in budgets(QUICK, 10**6)]
        for fewer, more in pairwise(steps):
            assert all(b >= a for a, b in zip(fewer, more, strict=True))


@pytest.mark.slow
def test_shares_reversed_by_random_texts_do_not_depend_on_where_their_trial_ends(
    log: StudyLog, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epo, "AT_ONCE", 1)
    short = run("attack", subject, QUICK)
    for condition in (RANDOM, PROMPT_RANDOM):
        for k in budgets(QUICK, QUICK.candidates):
            one, other = of(short, f"{AFTER}{k}", condition), of(log, f"{AFTER}{k}", condition)
            assert (one.values, one.at) == (other.values, other.at)
    assert sum(of(log, WHOLE, PROMPT_RANDOM).values) + sum(of(log, WHOLE, RANDOM).values) > 0  # some end early


def test_all_conditions_are_on_the_same_items(log: StudyLog) -> None:
    assert len({t.items for t in log.trials if t.case.startswith((AFTER, MARGIN, USUAL))}) == 1


def test_the_texts_of_the_log_do_what_it_says_they_do(
    log: StudyLog, subject: Subject, pilot: tillerman.OpenModel, science: LoadedData
) -> None:
    """Typed by a user, after the question, through the chat template."""
    writer = make_writer(pilot.tokenizer)
    items, told = {item.example.id: item for item in present(science.examples)}, set_up_lab(subject, QUICK).run.told
    assert told
    for case, condition, plan, w in (
        (f"{MARGIN}{QUICK.candidates}", STEERED, subject.artefact.plan(), writer),
        (f"{MARGIN}{QUICK.candidates}", PROMPT, (), writer.with_system(told)),
    ):
        found = of(log, case, condition)
        written = [w.write(lengthened(items[i], text)) for i, text in zip(found.items, found.texts, strict=True)]
        said = margins(pilot, [one.prompt for one in written], written, plan)
        assert said.tolist() == pytest.approx(found.values, abs=1e-3)
        assert [float(f > 0) for f in found.values] == list(of(log, WHOLE, condition).values)


def test_the_items_attacked_are_those_that_both_models_answer_as_wanted(subject: Subject) -> None:
    lab = set_up_lab(subject, replace(QUICK, limit=60))
    told = lab.exam_of(lab.run.test.items, lab.run.writer.with_system(lab.run.told))
    steered, prompted = lab.run.test.correct(lab.plan()), told.correct()
    assert (steered & ~prompted).any() and (prompted & ~steered).any()  # else nothing is tested
    both = [item for item, wanted in zip(told.items, steered & prompted, strict=True) if wanted]
    assert list(_victims(lab, replace(QUICK, limit=60))) == both


@pytest.mark.slow
def test_found_texts_are_tried_at_other_strengths_on_random_vectors_and_on_the_other_model(subject: Subject) -> None:
    log = run("attack", subject, replace(QUICK, limit=6, iterations=8, children=8))
    assert sum(of(log, f"{AFTER}{replace(QUICK, iterations=8, children=8).candidates}", STEERED).values) > 0
    names = [t.case.removeprefix(TRANSFER) for t in log.trials if t.case.startswith(TRANSFER) and t.condition == WITH]
    assert names[:5] == [
        "-1 × the strength",
        "unsteered",
        "0.5 × the strength",
        "1.5 × the strength",
        "2 × the strength",
    ]
    assert {"random vector 1", "random vector 2", "the prompted model"} <= set(names)
    assert set(of(log, FIRST, STEERED).items) == set(of(log, LIKELIEST, STEERED).items)
    first, likeliest = of(log, FIRST, STEERED), of(log, LIKELIEST, STEERED)
    assert all(b <= a for a, b in zip(first.values, likeliest.values, strict=True))
    lab = set_up_lab(subject, QUICK)
    items = {item.example.id: item for item in lab.run.test.items}
    for found in (first, likeliest):  # they do reverse
        pairs = zip(found.items, found.texts, strict=True)
        written = [lab.run.writer.write(lengthened(items[i], text)) for i, text in pairs]
        assert bool((margins(lab.opened, [one.prompt for one in written], written, lab.plan()) > 0).all())


def test_a_small_budget_knows_only_the_texts_tried_within_it(log: StudyLog) -> None:
    early, late = of(log, f"{MARGIN}1", STEERED), of(log, f"{MARGIN}{QUICK.candidates}", STEERED)
    assert all(a < b for a, b in zip(early.values, late.values, strict=True))


@pytest.mark.slow
def test_an_attack_that_was_stopped_goes_on_item_by_item(log: StudyLog, subject: Subject, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    attacked: list[str] = []

    class Mortal(Store):
        def value(self, key, make):  # type: ignore[no-untyped-def]
            if key.startswith(STEERED):
                if len(attacked) == 2:
                    raise Killed
                attacked.append(key)
            return super().value(key, make)

    with pytest.raises(Killed):
        run("attack", subject, QUICK, store=Mortal(tmp_path / "run", "key"))
    again = Store(tmp_path / "run", "key")
    assert again.resumed >= 2
    assert run("attack", subject, QUICK, store=again).trials == log.trials


def test_a_vector_that_never_brings_the_wanted_answer_cannot_be_attacked(subject: Subject) -> None:
    away = replace(subject.artefact, cell=subject.artefact.cell.scaled(-2.0))
    with pytest.raises(UsageError, match="an attack needs at least two"):
        run("attack", replace(subject, artefact=away), replace(QUICK, limit=2))


def test_one_member_has_no_weight_of_likelihood() -> None:
    assert search_of(AttackOptions(members=1)).weights == (0.0,)
    assert len(search_of(AttackOptions()).weights) == AttackOptions().members > 1


@pytest.mark.parametrize("wrong", [{"tokens": 0}, {"members": 0}, {"iterations": 0}, {"limit": 1}])
def test_options_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=r"expected at least|at least two"):
        AttackOptions(**wrong)
