"""The report says what the log says, escapes what it did not write, and draws whatever it is given."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tillerman.core.finding import Finding
from tillerman.logs.evaluation import Condition, DosePoint, EvaluationLog, SearchedCell
from tillerman.reports import pages
from tillerman.reports.charts.doses import dose_response
from tillerman.reports.charts.effects import effect_chart
from tillerman.reports.charts.grid import heat_map
from tillerman.reports.charts.overview import overview_chart
from tillerman.reports.charts.svg import fit, standalone, text_width, ticks
from tillerman.reports.numbers import compact, decimal, percent, points
from tillerman.reports.pages import render_demo_page, render_report
from tillerman.reports.sentences import cautions, headline, power_warning, power_words
from tillerman.statistics.power import foreseen
from tillerman.statistics.values import Effect, Equivalence, Interval, Rate

from .example_log import FINDINGS, NASTY, PROVENANCE, effect, example_log, rate

VARIATIONS = ("effect", "no-effect", "lowered", "no-kl", "seeds", "many-cells", "nasty")
WIDTHS = (860, 360)
ITEMS_SCRIPT = (Path(pages.__file__).parent / "templates" / "items.js").read_text(encoding="utf-8").rstrip("\n")
SVG = "{http://www.w3.org/2000/svg}"


class _Page(HTMLParser):
    """Tags with their attributes, and the text outside of style sheets."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._style = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._style = tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def handle_data(self, data: str) -> None:
        if not self._style:
            self.words += data.replace("\u00a0", " ")


def without_our_script(page: str) -> str:
    """The page without the one script that it may have, which is ours to the letter."""
    return page.replace(f"<script>\n{ITEMS_SCRIPT}</script>", "", 1)


def words(log: EvaluationLog) -> str:
    return _Page(render_report(log)).words


def charts(log: EvaluationLog, width: int) -> list[str]:
    return [
        effect_chart(log.conditions, width),
        heat_map(log.cells, 0.338, log.chosen, width),
        dose_response(log.curve, log.dose, width),
        overview_chart((log, log), width),
    ]


@pytest.mark.parametrize("variation", [v for v in VARIATIONS if v != "nasty"])
def test_a_log_survives_json(variation: str) -> None:
    log = example_log(variation)
    assert EvaluationLog.from_json(json.loads(json.dumps(log.to_json()))) == log


def test_the_headline_says_from_where_to_where_and_how_sure() -> None:
    says = "Steering raised accuracy on sycophancy from 34 % to 78 % (+44 pp, 95 % interval +36 to +52 pp, n = 195"
    assert headline(example_log()).startswith(says)
    assert says in words(example_log())


def test_an_interval_that_includes_zero_is_called_no_effect_found() -> None:
    log = example_log("no-effect")
    assert headline(log).startswith("No effect found: accuracy on sycophancy was 34 % unsteered and 36 % steered")
    assert "No effect found" in words(log)
    assert "raised accuracy" not in words(log)


def test_an_interval_below_zero_is_called_lowered() -> None:
    assert headline(example_log("lowered")).startswith("Steering lowered accuracy on sycophancy from 34 % to 19 %")


def test_an_interval_that_touches_zero_is_no_effect() -> None:
    log = example_log()
    steered = replace(log.condition("steered"), effect=Effect(0.03, Interval(0.0, 0.06), 0.05, 195, 0.03))
    log = replace(log, conditions=tuple(steered if c.name == "steered" else c for c in log.conditions))
    assert headline(log).startswith("No effect found")


@pytest.mark.parametrize("width", WIDTHS)
def test_every_condition_appears_in_the_chart_with_its_value_and_n(width: int) -> None:
    log = example_log()
    drawn = [node.text or "" for node in ET.fromstring(effect_chart(log.conditions, width)).iter(f"{SVG}text")]
    everything = " | ".join(drawn)
    for label in (
        "Unsteered",
        "Steered",
        "Prompt baseline",
        "Few-shot baseline",
        "Random direction",
        "Shuffled labels",
    ):
        assert label in drawn
    for condition in log.conditions:
        assert percent(condition.rate.value) in everything
        if condition.effect is not None:
            assert points(condition.effect.value).removesuffix(" pp") in everything
    assert "195" in everything


