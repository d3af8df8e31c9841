"""Claims that a run decides stand in the table; the others are folded, with what the run could have shown."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tillerman.logs.reproduction import ClaimVerdict, Measured, Piece, ReproductionLog
from tillerman.recipes.claims import shown_power, sorted_claims
from tillerman.recipes.parse import read_recipe
from tillerman.recipes.power import least_shown
from tillerman.recipes.report import to_markdown
from tillerman.recipes.verdicts import HOLDS, UNDECIDED, outcome, verdicts_on
from tillerman.statistics.estimates import t_interval
from tillerman.statistics.values import NO_INTERVAL, Interval

RECIPE, _ = read_recipe(Path(__file__).parent / "small.toml")
CLAIMS = {claim.name: claim for claim in RECIPE.claims}


def verdict(low, high, n=8, unit="task", metric="effect"):
    return ClaimVerdict("it-works", "fits", UNDECIDED, "", metric, (low + high) / 2, Interval(low, high), n, unit)


@pytest.mark.parametrize(("expect", "truth_is"), [("above", 1.0), ("below", -1.0), ("within", 0.0)])
def test_four_of_five_runs_show_what_the_power_says(expect, truth_is):
    claim = replace(CLAIMS["it-works"], expect=expect, margin=0.02)
    rng, spread, tasks = np.random.default_rng(0), 0.1, 8
    half = 2.3646 * spread / tasks**0.5  # t(7)
    least = least_shown(claim, verdict(-half, half, tasks))
    asked = replace(claim, margin=least) if expect == "within" else claim
    shown = []
    for _ in range(300):
        values = rng.normal(truth_is * least, spread, tasks).tolist()
        shown.append(outcome(expect, asked.margin, t_interval(values)[1]) == HOLDS)
    assert np.mean(shown) == pytest.approx(0.8, abs=0.06)


def test_power_is_said_on_the_side_and_in_the_unit_of_the_claim():
    claim, found = CLAIMS["it-works"], verdict(-0.1, 0.1, 100, "item")
    assert shown_power(claim, found) == "+14.3 pp or more"
    assert shown_power(replace(claim, expect="below"), found) == "\u221214.3 pp or less"
    assert shown_power(replace(claim, expect="within", margin=0.03), found) == "no change, to within 16.5 pp"
    ratio = verdict(0.5, 2.0, 100, "item", "perplexity_ratio")
    assert float(shown_power(claim, ratio).split()[1]) == pytest.approx(math.exp(math.log(2) * 2.8016 / 1.96), abs=0.01)


def test_a_spread_that_no_change_of_a_share_could_overcome_has_no_power():
    assert shown_power(CLAIMS["it-works"], verdict(-0.95, 0.95, 2)) == "none"


def test_without_an_interval_there_is_no_power():
    assert least_shown(CLAIMS["it-works"], replace(verdict(0, 1), interval=NO_INTERVAL)) is None
    assert least_shown(CLAIMS["it-works"], verdict(0.2, 0.2)) is None
    assert shown_power(CLAIMS["it-works"], replace(verdict(0, 1), interval=None)) == ""


def log_of(effects):
    """Of one arm, seed by seed; both tasks alike."""
    pieces = tuple(
        Piece("fits", task, "CAA", seed, {"effect": Measured(e, e - 0.05, e + 0.05, 100)})
        for seed, e in enumerate(effects)
        for task in ("science", "art")
    )
    verdicts = verdicts_on(RECIPE, pieces, ())
    return ReproductionLog("small", "", 60, (), pieces, (), (), verdicts, {}, "2026-11-29", 60.0)


def test_what_one_of_two_models_decides_stands_in_the_table_with_both():
    unsure, sure = log_of([-0.01, 0.11]), log_of([0.30, 0.31])
    decided, rest = sorted_claims(RECIPE, {"pilot": unsure, "large": sure})
    (row,) = decided.rows
    assert decided.head == ("claim", "source", "tested with", "pilot", "large")
    assert row[0] == "It works."
    assert row[3].startswith("undecided: +5.0 (")
    assert "; power: +" in row[3]
    assert row[4].startswith("holds: +30.5 (")
    assert len(rest.rows) == len(sure.verdicts) - 1
    assert next(r for r in rest.rows if r[0] == "Strength 3 does more than -3.")[3:] == ("not run", "not run")


def test_what_no_run_decides_is_folded_but_not_left_out():
    page = to_markdown(RECIPE, log_of([-0.2, 0.3]))
    before, _, folded = page.partition("<details>")
    assert "None is decided." in before
    for claim in RECIPE.claims:
        assert f"| {claim.words} |" in folded
