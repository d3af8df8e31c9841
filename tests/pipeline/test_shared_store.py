"""One store may serve many runs: pieces go by what they depend on, not by what it is called."""

from __future__ import annotations

from dataclasses import replace

import pytest

import tillerman
from tillerman.models.opened import open_model

SMALL = tillerman.Experiment(
    max_perplexity_ratio=None,
    method="caa",
    layers=(3,),
    doses=(0.3,),
    max_kl=5.0,
    prompt="Say yes.",
    shots=2,
    neutral="sample:tinystories",
    neutral_tokens=256,
    unrelated_items=10,
    null_draws=2,
    generations=(),
)


@pytest.fixture(scope="module")
def pilot():
    return open_model("pilot")


@pytest.fixture(scope="module")
def shared(pilot):
    """A store that already holds one run; the tests add theirs."""
    store = tillerman.Store(None, "")
    tillerman.fit(SMALL, pilot, data(), store=store)
    return store


def data(name="interest-in-science"):
    return tillerman.load_examples(f"sample:{name}", limit=80)


def measured(outcome):
    """What a fit found, without what it took."""
    log = outcome.log.to_json()
    return {
        key: value
        for key, value in log.items()
        if key not in ("seconds", "seconds_to_choose", "seconds_for_prompt", "provenance")
    }


@pytest.mark.slow
def test_another_title_finds_every_piece(pilot, tmp_path):
    def lines():
        return (tmp_path / "run" / "values.jsonl").read_text().split("\n\n")

    first = tillerman.Store(tmp_path / "run", "key")
    one = tillerman.fit(SMALL, pilot, data(), store=first)
    first.close(finished=False)
    made = lines()
    second = tillerman.Store(tmp_path / "run", "key")
    other = tillerman.fit(SMALL, pilot, replace(data(), name="another title"), store=second)
    second.close(finished=False)
    assert len(made) > 5
    assert lines() == made
    assert measured(other) == measured(one) | {"data_name": "another title"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"seed": 1}, "interest-in-science"),
        ({"method": "caa+pca"}, "interest-in-science"),
        ({"prompt": "Say no."}, "interest-in-science"),
        ({"scope": "last"}, "interest-in-science"),
        ({"read": "last"}, "interest-in-science"),
        ({"neutral": "sample:wikitext"}, "interest-in-science"),
        ({}, "agreeableness"),
    ],
)
def test_a_run_that_differs_finds_nothing_that_is_not_its_own(pilot, shared, change, name):
    other = replace(SMALL, **change)
    beside = tillerman.fit(other, pilot, data(name), store=shared)
    assert measured(beside) == measured(tillerman.fit(other, pilot, data(name)))
