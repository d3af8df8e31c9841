"""Nested folds: every train and validation item is tested once by a choice that it had no part in."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

import tillerman
from tillerman.data.duplicates import folds_of
from tillerman.data.examples import Example
from tillerman.pipeline import nested
from tillerman.pipeline.run import Run, Unwatched
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.shares import foresee
from tillerman.pipeline.side_effects import make_meter
from tillerman.reports.sentences import nested_words

from .. import planted

NESTED = replace(planted.SMALL, nested=3, zero=False)


def _bench(experiment: tillerman.Experiment = NESTED, store: tillerman.Store | None = None) -> Run:
    data = planted.labelled(5, 150, 0.7)
    return set_up(experiment, planted.speaker(), data, store or tillerman.Store(None, ""), Unwatched())


@pytest.fixture(scope="module")
def log() -> tillerman.EvaluationLog:
    return tillerman.fit(NESTED, planted.speaker(), planted.labelled(5, 150, 0.7)).log


@pytest.mark.slow
def test_each_train_and_validation_item_is_in_one_outer_fold_and_no_test_item_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inner: list[Run] = []
    real = nested._inner
    monkeypatch.setattr(nested, "_inner", lambda *given: inner.append(real(*given)) or inner[-1])
    bench = _bench()
    nested.nested_folds(bench, make_meter(bench), 3)

    def ids(exam: object) -> set[str]:
        return {item.example.id for item in exam.items}  # type: ignore[attr-defined]

    outer = [ids(one.test) for one in inner]
    assert set.union(*outer) == ids(bench.train) | ids(bench.validation)
    assert sum(map(len, outer)) == len(set.union(*outer))
    for one in inner:
        shares = [ids(exam) for exam in (one.train, one.validation, one.test)]
        assert sum(map(len, shares)) == len(set.union(*shares))
        assert not set.union(*shares) & ids(bench.test)
        run = len(bench.validation.items) / len(bench.train.items)
        assert len(shares[1]) / len(shares[0]) == pytest.approx(run, abs=0.15)


def test_the_log_sums_its_folds_up(log: tillerman.EvaluationLog) -> None:
    nested = log.nested
    assert nested is not None
    inside = [f.validation - f.validation_unsteered for f in nested.folds]
    outside = [f.outer - f.outer_unsteered for f in nested.folds]
    assert len(nested.folds) == 3
    assert nested.validation_effect == pytest.approx(np.mean(inside))
    assert nested.outer_effect == pytest.approx(np.mean(outside))
    assert nested.optimism == pytest.approx(nested.validation_effect - nested.outer_effect)
    assert nested.optimism_interval.low < nested.optimism < nested.optimism_interval.high
    assert tillerman.EvaluationLog.from_json(log.to_json()) == log


@pytest.mark.slow
def test_nested_folds_leave_the_run_itself_as_it_is(log: tillerman.EvaluationLog) -> None:
    plain = tillerman.fit(replace(NESTED, nested=None), planted.speaker(), planted.labelled(5, 150, 0.7)).log
    assert plain.nested is None
    assert plain.conditions == log.conditions
    assert plain.cells == log.cells


def test_the_page_and_the_words_say_what_the_choice_kept(log: tillerman.EvaluationLog) -> None:
    assert re.search(r"Selection optimism: .* pp \(.* pp over 3 nested folds\)", nested_words(log))
    page = tillerman.render_report(log)
    assert "All 3 folds" in page
    assert "Selection optimism" not in tillerman.render_report(replace(log, nested=None))


@pytest.mark.slow
def test_finished_folds_are_not_fitted_again(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _bench(store=tillerman.Store(tmp_path / "part", "key"))
    done = nested.nested_folds(first, make_meter(first), 3)
    first.store.close(finished=False)

    def never(*_: object) -> None:
        raise AssertionError("searched again")

    monkeypatch.setattr(nested, "choose", never)
    again = _bench(store=tillerman.Store(tmp_path / "part", "key"))
    assert nested.nested_folds(again, make_meter(again), 3) == done


@pytest.mark.slow
def test_on_random_labels_there_is_selection_optimism_and_the_held_out_folds_show_no_effect() -> None:
    runs = [
        tillerman.fit(replace(NESTED, seed=k), planted.speaker(), planted.coins(k, 150)).log.nested for k in range(20)
    ]
    assert np.mean([nested.optimism for nested in runs if nested]) > 0.02
    left_out = np.array([nested.outer_effect for nested in runs if nested])
    assert abs(left_out.mean()) < 3 * left_out.std(ddof=1) / len(left_out) ** 0.5
    assert left_out.mean() < 0.02


def test_near_duplicates_are_in_one_fold() -> None:
    words = [
        f"the {k} small cat number {k * k} sat on mat {k + 7} near the old grey river house today and slept"
        for k in range(9)
    ]
    twins = [f"{text}{end}" for text in words for end in ("", "!")]
    folds = folds_of([Example("yes_no", text, ("Yes", "No"), 0) for text in twins], 3)
    stems = [{example.question.rstrip("!") for example in fold} for fold in folds]
    assert [len(fold) for fold in folds] == [6, 6, 6]
    assert sum(map(len, stems)) == len(set.union(*stems)) == 9


def test_folds_do_not_follow_the_split() -> None:
    """The split cuts the same hash: folds along it would be train items here and validation items there."""
    split = _bench().split
    validation = {example.id for example in split.validation}
    for fold in folds_of((*split.train, *split.validation), 3):
        assert 0 < sum(example.id in validation for example in fold) < len(fold)


@pytest.mark.parametrize("count", [1, 40])
def test_too_few_or_too_many_folds_are_refused(count: int) -> None:
    with pytest.raises(tillerman.UsageError, match="folds of 30 items"):
        folds_of(planted.coins(0, 30).examples, count)


def test_nested_folds_are_refused_where_they_would_leak_or_be_lost() -> None:
    for base in ({"base_shots": 2}, {"base_lora": True}):
        with pytest.raises(tillerman.UsageError, match="every outer fold"):
            replace(NESTED, **base)
    with pytest.raises(tillerman.UsageError, match="at least 2 folds"):
        replace(NESTED, nested=1)
    with pytest.raises(tillerman.UsageError, match="test items only"):
        tillerman.Lineup(("caa",), NESTED)


def test_a_fold_without_training_items_says_which_share_is_empty() -> None:
    bench = _bench(replace(NESTED, max_train=2, max_validation=2))
    with pytest.raises(tillerman.DataError, match=r"`nested`, fold \d: no (train|validation) item"):
        nested.nested_folds(bench, make_meter(bench), 4)


def test_power_is_foreseen_from_the_test_share_of_the_run(log: tillerman.EvaluationLog) -> None:
    power = foresee(NESTED, planted.labelled(5, 150, 0.7))
    assert log.power is not None
    assert (power.n, power.alpha, power.discordant) == (log.n_test, log.power.alpha, 0.2)
    assert log.power.n == log.n_test
    assert foresee(replace(NESTED, max_test=5), planted.labelled(5, 150, 0.7)).n == 5
    with pytest.raises(tillerman.DataError, match="test share"):
        foresee(replace(NESTED, shares=(0.5, 0.5, 0.0)), planted.labelled(5, 150, 0.7))
