"""``check`` shows items as they are asked, as text and as a model sees them."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from tillerman.cli.app import app
from tillerman.pipeline.experiment import Experiment
from tillerman.pipeline.first_look import MOST, first_look

from .. import planted


def asked(*options: str) -> dict:
    result = CliRunner().invoke(app, ["check", "sample:interest-in-science", "--limit", "40", "--json", *options])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_without_a_model_three_items_are_shown_as_text() -> None:
    found = asked()
    assert len(found["shown"]) == 3 and found["unsteered"] is None
    assert all(set(item["options"]) == {"Yes", "No"} and not item["answers"] for item in found["shown"])


def test_with_a_model_they_are_shown_as_it_sees_them_with_what_it_says() -> None:
    found = asked("--model", "pilot")
    for item in found["shown"]:
        assert item["question"].startswith("<|bos|><|user|>") and item["question"].endswith("<|assistant|>")
        assert item["answers"][0]["given"] in ("Yes", "No")
    assert {"answer-bias", "discrimination"} <= {finding["check"] for finding in found["findings"]}
    assert found["unsteered"]["n"] > 20 and "items" not in found["unsteered"]


def test_with_a_model_it_says_what_the_pairs_foretell() -> None:
    found = asked("--model", "pilot")
    assert asked()["forecast"] is None
    assert found["forecast"]["n"] > 20 and found["forecast"]["best"]["figures"]["auc_within"] > 0.5
    assert [one["level"] for one in found["findings"] if one["check"] == "forecast"] in (["ok"], ["warning"])
    shown = CliRunner().invoke(app, ["check", "sample:interest-in-science", "--limit", "40", "-m", "pilot"]).stdout
    assert "Will it work?" in shown and "shuffled, highest" in shown


def test_open_questions_have_no_forecast_and_it_says_why() -> None:
    result = CliRunner().invoke(app, ["check", "sample:sums", "--limit", "40", "--json", "--model", "pilot"])
    found = json.loads(result.stdout)
    (said,) = [one for one in found["findings"] if one["check"] == "forecast"]
    assert said["level"] == "note" and "an open question has one answer" in said["message"] and not found["forecast"]


@pytest.mark.slow
def test_options_of_the_prompt_reach_what_is_shown() -> None:
    found = asked("--model", "pilot", "--as-choice", "--system", "Be brief.")
    assert all("Be brief." in item["question"] and "A: " in item["question"] for item in found["shown"])


def test_the_page_of_the_terminal_has_the_items() -> None:
    shown = CliRunner().invoke(app, ["check", "sample:interest-in-science", "--limit", "40"]).stdout
    assert shown.count("as plain text") == 3 and "options: " in shown


def test_a_lopsided_model_is_found_and_calibration_takes_it_away() -> None:
    data, opened = planted.signed(1, 120), planted.teller()
    lopsided, mended = (first_look(Experiment(calibrate=on), opened, data) for on in (False, True))
    assert lopsided.unsteered is not None and mended.unsteered is not None
    assert lopsided.unsteered.rates["No"] > 0.9 and mended.unsteered.rates["No"] < 0.7
    assert mended.unsteered.auc == lopsided.unsteered.auc


def test_the_test_items_are_not_looked_at_and_many_are_cut() -> None:
    data = planted.signed(1, 400)
    found = first_look(Experiment(shares=(0.6, 0.2, 0.2)), planted.teller(), data)
    assert found.n == MOST
    assert first_look(Experiment(), planted.teller(), planted.signed(1, 50)).n < 50
