"""What the whole pipeline claims of data whose truth is known: labels by coin, and an answer that is to be had."""

from __future__ import annotations

from dataclasses import replace

import pytest

import tillerman

from .. import planted


@pytest.mark.slow
def test_the_whole_pipeline_claims_an_effect_on_labels_by_coin_in_at_most_six_of_a_hundred_runs():
    """Every other run may not abstain: where it may, it often does, and then claims nothing."""
    runs = [replace(planted.SMALL, seed=k, zero=k % 2 == 0) for k in range(80)]
    logs = [tillerman.fit(run, planted.speaker(), planted.coins(run.seed)).log for run in runs]
    assert all(log.cells_compared == 4 + run.zero for run, log in zip(runs, logs, strict=True))
    assert sum(log.strength != 0 for log in logs) > 52
    assert sum(log.effect.found for log in logs) <= 5


@pytest.mark.slow
def test_the_whole_pipeline_finds_an_effect_that_is_there():
    logs = [
        tillerman.fit(replace(planted.SMALL, seed=k), planted.speaker(), planted.labelled(k, 300, 1.0)).log
        for k in range(12)
    ]
    assert sum(log.effect.found for log in logs) >= 11
