"""The page of the forecast says what the committed measurements say, and a forecast never sees what it foretells."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from tillerman.logs.forecast import EffectForecast, PlaceForecast
from tillerman.statistics.pair_differences import PairFigures
from tillerman.statistics.values import Effect, Interval, MeanEffect

TOOLS = Path(__file__).parents[2] / "tools" / "forecast"
NAMES = ("page", "foretelling", "measured", "tables", "measure")  # of other tools too


@pytest.fixture(scope="module", autouse=True)
def tools():
    kept = {name: sys.modules.pop(name) for name in NAMES if name in sys.modules}
    sys.path.insert(0, str(TOOLS))
    yield
    sys.path.remove(str(TOOLS))
    for name in NAMES:
        sys.modules.pop(name, None)
    sys.modules.update(kept)


def measured(k: int, area: float, change: float):
    module = importlib.import_module("measured")
    figures = PairFigures(0.0, area, 1.0, 0.9, 0.5, area, 0.1)
    best = PlaceForecast("layers.3.resid_post", "mean", figures, Interval(-0.1, 0.1), Interval(0.4, 0.6))
    foretold = EffectForecast(40, best, figures, figures, 19, 0, 1, (best,))
    moved = MeanEffect(change, Interval(change - 0.1, change + 0.1), 0.01, 40)
    nulls = {"random": (0.0, 0.15), "shuffled": (0.05, -0.3)}
    accuracy = Effect(0.0, Interval(-0.1, 0.1), 1.0, 40, 0.0)
    outcome = module.Outcome("layers.3.resid_post", 0.2, moved, accuracy, 0.3, change, 0.3, moved, nulls)
    return module.Measured("pilot", f"b{k}", "yes_no", (40, 20, 40), 1.0, 0.5, 0.5, 0.6, foretold, outcome)


@pytest.mark.slow
def test_page_and_record_are_as_the_committed_measurements_make_them() -> None:
    page = importlib.import_module("page")
    for path, made in page.made().items():
        assert path.read_text(encoding="utf-8") == made, f"stale: {path}; run python tools/forecast/page.py"


def test_an_effect_is_beyond_nulls_only_where_it_is_found_and_above_every_draw() -> None:
    assert measured(0, 0.9, 0.3).outcome.beyond_nulls
    assert not measured(0, 0.9, 0.12).outcome.beyond_nulls  # found, and a random direction does more
    assert not measured(0, 0.9, 0.05).outcome.beyond_nulls


def test_a_figure_that_orders_effects_is_found_and_one_that_does_not_is_not() -> None:
    foretelling = importlib.import_module("foretelling")
    many = [measured(k, 0.5 + k / 60, 0.02 * (k - 8) + 0.1 * (k % 3)) for k in range(30)]
    found = foretelling.pairs(many, "AUC within answers")
    assert foretelling.correlation(found, "change of log-odds").interval.low > 0.7
    out = foretelling.left_out(found)
    assert out.brier < out.brier_of_rate
    assert [count for _, _, count in out.bins()] == [10, 10, 10]
    record = foretelling.record_of("pilot", many)
    assert record.foretells and record.n == 30
    assert record.chance(0.5) < 0.2 < 0.8 < record.chance(0.99) == record.chance(2.0)


def test_a_behaviour_is_foretold_from_the_others_alone() -> None:
    """Turning what came of one behaviour changes all chances but its own."""
    foretelling = importlib.import_module("foretelling")
    many = [measured(k, 0.5 + k / 60, 0.4 if k % 2 else 0.0) for k in range(20)]
    turned = [measured(7, 0.5 + 7 / 60, 0.0) if k == 7 else one for k, one in enumerate(many)]
    first, second = (foretelling.left_out(foretelling.pairs(m, "AUC")).foretold for m in (many, turned))
    changed = [a != b for a, b in zip(first, second, strict=True)]
    assert not changed[7] and sum(changed) == 19


def test_by_chance_a_forecast_is_no_better_than_the_share() -> None:
    foretelling = importlib.import_module("foretelling")
    random = np.random.default_rng(0)
    worse = 0
    for _ in range(10):
        many = [measured(k, float(random.uniform(0.5, 1)), float(random.integers(2))) for k in range(30)]
        out = foretelling.left_out(foretelling.pairs(many, "AUC"))
        worse += out.brier > out.brier_of_rate
    assert worse >= 6


def test_few_behaviours_make_no_record() -> None:
    foretelling = importlib.import_module("foretelling")
    assert foretelling.record_of("pilot", [measured(k, 0.5 + k / 60, 0.4 * (k % 2)) for k in range(8)]) is None
    assert foretelling.record_of("pilot", [measured(k, 0.5 + k / 60, 0.0) for k in range(30)]) is None


def test_measurements_are_read_back_as_they_were_packed(tmp_path: Path) -> None:
    module = importlib.import_module("measured")
    many = [measured(k, 0.75, 0.25) for k in range(3)]
    module.pack(tmp_path / "one.json.gz", many)
    assert module.unpack(tmp_path / "one.json.gz") == many
    module.write(tmp_path, many[0])
    assert module.read(tmp_path) == many[:1]
