"""Methods side by side: the same items for all, the numbers of each alone, at equal cost, over interruptions."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

import tillerman
from tillerman.core.artefact import save
from tillerman.core.errors import FitError, UnknownNameError, UsageError
from tillerman.methods.registry import METHODS
from tillerman.methods.sae.base import SaeMethod
from tillerman.pipeline.compare import _steering_cell, compare_key, digest_of_test
from tillerman.pipeline.run import Unwatched
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.side_effects import make_meter

pytestmark = pytest.mark.slow  # a fit or a device that is pretended, in most of them

SMALL = tillerman.Experiment(
    max_kl=None,
    max_perplexity_ratio=None,
    method="caa",
    max_train=40,
    max_validation=16,
    max_test=16,
    null_draws=2,
    layers=(2, 4),
    doses=(0.1, 0.4),
    neutral="sample:tinystories",
    neutral_tokens=256,
    unrelated_items=4,
    shots=2,
    generations=(),
)
SPECS = {"alphasteer": "alphasteer:benign=sample:wikitext"}  # the other text measures the side effects
EVERY = tuple(f"{n}:sae=pilot" if issubclass(kind, SaeMethod) else SPECS.get(n, n) for n, kind in METHODS.items())
PILOT_SAE = replace(SMALL, method="sta:sae=pilot", layers=None)


@pytest.fixture(scope="module")
def pilot():
    return tillerman.open_model("pilot")


@pytest.fixture(scope="module")
def data():
    return tillerman.load_examples("sample:interest-in-science", limit=200)


@pytest.fixture(scope="module")
def comparison(pilot, data):
    return tillerman.compare(tillerman.Lineup(("caa", "ipas-wrong", "ablation"), SMALL, equal_kl=0.05), pilot, data)


@settings(max_examples=6)
@given(seed=st.integers(0, 100), most=st.integers(4, 30))
def test_all_methods_are_tested_on_the_same_items(pilot, data, seed, most):
    lineup = tillerman.Lineup(
        EVERY,
        replace(PILOT_SAE, seed=seed, max_test=most),
    )
    benches = [set_up(e, pilot, data, tillerman.Store(None, ""), Unwatched()) for e in lineup.experiments.values()]
    shares = [[tuple(i.example.id for i in exam.items) for exam in (b.train, b.validation, b.test)] for b in benches]
    assert shares == [shares[0]] * len(METHODS)
    assert len({digest_of_test(bench) for bench in benches}) == 1
    other = replace(lineup.experiments["caa"], seed=seed + 1)
    assert digest_of_test(set_up(other, pilot, data, tillerman.Store(None, ""), Unwatched())) != digest_of_test(
        benches[0]
    )


@pytest.mark.parametrize("method", ["caa", "ipas-wrong", "ablation"])
def test_the_numbers_are_those_of_the_method_alone(comparison, pilot, data, tmp_path, method):
    alone = tillerman.fit(replace(SMALL, method=method), pilot, data)
    row, log = comparison.method(method), alone.log
    assert (row.fitted, row.hook_point, row.strength, row.scope) == (
        log.method,
        log.hook_point,
        log.strength,
        log.scope,
    )
    assert (row.rate, row.effect, row.side_effects) == (log.condition("steered").rate, log.effect, log.side_effects)
    assert row.nulls == tuple(c for c in log.conditions if c.name.startswith("null:"))
    told = [replace(c, lead=None) for c in log.conditions if c.name in ("unsteered", "prompt", "icl")]
    assert comparison.baselines == tuple(told)
    save(tmp_path / "v.safetensors", replace(alone.artefact, card=None))
    size = (tmp_path / "v.safetensors").stat().st_size
    assert row.cost.artefact_bytes == pytest.approx(size, abs=256)  # the digits of its numbers, its name, the date


def test_every_row_says_what_it_costs(comparison):
    for row in comparison.methods:
        assert row.cost.fit_seconds > 0
        low, high = row.cost.time_ratio_interval.low, row.cost.time_ratio_interval.high
        if row.strength:
            assert 0 < low <= row.cost.time_ratio <= high
        else:
            assert (low, row.cost.time_ratio, high) == (1, 1, 1)


def test_at_equal_cost_every_method_meets_the_budget(comparison, pilot, data):
    bench = set_up(SMALL, pilot, data, tillerman.Store(None, ""), Unwatched())
    assert comparison.equal_kl == 0.05
    for row in comparison.methods:
        at = row.at_budget
        assert at.reached
        assert at.kl == pytest.approx(0.05, rel=0.05)
        assert at.rate.n == len(bench.test.items)
        assert at.effect.value == pytest.approx(at.rate.value - comparison.baselines[0].rate.value)
        if row.strength:
            assert at.strength * row.strength > 0
    (plan,) = tillerman.fit(SMALL, pilot, data).artefact.plan(comparison.method("caa").at_budget.strength)
    assert make_meter(bench).measure((plan,)).kl == pytest.approx(0.05, rel=0.05)


def test_a_budget_out_of_reach_is_said_to_be_so(pilot, data):
    lineup = tillerman.Lineup(("ablation",), replace(SMALL, layers=(2,)), equal_kl=1e9)
    at = tillerman.compare(lineup, pilot, data).method("ablation").at_budget
    assert not at.reached
    assert at.kl < 1e9


def test_where_the_search_abstains_nothing_is_added_and_the_best_cell_that_steers_meets_the_budget(pilot, data):
    lineup = tillerman.Lineup(("caa",), replace(SMALL, max_kl=0.0), equal_kl=0.05)
    row = tillerman.compare(lineup, pilot, data).method("caa")
    assert row.strength == 0
    assert (row.cost.time_ratio, row.effect.value) == (1, 0)
    assert row.at_budget.reached
    assert row.at_budget.strength != 0


def test_the_p_values_are_adjusted_for_the_number_of_methods(comparison):
    raw = [row.effect.p_value for row in comparison.methods]
    assert min(row.p_holm for row in comparison.methods) == pytest.approx(min(1, len(raw) * min(raw)))
    assert all(row.p_holm >= row.effect.p_value for row in comparison.methods)


def test_a_method_that_cannot_be_fed_is_left_out_with_its_reason(pilot, data):
    lineup = tillerman.Lineup(
        ("caa", "sta:sae=pilot"), replace(PILOT_SAE, layers=(2,))
    )  # the autoencoder reads layer 3
    made = tillerman.compare(lineup, pilot, data)
    assert [row.method for row in made.methods] == ["caa"]
    (out,) = made.left_out
    assert out.method == "sta:sae=pilot"
    assert "layer 3" in out.reason


def test_if_no_method_is_left_that_is_one_error(pilot, data):
    with pytest.raises(FitError, match=r"no method can be fitted: caa: .*layers 0\.\.7.*; ablation: "):
        tillerman.compare(tillerman.Lineup(("caa", "ablation"), replace(SMALL, layers=(99,))), pilot, data)


class Interrupted(Exception):
    pass


class Stopping(Unwatched):
    """Stops a run when it comes to a piece of work; else counts its pieces."""

    def __init__(self, at=None):
        self.at, self.stages = at, []

    def stage(self, title, total):
        self.stages.append(title)
        if self.at is not None and title.startswith(self.at):
            raise Interrupted
        return super().stage(title, total)


def test_an_interrupted_comparison_goes_on_and_gives_the_same_numbers(comparison, pilot, data, tmp_path):
    lineup = tillerman.Lineup(("caa", "ipas-wrong", "ablation"), SMALL, equal_kl=0.05)
    key = compare_key(lineup, pilot, data)
    with pytest.raises(Interrupted):
        store = tillerman.Store(tmp_path / "run", key)
        tillerman.compare(lineup, pilot, data, store=store, watch=Stopping("equal KL, ipas"))
    store.close(finished=False)
    again, watch = tillerman.Store(tmp_path / "run", key), Stopping()
    made = tillerman.compare(lineup, pilot, data, store=again, watch=watch)
    assert again.resumed > 0
    assert not any("caa" in title for title in watch.stages)
    for one, other in zip(made.methods, comparison.methods, strict=True):
        assert replace(one, cost=other.cost) == other


def _kept(folder):
    """What a store's folder holds by key; how long the search of a prompt took is left out."""
    lines = [json.loads(line) for line in (folder / "values.jsonl").read_text().splitlines() if line]
    return {key: value["tried"] if key.startswith("prompts ") else value for key, value, *_ in lines}


