"""A fast run checks little and says so; a search keeps to its time; a forecast knows what costs more."""

from __future__ import annotations

from dataclasses import replace

import pytest

import tillerman
from tillerman.cli.values import seconds_of
from tillerman.data.loading import LoadedData
from tillerman.pipeline.forecast import Pace, forecast
from tillerman.pipeline.presets import quick
from tillerman.reports.forecast import forecast_words
from tillerman.reports.sentences import search_words
from tillerman.reports.verdict import judge_log

WIDE = tillerman.Experiment(
    method="caa",
    read="usual",
    max_train=40,
    max_validation=20,
    max_test=30,
    neutral="sample:tinystories",
    max_kl=None,
    max_perplexity_ratio=None,
)


@pytest.fixture(scope="module")
def pilot() -> tillerman.OpenModel:
    return tillerman.open_model("pilot")


@pytest.fixture(scope="module")
def science() -> LoadedData:
    return tillerman.load_examples("sample:interest-in-science")


@pytest.fixture(scope="module")
def fast(pilot: tillerman.OpenModel, science: LoadedData) -> tillerman.EvaluationLog:
    return tillerman.fit(quick(WIDE), pilot, science).log


def test_a_fast_run_has_one_held_out_check_and_nothing_else(fast: tillerman.EvaluationLog) -> None:
    assert [c.name for c in fast.conditions] == ["unsteered", "steered", "constant"]
    assert fast.generations == () and fast.written is None and fast.prompts == () and fast.dose_range is None
    assert fast.side_effects.tokens <= 512
    assert tillerman.EvaluationLog.from_json(fast.to_json()) == fast


def test_a_fast_run_is_never_called_good_and_says_what_was_not_checked(fast: tillerman.EvaluationLog) -> None:
    verdict = judge_log(fast)
    assert fast.effect.found  # else there is nothing to praise
    assert verdict.outcome == "mixed"
    assert "this fast run did not check random directions and shuffled labels" in verdict.words
    assert "No fair prompt" not in verdict.words
    assert judge_log(replace(fast, unchecked=())).outcome == "good"


def test_what_measures_something_beside_the_vector_is_refused_with_fast() -> None:
    for change in ({"nested": 3}, {"lora": True}, {"objective": "written"}):
        with pytest.raises(tillerman.UsageError, match="`fast` leaves out"):
            quick(tillerman.Experiment(**change))
    assert quick().method == "caa" and quick(tillerman.Experiment(method="pas")).method == "pas"


@pytest.mark.slow
def test_a_search_keeps_to_its_time_and_says_so(
    pilot: tillerman.OpenModel, science: LoadedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tillerman.pipeline.forecast.pace_of", lambda run: Pace(0.0, 0.01, 0.0))
    cut = tillerman.fit(quick(replace(WIDE, budget=4.0)), pilot, science).log  # 20 items: 20 cells, a third of them
    assert cut.cells_compared == 6
    assert cut.of_cells is not None and cut.of_cells > 20
    assert "the search was cut to 6 cells to fit 4.0 s" in cut.notes
    free = tillerman.fit(quick(replace(WIDE, budget=4e6)), pilot, science).log
    assert 6 < free.cells_compared <= 24 and not any("to fit" in note for note in free.notes)
    assert f"of {free.of_cells} in the grid" in search_words(free)


def test_a_budget_is_more_than_nothing_and_no_whole_grid() -> None:
    with pytest.raises(tillerman.UsageError, match="`budget` 0"):
        tillerman.Experiment(budget=0.0)
    with pytest.raises(tillerman.UsageError, match="omit one of the two"):
        tillerman.Experiment(budget=60.0, grid="full")


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("5m", 300), ("1.5 h", 5400), ("20", 20), ("2min", 120)])
def test_times_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert seconds_of(text, "--budget") == seconds


@pytest.mark.parametrize("text", ["", "five", "5 weeks", "-3m", "0s"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(tillerman.UsageError, match="90s, 5m or 1h"):
        seconds_of(text, "--budget")


@pytest.mark.slow
def test_a_forecast_counts_what_will_be_done(pilot: tillerman.OpenModel, science: LoadedData) -> None:
    pace = Pace(0.001, 0.001, 0.01)
    whole, coarse, little = (
        forecast(one, pilot, science, pace) for one in (replace(WIDE, grid="full"), WIDE, quick(WIDE))
    )
    assert whole["search"] > coarse["search"] > little["search"]
    assert coarse["side effects"] > little["side effects"]
    assert list(coarse.values()) == sorted(coarse.values(), reverse=True)
    assert forecast(replace(WIDE, grid="coarse", budget=0.01), pilot, science, pace)["search"] == 0.01


@pytest.mark.slow
def test_a_forecast_counts_the_looks_that_find_doses(pilot: tillerman.OpenModel, science: LoadedData) -> None:
    pace = Pace(0.001, 0.001, 0.01)
    by_cost = tillerman.Experiment(method="caa", read="mean", objective="written", layers=(1, 2))
    assert forecast(by_cost, pilot, science, pace)["doses"] == pytest.approx(0.001 * 2 * 6 * 64)
    assert forecast(replace(by_cost, doses=(0.2,)), pilot, science, pace)["doses"] == 0.0
    for part in forecast(by_cost, pilot, science, pace):  # whatever takes long has a remedy
        assert f"({part} 7 min). Shorter: " in forecast_words({part: 400.0}, fast=False)


def test_a_forecast_is_measured_on_the_first_batch(pilot: tillerman.OpenModel, science: LoadedData) -> None:
    assert 0 < sum(forecast(quick(WIDE), pilot, science).values()) < 600


def test_a_long_run_is_told_what_would_make_it_shorter() -> None:
    words = forecast_words({"search": 400.0, "test": 30.0}, fast=False)
    assert words.startswith("This will take about 7 min (search 7 min). Shorter: --fast")
    assert "--budget 1m" in words and "--shots" not in words
    assert "--fast" not in forecast_words({"search": 400.0}, fast=True)
    assert forecast_words({"search": 5.0}, fast=False) == "This will take about 5 s."


@pytest.mark.slow
def test_rows_in_memory_are_fitted_and_tested_as_loaded_examples_are(pilot: tillerman.OpenModel) -> None:
    words = ("yes", "no")
    rows = [{"question": f"Is {k} even?", "answer": words[k % 2]} for k in range(60)]
    cell = replace(quick(WIDE), layers=(2,), doses=(0.2,))
    loaded = tillerman.fit(cell, pilot, tillerman.load_examples(rows))
    twice = tillerman.fit_seeds(cell, (0, 1), pilot, iter(rows))
    assert twice.log.seeds is not None and len(twice.log.seeds.seeds) == 2
    assert twice.log.conditions == loaded.log.conditions
    assert tillerman.evaluate(twice.artefact, cell, pilot, rows).conditions[:2] == loaded.log.conditions[:2]
