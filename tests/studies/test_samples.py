"""How many examples: the curve and its knee on numbers that are known, the study on the embedded model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tillerman.logs.study import StudyLog, Trial
from tillerman.studies import SamplesOptions, Subject, run
from tillerman.studies.samples.judge import _knee, _saturating, judge
from tillerman.studies.samples.options import ALIKE, ALL, BETWEEN

from .conftest import share, trial


def made(effects: dict[int, tuple[int, ...]], whole: int, total: int = 1000) -> list[Trial]:
    """Of 100 items 50 are right unsteered; so many more are with vectors of so many examples."""
    trials = [trial(ALL, "unsteered", share(50), total), trial(ALL, "steered", share(50 + whole), total)]
    for n, found in effects.items():
        trials += [trial(f"{n} examples", f"steered {k}", share(50 + e), n) for k, e in enumerate(found, start=1)]
    return trials


@given(top=st.floats(0.05, 0.9), half=st.floats(0.5, 300))
def test_the_curve_is_found_again(top: float, half: float) -> None:
    counts = np.geomspace(1, 1000, 12)
    found_top, found_half = _saturating(counts, top * counts / (counts + half))
    assert found_top == pytest.approx(top, rel=0.03) and found_half == pytest.approx(half, rel=0.06)


@pytest.mark.slow
@settings(max_examples=12)
@given(half=st.floats(1.0, 200))
def test_the_knee_is_where_nine_tenths_of_the_whole_are_reached(half: float) -> None:
    def curve(n: float) -> float:
        return 0.5 * n / (n + half)

    effects = {n: [curve(n)] * 3 for n in np.geomspace(1, 600, 9)}
    knee = _knee(effects, curve(1000), 1000.0)
    assert curve(knee.value) == pytest.approx(0.9 * curve(1000), rel=0.02)
    assert knee.interval.low <= knee.value * 1.001 and knee.value <= knee.interval.high * 1.001


@pytest.mark.parametrize(
    ("trials", "outcome", "says"),
    [
        (made({4: (10, 12, 8), 20: (30, 31, 29), 100: (38, 39, 37), 400: (40, 40, 39)}, 40), "good", "nine tenths"),
        (made({4: (1, 0, 2), 20: (3, 2, 4), 100: (9, 12, 10), 400: (24, 26, 28)}, 45), "unclear", "has not settled"),
        (made({4: (0, 1, -1), 20: (1, 0, 0), 100: (0, 2, 0)}, 1), "bad", "no smaller number can suffice"),
        (made({4: (40, 40, 40), 20: (40, 40, 40), 100: (40, 40, 40)}, 40), "good", "4 examples gives as much"),
    ],
)
def test_the_verdict_follows_from_the_curve(trials: list[Trial], outcome: str, says: str) -> None:
    verdict = judge(trials, SamplesOptions()).verdict
    assert (verdict.outcome, says in verdict.words) == (outcome, True), verdict.words


@pytest.fixture(scope="module")
def log(subject: Subject) -> StudyLog:
    return run("samples", subject, SamplesOptions(limit=40, counts=(2, 8, 20, 60), draws=3))


@pytest.mark.slow
def test_more_examples_point_more_alike(log: StudyLog) -> None:
    alike = [t for t in log.trials if t.condition == ALIKE]
    assert [t.at for t in alike] == [2, 8, 20, 60]
    means = [np.mean(t.values) for t in alike]
    assert means[0] < means[2] <= 1.0
    assert [len(t.values) for t in log.trials if t.condition == BETWEEN] == [3, 3, 3, 3]


@pytest.mark.slow
def test_all_examples_drawn_are_the_whole_vector(log: StudyLog) -> None:
    whole = next(t for t in log.trials if (t.case, t.condition) == (ALL, "steered"))
    drawn = [t for t in log.trials if t.at == 60 and t.condition.startswith("steered")]
    assert all(t.values == whole.values for t in drawn[1:])
    assert min(next(t for t in log.trials if t.at == 60 and t.condition == ALIKE).values) == pytest.approx(
        1.0, abs=1e-5
    )


@pytest.mark.slow
def test_draws_depend_on_the_seed_alone(log: StudyLog, subject: Subject) -> None:
    options = SamplesOptions(limit=40, counts=(2, 8, 20, 60), draws=3)
    assert run("samples", subject, options).trials == log.trials
    other = run("samples", subject, SamplesOptions(limit=40, counts=(2, 8, 20, 60), draws=3, seed=1))
    assert other.trials[2].values != log.trials[2].values or other.trials != log.trials