def test_every_interval_of_every_condition_is_on_the_page() -> None:
    page = words(example_log())
    for condition in example_log().conditions:
        low, high = (decimal(100 * end, 1) for end in (condition.rate.interval.low, condition.rate.interval.high))
        assert f"{low} to {high}" in page
        if condition.effect is not None:
            low, high = (
                decimal(100 * e, 1, True) for e in (condition.effect.interval.low, condition.effect.interval.high)
            )
            assert f"{low} to {high}" in page


def test_the_page_has_every_section() -> None:
    log = example_log("seeds")
    page = words(log)
    for section in (
        "Effect on the test items",
        "The search",
        "Dose and cost",
        "Side effects",
        "Example generations",
        "Data diagnostics",
        "Over 5 seeds",
        "Provenance",
        "Notes",
        "How to read this",
    ):
        assert section in page
    assert "20 cells were compared" in page
    assert all(finding.message in page for finding in FINDINGS)
    assert all(text in page for g in log.generations for _, text in g.continuations)
    assert str(PROVENANCE["model"]["fingerprint"]) in page  # type: ignore[index]
    assert log.notes[0] in page
    assert "seeds: +43.2 pp" in page


def test_the_page_says_what_the_test_items_could_show() -> None:
    log = replace(example_log(), power=foreseen(195))
    said = (
        "n = 195 test items: effects of 9.2 pp or more are detected with 80 % power "
        "(if 20 % of items change their answer)"
    )
    assert power_words(log.power) == said  # type: ignore[arg-type]
    assert f"Known before the run: {said}." in words(log)
    assert "Known before the run" not in words(example_log())
    assert "likely to be missed" not in words(log)


def test_too_few_test_items_are_a_caution_with_a_remedy() -> None:
    assert power_warning(foreseen(34)) == ""
    for n in (20, 12, 3):
        assert "--shares 0.4,0.2,0.4" in power_warning(foreseen(n))
    assert "effects below 25 pp are likely to be missed (power below 80 %)" in words(
        replace(example_log(), power=foreseen(12))
    )
    assert "every item that changes its answer gains" in power_words(foreseen(12))
    assert power_words(foreseen(3)) == "n = 3 test items: no effect of any size can be detected with 80 % power"


def test_an_unrelated_task_is_called_equivalent_only_where_the_test_says_so() -> None:
    plain = example_log()
    for high, said in (
        (0.03, "equivalence established (TOST, ±5 pp): 90 % interval"),
        (0.2, "equivalence not established (TOST, ±5 pp): 90 % interval"),
    ):
        tested = Equivalence(0.0, Interval(-high, high), 0.05, 0.01 if high < 0.05 else 0.4, 100)
        log = replace(plain, side_effects=replace(plain.side_effects, unrelated_equivalence=tested))
        assert said in words(log)
        assert EvaluationLog.from_json(json.loads(json.dumps(log.to_json()))) == log
    assert "TOST" not in words(plain)


def test_power_of_several_methods_says_that_they_share_alpha() -> None:
    assert power_words(foreseen(200, 4)).endswith("at p below 0.013: several methods share 0.05)")


def test_without_seeds_and_generations_their_sections_are_left_out() -> None:
    page = words(replace(example_log(), generations=(), notes=()))
    assert "seeds" not in page
    assert "Example generations" not in page
    assert "Notes" not in page


def test_nasty_text_is_escaped_and_still_readable() -> None:
    page = without_our_script(render_report(example_log("nasty")))
    assert "<script" not in page
    assert "alert(1)" in page
    assert "{{ 7 * 7 }}" in page
    tags = {tag for tag, _ in _Page(page).tags}
    assert "script" not in tags
    assert page.encode("utf-8")  # half a surrogate pair in a generation does not stop the writing
    assert "<script>alert(1)</script>" in _Page(page).words


def test_names_never_leave_their_attributes() -> None:
    finding = Finding("length", '" onload="alert(1)', "m")
    log = replace(example_log(), data_name='" onload="alert(1)', diagnostics=(finding,))
    for page in (render_report(log), render_demo_page((log, log))):
        assert not any(name.startswith("on") for _, attributes in _Page(page).tags for name in attributes)


