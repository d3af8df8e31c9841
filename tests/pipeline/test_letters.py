"""PAS's constant letter, rebuilt: the right answer is always B, and the report says what the vector is about."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import tillerman
from tillerman.data.samples import sample_path
from tillerman.reports.pages import render_report
from tillerman.reports.verdict import judge_log

SMALL = tillerman.Experiment(
    max_kl=None,
    max_perplexity_ratio=None,
    method="caa",
    max_train=80,
    max_validation=60,
    max_test=80,
    layers=(1, 3),
    doses=(0.1, 0.2),
    null_draws=2,
    shots=0,
    neutral_tokens=512,
    unrelated_items=10,
    generations=(),
)


@pytest.fixture(scope="module")
def pilot() -> tillerman.OpenModel:
    return tillerman.open_model("pilot")


@pytest.fixture(scope="module")
def always_b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Persona statements as choices; the wanted answer stands last in every item."""
    rows = tillerman.load_examples(str(sample_path("interest-in-science")), limit=400).examples
    path = tmp_path_factory.mktemp("data") / "always_b.jsonl"
    with path.open("w") as file:
        for e in rows:
            wanted, other = e.options[e.answer], e.options[1 - e.answer]
            file.write(json.dumps({"question": e.question, "options": [other, wanted], "answer": wanted}) + "\n")
    return path


@pytest.mark.slow
def test_a_vector_that_is_about_a_letter_is_called_so(pilot: tillerman.OpenModel, always_b: Path) -> None:
    data = tillerman.load_examples(str(always_b))
    log = tillerman.fit(replace(SMALL, keep_order=True), pilot, data).log
    assert log.condition("constant").rate.value == 1.0
    assert log.effect.found and log.condition("steered").rate.value > 0.95
    turned = log.condition("turned")
    assert turned.effect is not None and turned.rate.value == pytest.approx(0.5, abs=0.05)
    verdict = judge_log(log)
    assert verdict.outcome == "bad" and "it is about a letter" in verdict.words
    assert any(f.level == "error" for f in log.diagnostics)
    assert "it is about a letter" in render_report(log)


@pytest.mark.slow
def test_options_drawn_per_item_leave_nothing_to_a_letter(pilot: tillerman.OpenModel, always_b: Path) -> None:
    log = tillerman.fit(SMALL, pilot, tillerman.load_examples(str(always_b))).log
    assert log.condition("constant").rate.value < 0.7
    turned = log.condition("turned")
    assert turned.effect is not None and abs(turned.effect.value - log.effect.value) < 0.15
    assert "letter" not in judge_log(log).words


@pytest.mark.slow
def test_a_vector_of_a_behaviour_is_called_good(pilot: tillerman.OpenModel) -> None:
    data = tillerman.load_examples("sample:interest-in-science")
    log = tillerman.fit(replace(SMALL, layers=(3,), null_draws=4), pilot, data).log
    assert judge_log(log).outcome in ("good", "mixed"), judge_log(log).words
    assert [c.name for c in log.conditions][:3] == ["unsteered", "steered", "constant"]


@pytest.mark.slow
def test_a_random_vector_is_called_bad(pilot: tillerman.OpenModel) -> None:
    data = tillerman.load_examples("sample:interest-in-science")
    fitted = tillerman.fit(replace(SMALL, layers=(3,), doses=(0.2,)), pilot, data).artefact

    log = tillerman.evaluate(replace(fitted, steering=fitted.steering.random_like(5)), SMALL, pilot, data)
    assert judge_log(log).outcome == "bad", judge_log(log).words