def test_methods_of_one_store_do_not_take_each_others_answers_and_share_what_is_common(pilot, data, tmp_path):
    small = replace(SMALL, layers=None, doses=(0.4,))
    lineup = tillerman.Lineup(("ipas-wrong", "ipas-wrong+pca", "ipas-wrong+probe"), small)
    made = tillerman.compare(lineup, pilot, data, store=tillerman.Store(tmp_path / "run", "key"))
    alone = []
    for name in lineup.methods:
        store = tillerman.Store(tmp_path / name, "key")
        log = tillerman.fit(replace(small, method=name), pilot, data, store=store).log
        assert made.method(name).effect == log.effect
        assert made.method(name).nulls == tuple(c for c in log.conditions if "null" in c.name)
        alone.append(_kept(tmp_path / name))
    together, shared = _kept(tmp_path / "run"), set.intersection(*map(set, alone))
    assert all(together[key] == value for of_one in alone for key, value in of_one.items())
    # Made once for all: the unsteered answers to the training items, the search of a prompt, and what is answered
    # under the prompt and under the examples.
    kinds = Counter(key.split()[0] for key in shared)
    assert kinds["given"] == kinds["prompts"] == 1 and kinds["scores"] >= 2
    assert len(together) < sum(map(len, alone)) - len(shared)
    # pca and probe want rows of the same texts and read them once; the mean difference wants means.
    read = list((tmp_path / "run").glob("*activations*"))
    assert len(read) == 2
    assert max(len(path.name) for path in read) < 100  # however many layers: file systems stop at 255


