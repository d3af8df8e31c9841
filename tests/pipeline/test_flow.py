"""The main job end to end on the embedded model, small."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tillerman
from tillerman.core.budget import MAX_KL, MAX_PERPLEXITY_RATIO
from tillerman.core.finding import Finding
from tillerman.data.loading import LoadedData
from tillerman.pipeline.presets import PAS_STRENGTHS, as_dear_as_fitted
from tillerman.pipeline.run import Unwatched
from tillerman.pipeline.search import NULLS, choose, choose_nulls, null_vectors
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.side_effects import make_meter
from tillerman.reports.sentences import range_words

SMALL = tillerman.Experiment(
    max_kl=None,
    max_perplexity_ratio=None,
    method="caa",
    read="usual",
    max_train=40,
    max_validation=30,
    max_test=30,
    layers=(2, 4),
    doses=(0.25, 1.0),
    neutral="sample:tinystories",
    neutral_tokens=512,
    unrelated_items=10,
    shots=3,
    generations=("Tell me a story.",),
    generation_tokens=5,
)
KEYS = {
    "method",
    "hook_point",
    "strength",
    "dose",
    "n_train",
    "n_validation",
    "n_test",
    "unsteered",
    "steered",
    "effect",
    "interval",
    "p_value",
    "prompt_baseline",
    "prompt_and_steered",
    "icl_baseline",
    "nulls",
    "perplexity_ratio",
    "kl",
    "cells_compared",
    "seconds",
}
COMMAND = [
    sys.executable,
    "-c",
    "from tillerman.cli.app import main; main()",
    "fit",
    "sample:agreeableness",
    "--limit",
    "150",
    "--method",
    "caa,pas-full",
    "--layers",
    "1-5",
    "--doses",
    "0.25,0.5,1",
    "--neutral",
    "sample:tinystories",
    "--json",
]


@pytest.fixture(scope="module")
def pilot() -> tillerman.OpenModel:
    return tillerman.open_model("pilot")


@pytest.fixture(scope="module")
def science() -> LoadedData:
    return tillerman.load_examples("sample:interest-in-science")


@pytest.fixture(scope="module")
def outcome(pilot: tillerman.OpenModel, science: LoadedData) -> tillerman.Outcome:
    return tillerman.fit(SMALL, pilot, science)


def test_a_fit_gives_every_condition_on_the_same_items(outcome: tillerman.Outcome) -> None:
    names = [c.name for c in outcome.log.conditions]
    assert names == ["unsteered", "steered", "constant", "prompt", "both", "icl", "null:random", "null:shuffled"]
    assert {c.rate.n for c in outcome.log.conditions} == {outcome.log.n_test} == {30}
    assert outcome.log.cells_compared == len(outcome.log.cells) == 1 + 2 * 2


def test_the_chosen_cell_has_the_best_validation_score(outcome: tillerman.Outcome) -> None:
    best = max(cell.score for cell in outcome.log.cells)
    chosen = [
        c for c in outcome.log.cells if (c.hook_point, c.strength) == (outcome.log.hook_point, outcome.log.strength)
    ]
    if outcome.log.strength == 0:
        chosen = [c for c in outcome.log.cells if c.strength == 0]
    assert chosen[0].score == best


def test_fit_validation_and_test_items_never_mix(pilot: tillerman.OpenModel, science: LoadedData) -> None:
    bench = set_up(SMALL, pilot, science, tillerman.Store(None, ""), Unwatched())
    shares = [{item.example.id for item in exam.items} for exam in (bench.train, bench.validation, bench.test)]
    assert [len(share) for share in shares] == [40, 30, 30]
    assert len(set.union(*shares)) == 100


@pytest.mark.slow
def test_the_same_fit_twice_gives_the_same_numbers(
    outcome: tillerman.Outcome, pilot: tillerman.OpenModel, science: LoadedData
) -> None:
    again = tillerman.fit(SMALL, pilot, science)
    first = replace(outcome.log, seconds=0.0, seconds_to_choose=None, seconds_for_prompt=None, provenance={})
    assert replace(again.log, seconds=0.0, seconds_to_choose=None, seconds_for_prompt=None, provenance={}) == first
    for point in outcome.artefact.steering.points:
        assert torch.equal(again.artefact.steering.directions[point], outcome.artefact.steering.directions[point])


def test_the_card_travels_with_the_file_and_its_plan_steers(
    outcome: tillerman.Outcome, pilot: tillerman.OpenModel, tmp_path: Path
) -> None:
    tillerman.save(tmp_path / "v.safetensors", outcome.artefact)
    loaded = tillerman.load(tmp_path / "v.safetensors")
    assert loaded.card is not None
    assert tillerman.EvaluationLog.from_json(dict(loaded.card.report)) == tillerman.EvaluationLog.from_json(
        outcome.log.for_card()
    )
    opening = pilot.tokenizer.convert_tokens_to_ids("<|assistant|>")
    with tillerman.steer(pilot.model, loaded.plan(strength=1.0)) as steered:
        pilot.model(input_ids=torch.tensor([[1, opening, 100, 101]]))
    assert steered.receipt.applied[0].tokens == {outcome.log.hook_point: 3}  # from what opens the answer on


@pytest.mark.slow
def test_evaluating_the_artefact_on_its_own_data_repeats_the_test_figures(
    outcome: tillerman.Outcome, pilot: tillerman.OpenModel, science: LoadedData
) -> None:
    artefact = outcome.artefact
    moved = replace(artefact, cell=artefact.cell.at(2.0))
    log = tillerman.evaluate(moved, SMALL, pilot, science)
    assert log.condition("unsteered") == outcome.log.condition("unsteered")
    assert log.condition("prompt") == replace(outcome.log.condition("prompt"), lead=log.condition("prompt").lead)
    assert log.strength == 2.0
    assert [c.name for c in log.conditions if c.name.startswith("null")] == ["null:random"]


@pytest.mark.slow
def test_a_search_keeps_to_a_budget_unless_it_is_lifted(pilot: tillerman.OpenModel, science: LoadedData) -> None:
    usual = {"kl": MAX_KL, "perplexity_ratio": MAX_PERPLEXITY_RATIO}
    assert tillerman.Experiment().constraints == usual
    grid = replace(SMALL, layers=(3,), doses=(0.05, 0.1, 0.3, 1.0), max_validation=60)
    within = tillerman.fit(replace(grid, max_kl=MAX_KL, max_perplexity_ratio=MAX_PERPLEXITY_RATIO), pilot, science).log
    lifted = tillerman.fit(grid, pilot, science).log
    assert within.constraints == usual and lifted.constraints == {}
    assert 0 < within.dose <= 0.1 < lifted.dose
    assert within.side_effects.kl <= MAX_KL < lifted.side_effects.kl
    assert within.side_effects.perplexity_ratio <= MAX_PERPLEXITY_RATIO < lifted.side_effects.perplexity_ratio


@pytest.mark.slow
def test_a_dose_is_recommended_with_the_range_that_works(pilot: tillerman.OpenModel, science: LoadedData) -> None:
    grid = replace(SMALL, layers=(3,), doses=(0.01, 0.1, 0.2, 0.3), max_train=200, max_validation=100)
    outcome = tillerman.fit(grid, pilot, science)
    found = outcome.log.dose_range
    assert found is not None
    assert 0.01 < found.low < found.best == outcome.log.dose
    assert found.high in (pytest.approx(0.2), pytest.approx(0.3))
    assert tillerman.fit(replace(grid, max_kl=0.0), pilot, science).log.dose_range is None
    assert "work (on validation items)" in range_words(outcome.log)


@pytest.mark.slow
def test_with_no_side_effect_allowed_the_search_abstains(pilot: tillerman.OpenModel, science: LoadedData) -> None:
    log = tillerman.fit(replace(SMALL, max_kl=0.0), pilot, science).log
    assert log.strength == 0
    assert log.effect.value == 0
    assert not log.effect.found
    assert log.side_effects.kl == 0
    assert any(not cell.admissible for cell in log.cells) or max(c.score for c in log.cells) == log.cells[0].score


@pytest.mark.slow
def test_the_nulls_may_not_abstain_and_keep_their_scale(pilot: tillerman.OpenModel, science: LoadedData) -> None:
    bench = set_up(SMALL, pilot, science, tillerman.Store(None, ""), Unwatched())
    chosen = choose(bench, make_meter(bench))
    real = chosen.fitted.vector
    for null in NULLS:
        draws = null_vectors(bench, null, chosen)
        assert len(draws) == SMALL.null_draws
        cell = choose_nulls(bench, {null: draws[0]}, chosen)[null]
        assert cell.strength != 0
        point = cell.points[0]
        if null == "random":
            assert [draw.norm(point) for draw in draws] == pytest.approx([real.norm(point)] * len(draws), rel=1e-4)
        else:
            allowed = [real.strength(point, dose) for dose in SMALL.doses or ()]
            assert any(cell.strength == pytest.approx(s) for s in allowed)


@pytest.mark.slow
def test_no_two_draws_of_a_null_are_the_same(pilot: tillerman.OpenModel, science: LoadedData) -> None:
    bench = set_up(SMALL, pilot, science, tillerman.Store(None, ""), Unwatched())
    chosen = choose(bench, make_meter(bench))
    for null in NULLS:
        rows = [draw.directions[draw.points[0]] for draw in null_vectors(bench, null, chosen)]
        assert all(not torch.equal(a, b) for i, a in enumerate(rows) for b in rows[:i]), null


@pytest.mark.slow
def test_a_null_and_its_vector_need_not_be_fitted_at_the_same_hook_points(
    pilot: tillerman.OpenModel, science: LoadedData
) -> None:
    """Some estimators find nothing at a layer under one dealing of the labels and something under another."""
    bench = set_up(SMALL, pilot, science, tillerman.Store(None, ""), Unwatched())
    chosen = choose(bench, make_meter(bench))
    here = chosen.cell.points
    (elsewhere,) = set(chosen.fitted.vector.points) - set(here)
    everywhere = chosen.fitted.shuffled
    narrow = replace(chosen, fitted=replace(chosen.fitted, vector=chosen.fitted.vector.at(here)))
    draws = null_vectors(bench, "shuffled", narrow)
    assert choose_nulls(bench, {"shuffled": draws[0]}, narrow)["shuffled"].points == here

    def some(lost: int):
        seeds = bench.experiment.null_seeds[:lost]
        made = replace(
            chosen.fitted, shuffled=lambda s: everywhere(s).at(elsewhere if s in seeds else (*here, elsewhere))
        )
        return null_vectors(bench, "shuffled", replace(chosen, fitted=made))

    assert len(some(1)) == SMALL.null_draws - 1
    with pytest.raises(tillerman.FitError, match="only 1 draws have a vector at layers"):
        some(SMALL.null_draws - 1)


@pytest.mark.slow
def test_an_artefact_is_held_against_the_budget_of_its_own_fit(pilot: tillerman.OpenModel, science: LoadedData) -> None:
    few = replace(
        SMALL, layers=(4,), doses=(0.25,), max_test=8, null_draws=2, neutral_tokens=128, shots=0, generations=()
    )
    made = tillerman.fit(replace(few, max_kl=0.7, max_perplexity_ratio=None), pilot, science).artefact
    usual = replace(few, max_kl="auto", max_perplexity_ratio="auto")
    assert as_dear_as_fitted(usual, made).constraints == {"kl": 0.7}
    assert as_dear_as_fitted(replace(usual, max_kl=0.2), made).constraints["kl"] == 0.2
    assert as_dear_as_fitted(usual, replace(made, card=None)) == usual
    assert tillerman.evaluate(made, usual, pilot, science).constraints == {"kl": 0.7}


def test_the_nulls_share_the_chosen_cell_and_tell_of_their_own_search(outcome: tillerman.Outcome) -> None:
    for name in ("null:random", "null:shuffled"):
        detail = outcome.log.condition(name).detail
        cell = re.match(rf"{SMALL.null_draws} draws at (\S+), strength (\S+);", detail)
        assert cell is not None, detail
        if outcome.log.strength:  # where the search abstained, the null keeps a cell of its own
            assert cell[1] == outcome.log.hook_point
            assert float(cell[2]) == pytest.approx(outcome.log.strength, rel=1e-2)
        assert float(cell[2]) > 0
        searched = outcome.log.effect.found or not outcome.log.strength
        assert ("best of the same grid" in detail, "no search of its own" in detail) == (searched, not searched)


def test_chat_models_are_read_where_the_answers_turn_ends_and_others_at_the_answer(
    pilot: tillerman.OpenModel, science: LoadedData
) -> None:
    def read(**options: str) -> str:
        return set_up(replace(SMALL, **options), pilot, science, tillerman.Store(None, ""), Unwatched()).read

    assert read() == "end"
    assert read(template="none") == "last"
    assert read(read="mean") == "mean"


def test_reading_at_the_end_of_a_turn_needs_a_template_that_ends_one(
    pilot: tillerman.OpenModel, science: LoadedData
) -> None:
    plain = replace(SMALL, read="end", template="none")
    with pytest.raises(tillerman.UsageError, match="use 'last'"):
        tillerman.fit(plain, pilot, science)


@pytest.mark.slow
def test_the_paper_mode_reads_before_the_block_and_adds_after_it(
    pilot: tillerman.OpenModel, science: LoadedData
) -> None:
    paper = tillerman.pas_paper(replace(SMALL, method="ipas-wrong", layers=(3,), generations=()))
    log = tillerman.fit(paper, pilot, science).log
    assert log.provenance["read_site"] == "resid_pre"
    assert log.hook_point == "layers.3.resid_post"
    assert log.scope == "last"
    assert log.provenance["template"] == "none"
    assert [cell.strength for cell in log.cells] == list(PAS_STRENGTHS)


@pytest.mark.slow
def test_several_seeds_give_an_interval_over_seeds(pilot: tillerman.OpenModel, science: LoadedData) -> None:
    log = tillerman.fit_seeds(SMALL, (1, 2, 3), pilot, science).log
    assert log.seeds is not None
    effects = [result.effect for result in log.seeds.seeds]
    assert log.seeds.mean == pytest.approx(sum(effects) / 3)
    assert log.seeds.interval.low <= log.seeds.mean <= log.seeds.interval.high
    assert [result.seed for result in log.seeds.seeds] == [1, 2, 3]


def test_diagnostics_of_the_shown_orders_are_part_of_the_log(outcome: tillerman.Outcome) -> None:
    assert all(isinstance(finding, Finding) for finding in outcome.log.diagnostics)
    assert "error" not in {finding.level for finding in outcome.log.diagnostics}


@pytest.mark.slow
def test_the_json_has_its_stable_keys_and_no_effect_ends_with_exit_code_three(tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, "--max-kl", "0"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    result = json.loads(done.stdout)
    assert result.keys() >= KEYS
    assert result["effect"] == 0
    assert (tmp_path / "agreeableness.safetensors").is_file()
    assert not (tmp_path / "agreeableness.safetensors.partial").exists()


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    expected = subprocess.run(COMMAND, cwd=whole, capture_output=True, text=True, check=False)
    values = killed / "agreeableness.safetensors.partial" / "values.jsonl"
    running = subprocess.Popen(COMMAND, cwd=killed, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (values.exists() and '"answers ' in values.read_text()) and time.monotonic() < deadline:
        time.sleep(0.005)
        assert running.poll() is None, "finished before it could be killed"
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    assert not (killed / "agreeableness.safetensors").exists()
    again = subprocess.run(COMMAND, cwd=killed, capture_output=True, text=True, check=False)
    assert "resuming from" in again.stderr
    results = [json.loads(done.stdout) for done in (expected, again)]
    assert all(done.returncode in (0, 3) for done in (expected, again))
    for result in results:
        del result["seconds"]
    assert results[0] == results[1]
