"""A small artefact of the embedded model, fitted once; trials made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

import tillerman
from tillerman.data.loading import LoadedData
from tillerman.logs.study import Trial
from tillerman.studies import Subject

SMALL = tillerman.Experiment(
    max_kl=None,
    max_perplexity_ratio=None,
    method="caa",
    max_train=60,
    max_validation=60,
    max_test=60,
    layers=(3,),
    doses=(0.2,),
    null_draws=2,
    shots=0,
    neutral_tokens=512,
    unrelated_items=10,
    generations=(),
)


@pytest.fixture(scope="package")
def pilot() -> tillerman.OpenModel:
    return tillerman.open_model("pilot")


@pytest.fixture(scope="package")
def science() -> LoadedData:
    return tillerman.load_examples("sample:interest-in-science")


@pytest.fixture(scope="package")
def artefact(pilot: tillerman.OpenModel, science: LoadedData) -> tillerman.Artefact:
    return tillerman.fit(SMALL, pilot, science).artefact


@pytest.fixture(scope="package")
def subject(artefact: tillerman.Artefact, pilot: tillerman.OpenModel, science: LoadedData) -> Subject:
    return Subject(artefact, pilot, science)


@pytest.fixture(scope="package")
def random_subject(artefact: tillerman.Artefact, pilot: tillerman.OpenModel, science: LoadedData) -> Subject:
    """A vector that is about nothing, as strong as the real one."""
    return Subject(replace(artefact, steering=artefact.steering.random_like(7)), pilot, science)


def trial(case: str, condition: str, right: Sequence[bool], at: float | None = None) -> Trial:
    """Right and wrong by item; the letters alternate."""
    ids = tuple(f"item {i}" for i in range(len(right)))
    letters = tuple("AB"[i % 2] for i in range(len(right)))
    return Trial(case, condition, ids, tuple(map(float, right)), letters, at=at)


def share(count: int, of: int = 100) -> list[bool]:
    """So many right ones, spread evenly over both letters."""
    return [i < count for i in range(of)]