def test_the_key_of_a_store_leaves_out_which_methods_are_compared(pilot, data):
    key = compare_key(tillerman.Lineup(("caa",), SMALL), pilot, data)
    assert key == compare_key(tillerman.Lineup(("caa", "ablation"), SMALL, 0.05), pilot, data)
    assert key != compare_key(tillerman.Lineup(("caa",), replace(SMALL, seed=1)), pilot, data)


def test_a_lineup_that_says_nothing_sensible_is_an_error():
    for methods in ((), ("",), (" ", "")):
        with pytest.raises(UsageError, match="at least one method"):
            tillerman.Lineup(methods, SMALL)
    for budget in (0.0, -0.1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="`equal_kl`"):
            tillerman.Lineup(("caa",), SMALL, budget)
    with pytest.raises(UnknownNameError, match="Did you mean 'caa'"):
        tillerman.Lineup(("caa", "caaa"), SMALL)
    assert tillerman.Lineup((" caa", "caa ", "pas"), SMALL).methods == ("caa", "pas")


def test_the_cell_that_meets_the_budget_is_one_of_the_vector_that_the_artefact_holds(pilot, data) -> None:
    outcome = tillerman.fit(replace(SMALL, method="caa", read="usual", layers=(2, 3), zero=False), pilot, data)
    cell, log = outcome.artefact.cell, outcome.log
    mine = [one for one in log.cells if one.strength]
    others = [  # as good as can be, by vectors that the artefact does not hold
        replace(mine[0], hook_point="layers.2-3.resid_post", score=1.0),
        replace(mine[0], read="mean", score=1.0),
    ]
    none = replace(mine[0], hook_point=str(cell.points[0]), strength=0.0, dose=0.0)
    abstained = replace(
        outcome,
        artefact=replace(outcome.artefact, cell=cell.at(0.0), card=None),
        log=replace(log, strength=0.0, cells=(none, *others, *mine)),
    )
    found = _steering_cell(abstained)
    assert len(found.points) == 1
    best = max(mine, key=lambda one: (one.score, -abs(one.dose)))
    assert (str(found.points[0]), found.strength) == (best.hook_point, best.strength)


def test_methods_are_compared_by_what_they_write_where_that_is_the_objective() -> None:
    plain = tillerman.Lineup(("caa",), tillerman.Experiment())
    by_writing = tillerman.Lineup(("caa",), tillerman.Experiment(objective="written"))
    assert plain.experiment.written_prompts == 0  # a comparison has no row for it
    assert by_writing.experiment.written_prompts == 32
