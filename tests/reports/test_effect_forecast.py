"""What pairs foretell, in words: figures with what they would be of nothing, and no promise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tillerman.logs.forecast import EffectForecast, ForecastRecord, PlaceForecast
from tillerman.reports.effect_forecast import (
    forecast_findings,
    forecast_table,
    forecast_words,
    no_forecast,
    record_words,
    records,
)
from tillerman.statistics.pair_differences import PairFigures
from tillerman.statistics.values import Interval


def place(layer: int, area: float, within: float | None = None) -> PlaceForecast:
    figures = PairFigures(0.25, area, 1.5, 0.4, 0.9, within, None if within is None else 0.12)
    return PlaceForecast(f"layers.{layer}.resid_post", "mean", figures, Interval(0.2, 0.3), Interval(0.7, 0.9))


def forecast(reached: int = 0, within: float | None = 0.85) -> EffectForecast:
    places = tuple(place(layer, 0.6 + 0.02 * layer, within) for layer in range(12))
    null = PairFigures(0.0, 0.5, 0.0, 0.4, 0.5, None if within is None else 0.55, None if within is None else 0.0)
    return EffectForecast(40, places[7], null, replace(null, auc=0.66), 19, reached, 12, places)


@pytest.mark.parametrize(("reached", "level"), [(0, "ok"), (3, "warning")])
def test_pairs_told_apart_no_better_than_shuffled_ones_are_warned_of(reached: int, level: str) -> None:
    (found,) = forecast_findings(forecast(reached))
    assert (found.check, found.level, found.value) == ("forecast", level, 0.85)
    assert ("3 of 19 draws" in found.message) == bool(reached)


def test_the_area_within_answers_is_named_only_where_there_is_one() -> None:
    assert "AUC within answers 0.85" in forecast_findings(forecast())[0].message
    assert "held-out AUC 0.74" in forecast_findings(forecast(within=None))[0].message
    assert "AUC within" in forecast_table(forecast()).head
    assert "AUC within" not in forecast_table(forecast(within=None)).head


def test_the_table_has_few_layers_the_best_one_strong_and_both_rows_of_the_null() -> None:
    table = forecast_table(forecast())
    assert len(table.rows) <= 9 and len({len(row) for row in (table.head, *table.rows)}) == 1
    (strong,) = table.strong
    assert table.rows[strong][0] == "layers.7.resid_post"
    assert [row[0] for row in table.rows[-2:]] == ["shuffled, mean of 19", "shuffled, highest"]


def test_a_card_without_places_still_shows_the_best_one() -> None:
    assert forecast_table(forecast().for_card()).rows[0][0] == "layers.7.resid_post"


def test_every_figure_is_said_in_words() -> None:
    words = " ".join(forecast_words(forecast()))
    for figure in ("+0.25", "0.74", "0.85", "+0.12", "40 %", "0.90", "Of 12 places", "layers.7"):
        assert figure in words, figure
    assert "same answer" not in " ".join(forecast_words(forecast(within=None)))


def test_data_without_pairs_get_a_reason() -> None:
    found = no_forecast("open questions")
    assert found.level == "note" and "open questions" in found.message


RECORD = ForecastRecord(
    "a model",
    "personas",
    "auc_within",
    40,
    12,
    0.5,
    Interval(0.2, 0.7),
    0.8,
    Interval(0.6, 0.9),
    0.15,
    0.21,
    10,
    -8,
    0.5,
    0.9,
)


def test_a_chance_is_quoted_only_where_the_figure_foretold_something() -> None:
    said = record_words(forecast(), (RECORD,))[0]
    assert "On 40 personas of a model" in said and "AUC of 0.80 (0.60 to 0.90)" in said
    assert "With 0.85, 62 % of such behaviours had one" in said
    for worse in (replace(RECORD, area_interval=Interval(0.45, 0.9)), replace(RECORD, brier=0.22)):
        said = record_words(forecast(), (worse,))[0]
        assert "that is no forecast" in said and "62 %" not in said
    assert "no such figure" in record_words(forecast(within=None), (RECORD,))[0]


def test_without_a_record_nothing_is_claimed() -> None:
    assert "is not known" in record_words(forecast(), ())[0]


def test_beyond_what_was_measured_the_chance_is_that_of_the_border() -> None:
    assert RECORD.chance(0.99) == RECORD.chance(0.9) > RECORD.chance(0.6)


def test_the_packaged_record_is_read_and_names_its_models() -> None:
    assert {one.figure for one in records()} <= {"auc_within"}
    words = " ".join(forecast_words(forecast()))
    assert all(f"On {one.n} {one.of} of {one.model}" in words for one in records())