def test_the_page_asks_nothing_of_the_network() -> None:
    for page in (render_report(example_log("nasty")), render_demo_page((example_log(), example_log("nasty")))):
        assert ITEMS_SCRIPT in page and "http" not in ITEMS_SCRIPT and "fetch" not in ITEMS_SCRIPT
        for tag, attributes in _Page(without_our_script(page)).tags:
            assert tag not in ("script", "iframe", "img", "object", "embed")
            for name in ("src", "href", "srcset", "data", "xlink:href"):
                assert re.match(r"#|data:", attributes.get(name) or "#"), (tag, attributes)
        style = "".join(re.findall(r"<style>(.*?)</style>", page, re.DOTALL))
        assert "url(" not in style
        assert "@import" not in style


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("variation", VARIATIONS)
def test_every_chart_is_xml_with_a_title_and_a_description(variation: str, width: int) -> None:
    for drawing in charts(example_log(variation), width):
        root = ET.fromstring(drawing)
        title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
        assert title is not None
        assert description is not None
        assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
        assert "nan" not in re.sub(r">[^<]*<", "><", drawing)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("variation", VARIATIONS)
def test_no_text_of_a_chart_overlaps_another_or_leaves_the_drawing(variation: str, width: int) -> None:
    for drawing in charts(example_log(variation), width):
        boxes = [_box(node) for node in ET.fromstring(drawing).iter(f"{SVG}text") if node.text]
        for k, (left, right, base, label) in enumerate(boxes):
            assert left > -2 and right < width + 2, label
            for other in boxes[k + 1 :]:
                apart = right <= other[0] or other[1] <= left or abs(base - other[2]) >= 11
                assert apart, (label, other[3])


@pytest.mark.parametrize("width", WIDTHS)
def test_labels_of_a_fine_grid_do_not_touch(width: int) -> None:
    cells = [SearchedCell(m, "layers.3.mlp_out", k, 0.0125 * k, 0.5) for m in ("caa", "pca") for k in range(1, 17)]
    boxes = [_box(node) for node in ET.fromstring(heat_map(cells, 0.4, None, width)).iter(f"{SVG}text")]
    for k, (left, right, base, label) in enumerate(boxes):
        for other in boxes[k + 1 :]:
            assert right <= other[0] or other[1] <= left or abs(base - other[2]) >= 11, (label, other[3])


def _box(node: ET.Element) -> tuple[float, float, float, str]:
    """Left, right and baseline by the widths of a common sans serif, less strict than the layout's own estimate."""
    kind, label = node.get("class") or "", node.text or ""
    size = 11 if {"tick", "head", "on"} & set(kind.split()) else 12 if "small" in kind else 13
    width = sum(0.3 if ch in " .,:|il-()'" else 0.92 if ch in "%@MW" else 0.54 for ch in label) * size
    x, y = float(node.get("x") or 0), float(node.get("y") or 0)
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[node.get("text-anchor") or "start"]
    return left, left + width, y, label


def test_ids_of_a_page_are_unique() -> None:
    tags = _Page(render_demo_page([example_log(v, f"behaviour {k}") for k, v in enumerate(VARIATIONS)])).tags
    ids = [attributes["id"] for tag, attributes in tags if "id" in attributes and tag != "title" and tag != "desc"]
    assert len(ids) == len(set(ids)) == len(VARIATIONS)


@pytest.mark.parametrize("width", WIDTHS)
def test_charts_survive_degenerate_input(width: int) -> None:
    nan = float("nan")
    cell = SearchedCell("caa", "layers.0.resid_post", 1.0, 0.1, 0.5)
    point = DosePoint(1.0, 0.1, rate(0.5), 1.0, 0.0)
    broken = Rate(nan, Interval(nan, nan), 0, nan)
    drawings = [
        heat_map((), 0.5, None, width),
        heat_map((cell,), 0.5, None, width),
        heat_map((cell, replace(cell, score=1e307)), -1e307, None, width),  # a difference beyond all numbers
        heat_map(
            (cell, replace(cell, hook_point="router"), replace(cell, dose=nan), replace(cell, score=nan)),
            0.5,
            None,
            width,
        ),
        heat_map(
            [replace(cell, strength=s, dose=s / 7) for s in (-4.0, 0.0, 4.0)], 0.5, replace(cell, hook_point="x"), width
        ),
        dose_response((), 0.1, width),
        dose_response((point,), 0.1, width),
        dose_response((point, point), nan, width),
        dose_response((point, DosePoint(9.0, 0.9, rate(0.5), 4e6, 30.0)), 0.9, width),
        dose_response((DosePoint(1.0, 0.1, broken, float("inf"), nan),), 0.1, width),
        effect_chart((), width),
        effect_chart((Condition("unsteered", broken, None),), width),
        effect_chart(
            (Condition("unsteered", rate(0.0), None), Condition("steered", rate(1.0), effect(1.0, 0, 0))), width
        ),
        overview_chart((), width),
    ]
    for drawing in drawings:
        ET.fromstring(drawing)
        assert not re.search(r'="[^"]*(nan|inf)\b', drawing)


