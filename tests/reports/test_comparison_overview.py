"""Over several data sets a comparison shows each method's effects side by side, and their means."""

from __future__ import annotations

from dataclasses import replace

from tillerman.logs.comparison import ComparisonLog
from tillerman.reports.comparison import adjusted, to_markdown
from tillerman.reports.comparison_overview import across
from tillerman.reports.pages import render_comparison

from .example_log import effect
from .test_comparison import comparison, result


def at(method, gain):
    return replace(method, at_budget=replace(method.at_budget, effect=effect(gain, 0.05, 1e-3)))


FIRST = comparison(*adjusted([at(result("weak", 0.5), 0.1), at(result("strong", 0.3), 0.3)]), name="moods")
SECOND = comparison(*adjusted([at(result("weak", 0.02, 0.5), 0.0), at(result("strong", 0.1), 0.1)]), name="letters")
ALONE = comparison(*adjusted([at(result("strong", 0.2), 0.2)]), name="texts")


def told(*made):
    return across(ComparisonLog(made))


def rows(table):
    return {row[0]: row[1:] for row in table.rows}


def test_a_single_data_set_has_no_overview():
    assert told(FIRST) is None
    assert "Overview" not in to_markdown(ComparisonLog((FIRST,))) + render_comparison(ComparisonLog((FIRST,)))


def test_methods_are_ranked_by_their_mean_effect_at_equal_kl():
    means, _ = told(FIRST, SECOND).tables
    assert [row[0] for row in means.rows][-2:] == ["strong", "weak"]
    assert rows(means)["strong"][:4] == ("+20.0", "+20.0", "2 of 2", "1 of 2")
    assert rows(means)["weak"][:4] == ("+26.0", "+5.0", "1 of 2", "1 of 2")


def test_without_equal_kl_they_are_ranked_by_the_effect_at_their_own_strength():
    plain = [comparison(*one.methods, name=one.data_name, budget=None) for one in (FIRST, SECOND)]
    means, effects = told(*plain).tables
    assert [row[0] for row in means.rows][-2:] == ["weak", "strong"]
    assert not any("KL 0.05" in name for name in means.head)
    assert rows(effects)["strong"] == ("+30*", "+10*")
    assert not any("stroke" in one for one in told(*plain).sentences)


def test_every_effect_stands_under_its_data_set_and_a_star_says_which_remain():
    _, effects = told(FIRST, SECOND).tables
    assert effects.head == ("", "moods", "letters")
    assert rows(effects)["weak"] == ("+50* / +10", "+2 / 0")
    assert rows(effects)["strong"] == ("+30* / +30", "+10* / +10")


def test_a_method_that_ran_on_some_data_sets_alone_is_said_to_be_left_out_of_the_others():
    means, effects = told(FIRST, ALONE).tables
    assert rows(effects)["weak"] == ("+50* / +10", "left out")
    assert rows(means)["weak"][2] == "1 of 1"


def test_the_overview_opens_the_page_and_the_markdown_of_several_data_sets():
    log = ComparisonLog((FIRST, SECOND))
    assert to_markdown(log).startswith("## Overview\n\n2 data sets")
    page = render_comparison(log)
    assert page.index("Means over 2 data sets") < page.index("<h2>moods</h2>")
