"""Who is moved the wrong way: by right answer, by what the model said before, and by the fields of the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tillerman.data.examples import Example
from tillerman.data.presenting import Item, present
from tillerman.evaluation.answered import Answered, item_results
from tillerman.evaluation.bias import answer_classes, bias_of
from tillerman.logs.evidence import Bias
from tillerman.statistics.values import LEAST_ITEMS


def items(n: int = 40) -> tuple[Item, ...]:
    """Right answers in turn; the second half is of kind b."""
    asked = [
        Example("yes_no", f"question {k}?", ("Yes", "No"), k % 2, {"kind": "ab"[k >= n // 2], "name": f"n{k}"})
        for k in range(n)
    ]
    return present(asked, keep_order=True)


def odds(shown: tuple[Item, ...], values: np.ndarray) -> Answered:
    """Answers whose right one has these log-odds."""
    scores = [(v, 0.0) if item.right == 0 else (0.0, v) for item, v in zip(shown, values.tolist(), strict=True)]
    return Answered.chosen(shown, scores)


def found(change: np.ndarray) -> Bias:
    shown = items(len(change))
    before = np.full(len(change), -0.5)
    curve = {dose: odds(shown, before + dose * change) for dose in (-1.0, 0.0, 1.0)}
    answered = {"unsteered": curve[0.0], "steered": curve[1.0]}
    bias = bias_of(shown, answered, curve)
    assert bias is not None
    return bias


def test_the_items_of_one_kind_that_fall_are_named() -> None:
    bias = found(np.where(np.arange(40) < 20, 1.0, -1.0))
    of = {(one.field, one.value): one for one in bias.wrong_by}
    assert of["kind", "b"].share == 1 and of["kind", "a"].share == 0 and of["kind", "b"].n == 20
    assert of["kind", "b"].p_value < 1e-6 and of["right answer", "Yes"].p_value == 1
    assert 0.8 < of["kind", "b"].interval.low < of["kind", "b"].interval.high == pytest.approx(1.0)
    assert not any(field in ("name", "unsteered") for field, _ in of)  # of one item each; of all items


def test_a_push_towards_an_answer_moves_the_items_wrong_where_the_other_is_right() -> None:
    bias = found(np.where(np.arange(40) % 2 == 0, 0.5, -0.5))
    of = {(one.field, one.value): one.share for one in bias.wrong_by}
    assert of["right answer", "No"] == 1 and of["right answer", "Yes"] == 0


def test_shares_and_slopes_have_intervals_that_hold_them() -> None:
    bias = found(np.random.default_rng(0).normal(0.3, 1.0, 40))
    for value, interval in (
        (bias.moved_wrong, bias.wrong_interval),
        (bias.slope, bias.slope_interval),
        (bias.slope_wrong, bias.slope_wrong_interval),
    ):
        assert value is not None and interval is not None and interval.low < value < interval.high
    assert bias.moved_wrong == bias.slope_wrong  # along a straight line the two are one


def test_by_chance_no_field_is_named() -> None:
    random = np.random.default_rng(1)
    named = [any(one.p_value < 0.05 for one in found(random.normal(size=40)).wrong_by) for _ in range(20)]
    assert sum(named) <= 3


def test_few_items_of_a_value_are_not_counted_apart() -> None:
    shown = items(40)
    few = tuple(
        replace(item, example=replace(item.example, extra={"rare": "yes" if k < LEAST_ITEMS - 1 else "no"}))
        for k, item in enumerate(shown)
    )
    plain, moved = odds(few, np.zeros(40)), odds(few, np.random.default_rng(0).normal(size=40))
    bias = bias_of(few, {"unsteered": plain, "steered": moved})
    assert bias is not None and ("rare", "yes") not in {(one.field, one.value) for one in bias.wrong_by}


def test_a_field_that_says_the_same_in_other_words_is_not_counted_twice() -> None:
    shown = tuple(
        replace(item, example=replace(item.example, extra={"opposite": ("No", "Yes")[k % 2], "half": "ab"[k // 20]}))
        for k, item in enumerate(items(40))
    )
    moved = odds(shown, np.random.default_rng(0).normal(size=40))
    bias = bias_of(shown, {"unsteered": odds(shown, np.zeros(40)), "steered": moved})
    assert bias is not None and {one.field for one in bias.wrong_by} == {"right answer", "half"}


def test_every_item_has_its_slope_and_its_fields() -> None:
    shown = items(4)
    slopes = np.array([0.5, np.nan, -1.0, 0.0])
    results = item_results(shown, ["q"] * 4, {"unsteered": odds(shown, np.zeros(4))}, slopes)
    assert [one.slope for one in results] == [0.5, None, -1.0, 0.0]
    assert results[3].fields == {"kind": "b", "name": "n3"}
    assert answer_classes(shown) is not None
