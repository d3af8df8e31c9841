"""A comparison's log, its tables, its chart and its page."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

import tillerman
from tillerman.evaluation.speed import time_ratio
from tillerman.logs.comparison import AtBudget, Comparison, ComparisonLog, Cost, MethodLeftOut, MethodResult
from tillerman.reports.charts.methods import compare_chart
from tillerman.reports.comparison import adjusted, tables, to_markdown, verdict
from tillerman.statistics.estimates import holm
from tillerman.statistics.values import Effect, Interval

from .. import tiny
from .example_log import NASTY, conditions, effect, rate, side_effects

SVG = "{http://www.w3.org/2000/svg}"
WIDTHS = (860, 360)


def result(name: str = "caa", gain: float = 0.4, p: float = 1e-4) -> MethodResult:
    at = AtBudget(True, 0.5, 0.15, 0.05, 1.04, rate(0.5), effect(0.16, 0.07, 1e-3), 2e-3)
    return MethodResult(
        name,
        name,
        "layers.12.resid_post",
        1.5,
        0.45,
        "all",
        33,
        rate(0.338 + gain),
        effect(gain, 0.08, p),
        p,
        conditions(0.5)[-2:],
        side_effects(),
        Cost(3.2, 3616, 1.06, Interval(1.04, 1.08)),
        at,
    )


def comparison(*methods: MethodResult, name: str = "sycophancy", budget: float | None = 0.05) -> Comparison:
    kept = methods or (result(), result("pas", 0.02, 0.5))
    if budget is None:
        kept = tuple(replace(m, at_budget=None) for m in kept)
    return Comparison(
        name,
        "tiny",
        0,
        300,
        100,
        195,
        "abc",
        (*conditions(0.7)[:1], *conditions(0.7)[2:4]),
        adjusted(kept),
        (MethodLeftOut("sta", "no autoencoder"),),
        budget,
        {"options": {"seed": 0}},
        12.5,
    )


def test_a_log_of_comparisons_survives_json():
    log = ComparisonLog((comparison(), comparison(budget=None)))
    assert ComparisonLog.from_json(json.loads(json.dumps(log.to_json()))) == log


@pytest.mark.parametrize(
    ("raw", "raised"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # statsmodels' multipletests, method "holm"
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.2], [0.2]),
        ([], []),
    ],
)
def test_holm_raises_p_values_as_published(raw, raised):
    assert holm(raw) == pytest.approx(raised)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_the_order_and_lies_between_the_p_value_and_bonferroni(raw):
    raised = holm(raw)
    for p, q in zip(raw, raised, strict=True):
        assert p - 1e-12 <= q <= min(1, len(raw) * p) + 1e-12
        assert all(q <= q2 for p2, q2 in zip(raw, raised, strict=True) if p2 > p)


def test_p_values_at_the_budget_are_adjusted_among_themselves():
    first, second = adjusted([result(p=0.01), result("pas", p=0.03)])
    assert (first.p_holm, second.p_holm) == pytest.approx((0.02, 0.03))
    assert first.at_budget.p_holm == pytest.approx(2e-3)


def test_an_effect_clears_its_nulls_only_above_the_top_of_their_intervals():
    row = result(gain=0.4)  # 0.32 to 0.48
    null = row.nulls[0]
    for top, clears in ((0.31, True), (0.33, False)):
        moved = replace(null, effect=Effect(0.2, Interval(0.1, top), 0.5, 195, 0.2))
        assert replace(row, nulls=(moved, row.nulls[1])).clears_nulls is clears
    below = replace(
        row, nulls=tuple(replace(n, effect=Effect(-0.5, Interval(-0.6, -0.4), 0.5, 9, 0)) for n in row.nulls)
    )
    assert not replace(below, effect=effect(0.05, 0.08, 0.3)).clears_nulls


def test_the_tables_hold_every_row_and_every_figure():
    shown = comparison()
    effects, costs, at = tables(shown)
    assert [row[0] for row in effects.rows] == ["Unsteered", "Prompt baseline", "Few-shot baseline", "caa", "pas"]
    assert effects.rows[3][1:] == (
        "73.8 (67.2 to 79.5)",
        "72.8",
        "+40.0 (+32.0 to +48.0)",
        "< 0.001",
        "+1.1 (−2.8 to +5.0)",
        "−1.0 (−5.2 to +3.2)",
        "yes",
    )
    assert effects.strong == (3,)
    assert costs.rows[0] == (
        "caa",
        "layers.12.resid_post × 1.5",
        "0.45",
        "33",
        "0.071",
        "1.25",
        "−1.2 (−4.3 to +1.9)",
        "3.2",
        "3,616",
        "1.06 (1.04 to 1.08)",
    )
    assert at.rows[1] == (
        "pas",
        "0.5",
        "0.15",
        "0.050",
        "1.04",
        "50.0 (43.1 to 56.9)",
        "+16.0 (+9.0 to +23.0)",
        "0.002",
    )
    assert len(tables(comparison(budget=None))) == 2
    for table in (effects, costs, at):
        assert {len(row) for row in table.rows} == {len(table.head)}


def test_a_budget_that_was_not_reached_is_marked():
    row = result()
    missed = replace(row, at_budget=replace(row.at_budget, reached=False, kl=0.031))
    assert tables(comparison(missed))[2].rows[0][3] == "0.031, not reached"


def test_the_verdict_counts_what_stands_after_the_adjustment():
    assert verdict(comparison()).startswith("1 of 2 methods has an effect on sycophancy (Holm p < 0.05), 1 beyond")
    many = comparison(*(result(f"m{k}", 0.1, 0.03) for k in range(3)))
    assert verdict(many) == "No method has an effect on sycophancy that remains after Holm's adjustment."
    assert not comparison(result(gain=-0.2)).standing  # an effect, but not the wanted one


def test_markdown_has_a_row_per_method_and_nothing_that_breaks_a_table():
    page = to_markdown(ComparisonLog((comparison(), comparison(replace(result(), method=NASTY), name="a | b\n<b>"))))
    assert "| **caa** | 73.8 (67.2 to 79.5) |" in page
    assert "* left out: sta: no autoencoder" in page
    assert "<script" not in page
    assert "## a \\| b &lt;b>" in page
    for block in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("budget", [None, 0.05])
def test_every_method_is_drawn_with_its_effect_and_its_nulls(width, budget):
    drawing = compare_chart(comparison(budget=budget), width)
    root = ET.fromstring(drawing)
    words = " | ".join(node.text or "" for node in root.iter(f"{SVG}text"))
    for label in ("caa", "pas", "Prompt baseline", "Few-shot baseline", "Random direction", "+40.0", "+32.0 to +48.0"):
        assert label in words
    assert ("at equal KL" in words) == (budget is not None)
    lanes = 2 + 2 * (3 if budget is None else 4)
    assert sum("whisker" in (node.get("class") or "") for node in root.iter(f"{SVG}line")) == lanes


@pytest.mark.parametrize("width", WIDTHS)
def test_no_text_of_the_chart_overlaps_another(width):
    rows = [result(f"a-method-with-a-long-name-{k}", 0.1 * k - 0.3) for k in range(8)]
    for shown in (comparison(*rows), comparison(replace(result(), method=NASTY))):
        boxes = [_box(node) for node in ET.fromstring(compare_chart(shown, width)).iter(f"{SVG}text") if node.text]
        for k, (left, right, base, label) in enumerate(boxes):
            assert left > -2 and right < width + 2, label
            for other in boxes[k + 1 :]:
                assert right <= other[0] or other[1] <= left or abs(base - other[2]) >= 11, (label, other[3])


def _box(node: ET.Element) -> tuple[float, float, float, str]:
    kind, label = node.get("class") or "", node.text or ""
    size = 11 if {"tick", "head"} & set(kind.split()) else 12 if "small" in kind else 13
    width = sum(0.3 if ch in " .,:|il-()'" else 0.92 if ch in "%@MW" else 0.54 for ch in label) * size
    x = float(node.get("x") or 0)
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[node.get("text-anchor") or "start"]
    return left, left + width, float(node.get("y") or 0), label


@pytest.mark.parametrize("width", WIDTHS)
def test_the_chart_survives_figures_that_are_none(width):
    nan = float("nan")
    broken = replace(result(), effect=Effect(nan, Interval(nan, nan), nan, 0, nan))
    for methods in ((broken,), ()):
        drawing = compare_chart(replace(comparison(), methods=methods), width)
        ET.fromstring(drawing)
        assert not re.search(r'="[^"]*(nan|inf)\b', drawing)


def test_the_page_shows_tables_chart_and_reasons_and_escapes_names():
    page = tillerman.render_comparison(
        ComparisonLog((comparison(), comparison(replace(result(), method=NASTY), name=NASTY)))
    )
    assert "<script" not in page
    assert "alert(1)" in page
    assert page.count("<svg") == 4  # wide and narrow, of two data sets
    assert page.count("<table") == 8  # two of the overview
    assert "sta: no autoencoder" in page
    assert "1 of 2 methods has an effect on sycophancy" in page.replace("\u00a0", " ")
    assert not re.search(r'(src|href)="(?!#|data:)', page)


def test_strength_zero_takes_no_time_and_a_plan_some():
    opened = tiny.opened()
    assert time_ratio(opened, (1, 20, 30), ()) == (1.0, Interval(1.0, 1.0))
    plan = (tillerman.Intervention(tiny.vector(1), 1.0),)
    value, interval = time_ratio(opened, (1, 20, 30), plan, tokens=8, pairs=3)
    assert interval.low < value < interval.high
    assert 0.3 < value < 4


def test_methods_that_were_scored_item_by_item_have_a_table_of_it():
    scored = replace(
        result("caa"),
        moved_wrong=0.25,
        wrong_interval=Interval(0.18, 0.34),
        slope=1.2,
        slope_interval=Interval(0.9, 1.5),
    )
    (found,) = [t for t in tables(comparison(scored, result("pas-full"))) if t.title.startswith("Item by item")]
    assert found.rows == (
        ("caa", "25 (18 to 34)", "+1.20 (+0.90 to +1.50)"),
        ("pas-full", "not measured", "not measured"),
    )
    assert not any(t.title.startswith("Item by item") for t in tables(comparison(result("caa"))))
