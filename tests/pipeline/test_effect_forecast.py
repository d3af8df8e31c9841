"""What training pairs foretell: of these alone, where a behaviour is planted and where labels are coins."""

from __future__ import annotations

from dataclasses import replace

import pytest

import tillerman
from tillerman.core.errors import FitError
from tillerman.data.loading import LoadedData
from tillerman.logs.cards import evaluation_on
from tillerman.logs.forecast import EffectForecast
from tillerman.pipeline.effect_forecast import DRAWS, MOST, effect_forecast
from tillerman.pipeline.presets import quick
from tillerman.reports.effect_forecast import forecast_findings

from .. import planted

ASKED = tillerman.Experiment(shares=(0.4, 0.2, 0.4))


@pytest.fixture(scope="module")
def pilot() -> tillerman.OpenModel:
    return tillerman.open_model("pilot")


@pytest.fixture(scope="module")
def science(pilot: tillerman.OpenModel) -> EffectForecast:
    return effect_forecast(ASKED, pilot, tillerman.load_examples("sample:interest-in-science", limit=120))


def test_a_behaviour_that_the_model_knows_is_foretold_beyond_shuffled_labels(science: EffectForecast) -> None:
    assert science.best.figures.auc_within is not None and science.best.figures.auc_within > 0.9
    assert science.reached == 0 and science.draws == DRAWS
    assert forecast_findings(science)[0].level == "ok"


def test_every_layer_and_reading_is_looked_at(pilot: tillerman.OpenModel, science: EffectForecast) -> None:
    layers = {one.hook_point for one in science.places}
    assert len(layers) == len(pilot.parts.blocks)
    assert science.looked_at == len(science.places) == len(layers) * len({one.read for one in science.places})
    assert science.best in science.places


@pytest.mark.slow
def test_labels_by_coin_are_not_foretold(pilot: tillerman.OpenModel) -> None:
    found = [effect_forecast(ASKED, pilot, planted.coins(seed, 120)) for seed in range(3)]
    assert sum(one.reached > 0 for one in found) >= 2
    assert {forecast_findings(one)[0].level for one in found if one.reached} == {"warning"}


def test_only_training_pairs_are_read(pilot: tillerman.OpenModel) -> None:
    """The same forecast, whatever the labels of validation and test items are."""
    data = planted.signed(1, 100)
    split = tillerman.pipeline.shares.split_items(ASKED, data)
    train = {example.id for example in split.train}
    turned = [e if e.id in train else replace(e, answer=1 - e.answer) for e in data.examples]
    first = effect_forecast(ASKED, pilot, data)
    assert effect_forecast(ASKED, pilot, replace(data, examples=tuple(turned))) == first


def test_many_pairs_are_cut_and_few_have_none(pilot: tillerman.OpenModel) -> None:
    few = tillerman.Experiment(layers=(2,), read="usual")
    assert effect_forecast(few, pilot, planted.signed(1, 400)).n == MOST
    with pytest.raises(FitError, match="a forecast needs at least 10"):
        effect_forecast(few, pilot, planted.signed(1, 11))


@pytest.mark.slow
def test_a_fit_keeps_its_forecast_for_later_and_the_card_only_the_best_place() -> None:
    data: LoadedData = planted.signed(1, 60)
    fitted = tillerman.fit(planted.SMALL, planted.teller(), data)
    log = fitted.log
    assert log.forecast is not None and len(log.forecast.places) == 2
    assert tillerman.EvaluationLog.from_json(log.to_json()) == log
    card = fitted.artefact.card
    assert card is not None and evaluation_on(card).forecast == log.forecast.for_card()
    assert tillerman.fit(quick(planted.SMALL), planted.teller(), data).log.forecast is None
