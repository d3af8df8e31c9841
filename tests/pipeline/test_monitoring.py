"""The calibration of a monitor: what chooses, what tests, and what is written down."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import tillerman
from tillerman.core.artefact import Artefact
from tillerman.core.cell import Cell
from tillerman.core.errors import DataError, UnknownNameError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.monitors import Monitor
from tillerman.data.duplicates import clean_split
from tillerman.data.examples import Example
from tillerman.data.loading import LoadedData
from tillerman.logs.monitor import MonitorLog
from tillerman.pipeline.monitor_scores import Sides, choose, on_test_items, peaks
from tillerman.pipeline.monitoring import MonitorOptions, calibrate_monitor
from tillerman.steering.following import Following

from .. import tiny
from ..core.test_kinds import EXAMPLES

GREEN = "green grass and blue sky and sun"
RED = "red stone in a river and no cat"
_NOUNS = ("apple", "stone", "river", "cat", "mat", "dog", "sun", "sky", "grass", "fruit")


def data(count: int = 24) -> LoadedData:
    """Questions that are answered in green words (wanted) or in red ones, no two answers alike."""
    examples = []
    for k in range(count):
        a, b = _NOUNS[k % 10], _NOUNS[(3 * k + 1) % 10]
        told = f"the {a} {'and' * (1 + k // 10)} the {b}"
        examples.append(Example("preference", f"Which is {told}?", (f"{GREEN} {a} {b}", f"{RED} {b} {a}"), 0))
    return LoadedData(tuple(examples), "colours", "made", f"colours {count}", (), ("You like green.",))


@pytest.fixture(scope="module")
def artefact() -> Artefact:
    """Along what tells the first green words from the red ones in a random model's stream, fitted on other data."""
    opened = tiny.opened()
    rows = [tillerman.Row(tuple(opened.tokenizer(text)["input_ids"])) for text in (GREEN, RED)]
    points = [HookPoint(0), HookPoint(1)]
    seen = tillerman.capture(opened, rows, points, read="mean")
    vector = opened.vector({point: h[0] - h[1] for point, h in seen.items()}, name="colours")
    return Artefact(vector, Cell.of(vector.at(HookPoint(1))))


@pytest.fixture(scope="module")
def calibrated(artefact) -> tuple[Artefact, MonitorLog]:
    return calibrate_monitor(artefact, tiny.opened(), data(), MonitorOptions(draws=3))


def test_a_direction_that_tells_is_found_and_beats_random_ones(calibrated) -> None:
    made, log = calibrated
    assert log.chosen.area.value > 0.9 and log.chosen.detected.value > 0.8
    assert [one.name for one in log.readings] == ["prompt", "mean", "token"] and log.reading == "mean"
    assert all(len(one.random) == 3 for one in log.readings)
    assert made.monitor is not None and str(made.monitor.point) == log.chosen.hook_point
    assert made.monitor.threshold == log.chosen.threshold


def test_half_of_other_data_chooses_and_the_other_half_tests(calibrated) -> None:
    _, log = calibrated
    n = log.chosen.area.n
    assert log.validation + n == 24 and n == log.chosen.area.unwanted == log.chosen.detected.n > 5
    assert 0 < log.own <= log.validation
    assert log.provenance["split"]["train"] == 0
    assert [(one.name, one.crossed.n) for one in log.live] == [("unsteered", n), ("prompt", n), ("steered", n)]


def test_what_was_measured_is_in_the_artefact_and_reads_back(calibrated, tmp_path) -> None:
    made, log = calibrated
    tillerman.save(tmp_path / "one.safetensors", made)
    back = tillerman.load(tmp_path / "one.safetensors")
    assert back.monitor is not None
    assert MonitorLog.from_json(json.loads(json.dumps(dict(back.monitor.measured)))) == log
    wrong = replace(made, monitor=replace(made.monitor, measured={"kind": "monitor", "version": 1}))
    tillerman.save(tmp_path / "two.safetensors", wrong)
    with pytest.raises(tillerman.ArtefactError, match="its monitor: no log of kind monitor"):
        tillerman.load(tmp_path / "two.safetensors")


