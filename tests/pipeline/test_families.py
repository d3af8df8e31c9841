"""Every data family of PAS runs from file to verdict without hand work. Effects may honestly be zero."""

from __future__ import annotations

import pytest
from tests.data.shared import shared_data

import tillerman

FAMILIES = {
    "bbq": "bbq/original/Age.jsonl.gz",
    "ethics commonsense": "ethics/commonsense/cm_test.csv.gz",
    "ethics deontology": "ethics/deontology/deontology_test.csv",
    "ethics virtue": "ethics/virtue/virtue_test.csv",
    "caa sycophancy": "caa/generate/sycophancy/generate_dataset.json",
    "political sycophancy": "anthropic_evals/sycophancy_old/political_typology_quiz_liberal-bio_liberal.jsonl.gz",
    "truthfulqa": "truthfulqa/mc_task.json",
    "openbookqa": "commonsense/openbookqa/test.json.gz",
    "arc-challenge": "commonsense/ARC-Challenge/test.json.gz",
    "lsat": "agieval/lsat-lr.jsonl",
    "mmlu": "mmlu/test/philosophy_test.csv",
    "bipo": "bipo/power-seeking/train.csv",
}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_data_family_of_pas_runs_from_file_to_verdict(family: str) -> None:
    opened = tillerman.open_model("pilot")
    data = tillerman.load_examples(shared_data(FAMILIES[family]), limit=80, skip_bad_rows=True)
    experiment = tillerman.Experiment(
        max_kl=None,
        max_perplexity_ratio=None,
        skip_long=True,
        layers=(3,),
        doses=(0.5,),
        shots=2,
        neutral="sample:tinystories",
        neutral_tokens=256,
        unrelated_items=5,
        generations=(),
    )
    log = tillerman.fit(experiment, opened, data).log
    assert log.n_train >= 20
    names = {c.name for c in log.conditions}
    assert {"unsteered", "steered", "null:random", "null:shuffled"} <= names
    assert ("prompt" in names) == (
        bool(log.prompts) and log.prompts[0].text != ""
    )  # or no prompt does better than none
    assert log.effect.interval.low <= log.effect.value <= log.effect.interval.high
    assert not [f for f in log.diagnostics if f.level == "error"]
