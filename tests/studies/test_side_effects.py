"""What strengths cost: the budget on trials made by hand, the study on the embedded model."""

from __future__ import annotations

from dataclasses import replace

import pytest

import tillerman
from tillerman.data.loading import LoadedData
from tillerman.evaluation.scorers.registry import text_scorers
from tillerman.logs.study import Trial
from tillerman.studies import SideEffectsOptions, Subject, run
from tillerman.studies.side_effects.judge import judge
from tillerman.studies.side_effects.options import BEHAVIOUR, UNRELATED
from tillerman.studies.trials import KL, PERPLEXITY

from .conftest import share, trial

OPTIONS = SideEffectsOptions(factors=(0.5, 1.0, 2.0))


def made(costs: dict[float, tuple[float, float, int] | None]) -> list[Trial]:
    """Factor -> (KL, log perplexity ratio, right ones of 400 on the unrelated task, 200 unsteered); None: wrecked."""
    trials = [trial(BEHAVIOUR, "unsteered", share(50), 0.0), trial(UNRELATED, "unsteered", share(200, 400), 0.0)]
    for factor, cost in costs.items():
        name, dose = f"{factor:.2f} ×", factor / 5
        right = 200 if cost is None else cost[2]
        trials += [trial(BEHAVIOUR, name, share(80), dose), trial(UNRELATED, name, share(right, 400), dose)]
        if cost is not None:
            windows = tuple(f"window {i}" for i in range(8))
            wobble = [1 + 0.01 * (i % 3) for i in range(8)]
            for case, value in ((KL, cost[0]), (PERPLEXITY, cost[1])):
                trials.append(Trial(case, name, windows, tuple(value * w for w in wobble), at=dose))
    return trials


CHEAP, DEAR, BLUNT = (0.01, 0.02, 200), (0.5, 0.4, 200), (0.01, 0.02, 120)


@pytest.mark.parametrize(
    ("costs", "outcome", "says"),
    [
        ({0.5: CHEAP, 1.0: CHEAP, 2.0: CHEAP}, "good", "intervals included, is 2.00 × its own"),
        ({0.5: CHEAP, 1.0: CHEAP, 2.0: DEAR}, "good", "intervals included, is 1.00 × its own"),
        ({0.5: CHEAP, 1.0: DEAR, 2.0: CHEAP}, "bad", "intervals included, is 0.50 × its own"),
        ({0.5: DEAR, 1.0: DEAR, 2.0: DEAR}, "bad", "No tested strength is within it"),
        ({0.5: CHEAP, 1.0: BLUNT, 2.0: CHEAP}, "bad", "beyond the budget"),
        ({0.5: CHEAP, 1.0: (0.099, 0.02, 200), 2.0: DEAR}, "mixed", "not established as within"),
        ({0.5: CHEAP, 1.0: (0.099, 0.02, 200), 2.0: DEAR}, "mixed", "intervals included, is 0.50 × its own"),
        ({0.5: CHEAP, 1.0: None, 2.0: None}, "bad", "not finite numbers"),
    ],
)
def test_the_verdict_follows_from_the_costs(
    costs: dict[float, tuple[float, float, int] | None], outcome: str, says: str
) -> None:
    verdict = judge(made(costs), OPTIONS).verdict
    assert (verdict.outcome, says in verdict.words) == (outcome, True), verdict.words


def test_a_strength_that_wrecks_the_model_is_a_row_and_no_number() -> None:
    table = judge(made({0.5: CHEAP, 1.0: CHEAP, 2.0: None}), OPTIONS).tables[0]
    assert [row[3] for row in table.rows][-1] == "not a number"
    assert [row[-1] for row in table.rows] == ["yes", "yes", "no"]


@pytest.mark.slow
def test_costs_grow_with_the_strength(subject: Subject) -> None:
    log = run("side-effects", subject, SideEffectsOptions(limit=20, factors=(0.5, 1.0, 2.0), unrelated_items=10))
    kl = [sum(t.values) / len(t.values) for t in log.trials if t.case == KL]
    assert kl == sorted(kl) and kl[0] > 0
    assert subject.artefact.card is not None
    stored = subject.artefact.card.report["side_effects"]
    assert kl[1] == pytest.approx(stored["kl"], rel=1e-4)


def test_a_strength_that_overflows_is_refused_before_the_first_pass(
    artefact: tillerman.Artefact, pilot: tillerman.OpenModel, science: LoadedData
) -> None:
    wild = replace(artefact, cell=artefact.cell.at(1e38))
    options = SideEffectsOptions(limit=10, factors=(1.0,), unrelated_items=5)
    with pytest.raises(tillerman.UsageError, match="too far for a model in float32"):
        run("side-effects", Subject(wild, pilot, science), options)


@pytest.mark.slow
def test_free_texts_are_kept_and_measured_at_every_strength(subject: Subject) -> None:
    options = SideEffectsOptions(limit=10, factors=(1.0, 8.0), unrelated_items=5, text_tokens=12)
    log = run("side-effects", subject, options)
    table = log.tables[1]
    assert [row[0] for row in table.rows] == ["unsteered", "1.00 ×", "8.00 ×"]
    assert len(table.head) == 5 and all(all(row) for row in table.rows)
    texts = {t.condition: t.texts for t in log.trials if t.scorer == "length"}
    assert texts["unsteered"] != texts["8.00 ×"] and len(texts["unsteered"]) == 32
    again = text_scorers(["distinct:2"])[0].score([""] * 32, texts["8.00 ×"])
    assert [value for value in again if value is not None] == [
        value for t in log.trials if (t.scorer, t.condition) == ("distinct:2", "8.00 ×") for value in t.values
    ]
