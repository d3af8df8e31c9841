"""The published second look is what its log says, and the log what the published outcomes say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tillerman.data.outcomes import read_outcomes
from tillerman.evaluation.second_look import second_look
from tillerman.logs.second_look import SecondLookLog

from ..data.shared import shared_data

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("second_look_build", ROOT / "tools/second_look/build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_the_second_look_is_made_of_its_log_as_it_is(build: ModuleType) -> None:
    (made,) = build.made().values()
    assert made == build.PAGE.read_text(encoding="utf-8"), "stale: run 'python tools/second_look/build.py'"


def test_the_log_is_what_the_published_outcomes_give(build: ModuleType) -> None:
    files = sorted(map(str, shared_data("cache_steering").glob("*.csv")))
    made, log = second_look(read_outcomes(files), "unsteered"), SecondLookLog.read(build.LOG)
    assert made.files == log.files and made.notes == log.notes
    for mine, theirs in zip(made.tests, log.tests, strict=True):
        assert (mine.table, mine.condition, mine.moved) == (theirs.table, theirs.condition, theirs.moved)
        assert mine.effect.p_value == pytest.approx(theirs.effect.p_value)
        assert mine.outcome == theirs.outcome


def test_what_the_page_says_by_hand_is_what_the_log_says(build: ModuleType) -> None:
    """That nothing stands, and that all sets together lean to a gain that a single test would have shown."""
    log = SecondLookLog.read(build.LOG)
    assert {one.outcome for one in log.tests} == {"undecided"}
    (over,) = [one for one in log.tests if not one.table and one.condition == build.CLAIMED]
    assert over.effect.p_value < 0.05 < over.p_holm and 0.005 < over.effect.value < 0.015