@pytest.mark.slow
def test_the_threshold_is_set_on_validation_items_alone(artefact, calibrated) -> None:
    """Other test items move no threshold and no hook point."""
    _, log = calibrated
    examples = data().examples
    split = clean_split(examples, shares=(0.0, 0.5, 0.5), seed=0)
    fewer = LoadedData((*split.validation, *split.test[:6]), "colours", "made", "fewer", (), ("You like green.",))
    other = calibrate_monitor(artefact, tiny.opened(), fewer, MonitorOptions(draws=3))[1]
    same = [(one.hook_point, one.threshold, one.searched) for one in log.readings]
    assert [(one.hook_point, one.threshold, one.searched) for one in other.readings] == same
    assert other.chosen.area.n == 6


def test_below_watches_for_what_is_missing(artefact, calibrated) -> None:
    turned = Artefact(
        replace(artefact.steering, directions={p: -d for p, d in artefact.steering.directions.items()}), artefact.cell
    )
    made, log = calibrate_monitor(turned, tiny.opened(), data(), MonitorOptions(above=False, draws=2))
    assert log.chosen.area.value > 0.9 and not log.above and made.monitor is not None and not made.monitor.above
    assert log.chosen.threshold == pytest.approx(-calibrated[1].chosen.threshold, rel=1e-4)


def test_what_cannot_be_calibrated_is_refused_with_a_remedy(artefact) -> None:
    opened = tiny.opened()
    kernel = EXAMPLES["GatedSteering"]()
    with pytest.raises(UsageError, match=r"a GatedSteering .* fit one with 'tillerman fit --method caa'"):
        calibrate_monitor(Artefact(kernel, Cell.of(kernel)), opened, data())
    with pytest.raises(UsageError, match=r"layers\.2\.resid_post: the vector was fitted at layers\.0-1"):
        calibrate_monitor(artefact, opened, data(), MonitorOptions(points=(HookPoint(2),)))
    with pytest.raises(UnknownNameError, match="known: mean, prompt, token"):
        MonitorOptions(read="first")
    with pytest.raises(UsageError, match="a rate of false alarms of 0"):
        MonitorOptions(false_alarms=0)
    with pytest.raises(UsageError, match=r"of the wanted answers have fewer than 60 tokens.*`least` 1"):
        calibrate_monitor(artefact, opened, data(), MonitorOptions(least=60))
    texts = tuple(Example("text", "", (f"{GREEN} {k}", f"{RED} {k}"), 0) for k in range(12))
    with pytest.raises(UsageError, match="labelled texts have no prompt"):
        calibrate_monitor(artefact, opened, LoadedData(texts, "t", "made", "t", ()), MonitorOptions(read="prompt"))
    asked = tuple(Example("open", f"What is {k}?", (str(k),), 0) for k in range(12))
    with pytest.raises(DataError, match="wanted and unwanted answers, and these items have none"):
        calibrate_monitor(artefact, opened, LoadedData(asked, "q", "made", "q", ()))


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(-5, 5), min_size=1, max_size=12),
    read=st.sampled_from(["mean", "token"]),
    least=st.integers(1, 5),
    threshold=st.floats(-5, 5),
    above=st.booleans(),
)
def test_a_whole_answers_score_passes_the_threshold_where_the_monitor_crosses(values, read, least, threshold, above):
    least = least if read == "mean" else 1
    monitor = Monitor(torch.ones(4), HookPoint(0), threshold, above, read, least)
    live = Following(monitor)
    for value in values:
        live.see(value)
    scores = peaks(np.array(values)[:, None], read, least)[0]
    score, limit = (scores[0], threshold) if above else (scores[1], -threshold)
    if abs(score - limit) > 1e-9:  # NaN is not
        assert (live.crossed is not None) == bool(score > limit)
    elif np.isnan(score):
        assert live.crossed is None


def test_what_is_too_short_to_cross_ranks_below_all_that_could() -> None:
    found = Sides(np.array([3.0, np.nan]).reshape(2, 1, 1, 1), np.array([1.0, 2.0]).reshape(2, 1, 1, 1))
    chosen = choose(found, 0, (0,), 0.4)
    assert (chosen.threshold, chosen.searched) == (2.0, 0.5)
    test = on_test_items("mean", [HookPoint(0)], found, chosen, [chosen])
    assert (test.detected.value, test.false_alarms.value, test.area.value) == (0.5, 0.0, 0.5)
