"""What an evaluation says in one word: controls first, then doubts and prices."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tillerman.core.errors import UnknownNameError
from tillerman.logs.evaluation import Condition, EvaluationLog
from tillerman.logs.verdict import Verdict
from tillerman.reports.verdict import judge_log
from tillerman.statistics.values import Interval

from .example_log import effect, example_log, rate


def with_condition(log: EvaluationLog, name: str, value: float, half: float, p: float = 0.5) -> EvaluationLog:
    """The log with one condition's effect set."""
    rest = tuple(c for c in log.conditions if c.name != name)
    return replace(log, conditions=(*rest, Condition(name, rate(0.338 + value), effect(value, half, p))))


@pytest.fixture
def log() -> EvaluationLog:
    """An effect of 10 pp and more, silent nulls, cheap."""
    made = example_log()
    cheap = replace(made.side_effects, perplexity_ratio=1.1, perplexity_ratio_interval=Interval(1.0, 1.2))
    return replace(made, side_effects=cheap)


def test_an_effect_beyond_silent_controls_is_good(log: EvaluationLog) -> None:
    verdict = judge_log(log)
    assert verdict.outcome == "good"
    assert "a random direction, the shuffled-label control" in verdict.words and f"n = {log.effect.n}" in verdict.words


@pytest.mark.parametrize(
    ("name", "share", "half", "outcome", "says"),
    [
        ("null:random", 0.9, 0.05, "bad", "a random direction already gains more than half of it"),
        ("null:shuffled", 0.6, 0.3, "bad", "the shuffled-label control already gains more than half"),
        ("null:random", 0.2, 0.7, "mixed", "the interval of a random direction overlaps"),
        ("turned", 0.1, 0.2, "bad", "it is about a letter"),
        ("turned", 0.3, 0.05, "bad", "it is about a letter"),
        ("turned", 0.7, 0.8, "bad", "it is about a letter"),
        ("turned", 0.9, 0.1, "good", "all option orders"),
    ],
)
def test_controls_speak_first(
    log: EvaluationLog, name: str, share: float, half: float, outcome: str, says: str
) -> None:
    size = log.effect.value
    verdict = judge_log(with_condition(log, name, share * size, half * size))
    assert (verdict.outcome, says in verdict.words) == (outcome, True), verdict.words


def test_an_effect_of_one_answer_word_is_called_so(log: EvaluationLog) -> None:
    lopsided = replace(log.condition("steered"), effect=replace(log.effect, balanced=0.0))
    rest = tuple(c if c.name != "steered" else lopsided for c in log.conditions)
    verdict = judge_log(replace(log, conditions=rest))
    assert verdict.outcome == "bad" and "about an answer word" in verdict.words


def test_where_one_answer_is_always_right_behaviour_and_word_are_the_same(log: EvaluationLog) -> None:
    always = Condition("constant", rate(0.99), effect(0.6, 0.05, 1e-9))
    verdict = judge_log(replace(log, conditions=(*log.conditions, always)))
    assert verdict.outcome == "mixed" and "cannot be told apart" in verdict.words


@pytest.mark.parametrize(
    ("value", "half", "says"), [(0.02, 0.05, "No effect found"), (-0.2, 0.05, "reduces the behaviour")]
)
def test_no_effect_and_a_harmful_one_are_bad(log: EvaluationLog, value: float, half: float, says: str) -> None:
    verdict = judge_log(with_condition(log, "steered", value, half))
    assert verdict.outcome == "bad" and says in verdict.words


def test_what_is_ruled_out_is_said_where_nothing_is_found(log: EvaluationLog) -> None:
    assert "Effects beyond +7.0 pp are ruled out" in judge_log(with_condition(log, "steered", 0.02, 0.05)).words


def test_a_high_price_is_a_doubt(log: EvaluationLog) -> None:
    dear = replace(log.side_effects, perplexity_ratio=4.0, perplexity_ratio_interval=Interval(3.5, 4.5))
    verdict = judge_log(replace(log, side_effects=dear))
    assert verdict.outcome == "mixed" and "perplexity on neutral text is 4.00 ×" in verdict.words
    harmed = replace(log.side_effects, unrelated_effect=effect(-0.2, 0.05, 1e-6))
    verdict = judge_log(replace(log, side_effects=harmed))
    assert verdict.outcome == "mixed" and "the unrelated task loses 20.0 pp" in verdict.words


def test_an_unknown_outcome_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="no outcome named 'great'"):
        Verdict("great", "")
