"""What pairs foretell, in words: figures with what they would be of nothing, and no promise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tillerman.logs.forecast import EffectForecast, PlaceForecast
from tillerman.reports.effect_forecast import forecast_findings, forecast_table, forecast_words, no_forecast
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