def test_the_chosen_cell_is_framed_and_broken_cells_are_hatched() -> None:
    log = example_log()
    drawing = heat_map(log.cells, 0.338, log.chosen)
    broken = sum(not c.admissible for c in log.cells)
    assert broken > 0
    assert drawing.count('class="hatch') == broken + 1  # one in the legend
    assert set(re.findall(r"class=\"(hatch[^\"]*)", drawing)) > {"hatch"}  # each in the colour of its cell
    assert drawing.count('class="frame"') == 2
    assert heat_map(log.cells, 0.338, None).count('class="frame"') == 1


def test_grids_whose_doses_differ_from_row_to_row_are_drawn_by_strength() -> None:
    cells = [
        SearchedCell("caa", f"layers.{k}.resid_post", s, s * (0.1 + 0.03 * k), 0.5)
        for k in range(4)
        for s in (1.0, 2.0)
    ]
    labels = [node.text for node in ET.fromstring(heat_map(cells, 0.4)).iter(f"{SVG}text")]
    assert "strength" in labels
    assert "dose" not in labels


def test_side_effects_that_were_not_measured_are_said_to_be_so() -> None:
    log = replace(example_log("no-kl"), side_effects=replace(example_log().side_effects, kl=float("nan")))
    page = render_report(log)
    assert "<dd>not measured</dd>" in page
    assert not re.search(r">\s*nan\b", page)
    unmeasured = replace(log.curve[0], perplexity_ratio=float("nan"))
    assert ">not measured<" in dose_response((unmeasured,), 0.0)


def test_a_null_with_an_effect_is_a_caution_in_the_open() -> None:
    log = example_log()
    null = Condition("null:random", rate(0.5), effect(0.16, 0.05, 1e-4))
    log = replace(log, conditions=tuple(null if c.name == "null:random" else c for c in log.conditions))
    assert "must show no effect shows one: Random direction, +16.0 pp" in cautions(log)[0]
    assert cautions(log)[0] in words(log)
    assert not any("control" in said for said in cautions(example_log()))


def test_an_effect_that_vanishes_when_balanced_is_a_caution() -> None:
    log = example_log()
    lopsided = replace(log.condition("steered"), effect=replace(log.effect, balanced=0.02))
    log = replace(log, conditions=tuple(lopsided if c.name == "steered" else c for c in log.conditions))
    assert any("favour one letter" in said for said in cautions(log))
    assert not cautions(example_log())


def test_the_demo_page_shows_every_behaviour_and_links_to_it() -> None:
    logs = [example_log("effect", "sycophancy"), example_log("no-effect", "survival instinct")]
    page = render_demo_page(logs)
    parsed = _Page(page)
    targets = {attributes["id"] for tag, attributes in parsed.tags if tag == "details" and "id" in attributes}
    links = {(attributes["href"] or "")[1:] for tag, attributes in parsed.tags if tag == "a"}
    assert len(targets) == 2
    assert links == targets
    for log in logs:
        assert headline(log) in parsed.words
    assert "no effect found" in overview_chart(logs)


def test_a_chart_can_stand_alone_with_its_style() -> None:
    root = ET.fromstring(standalone(effect_chart(example_log().conditions)))
    style = root.find(f"{SVG}style")
    assert style is not None
    assert "prefers-color-scheme: dark" in (style.text or "")


def test_numbers_are_rounded_once_and_carry_a_true_minus_sign() -> None:
    assert points(-0.0149) == "\u22121.5 pp"
    assert points(-0.0001) == "0.0 pp"
    assert percent(0.3387) == "33.9 %"
    assert compact(0.45) == "0.45"
    assert compact(-1500) == "\u22121,500"
    assert compact(0.000123) == "0.000123"
    assert decimal(float("nan")) == "not measured"


def test_axis_ticks_are_round_numbers_within_the_range() -> None:
    assert ticks(0, 1, 5) == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert ticks(0.03, 1.21, 5) == (0.5, 1.0)
    assert ticks(2, 2) == (2,)


def test_long_names_are_cut_to_the_room_they_have() -> None:
    assert fit("short", 100) == "short"
    assert text_width(fit(NASTY, 100)) <= 100
    assert fit(NASTY, 100).endswith("…")
