"""A recipe is read strictly: what is wrong in it is named, with the place and what would be right."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from tillerman.core.errors import DataError, TillermanError, UnknownNameError
from tillerman.methods.registry import methods
from tillerman.recipes.layouts import Where
from tillerman.recipes.parse import SHIPPED, parse_recipe, read_recipe
from tillerman.recipes.recipe import Depths
from tillerman.recipes.steps.studies import options_of
from tillerman.recipes.steps.work import experiment_of

SMALL = Path(__file__).parent / "small.toml"
TEXT = SMALL.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_is_whole_and_names_only_what_there_is(name):
    recipe, digest = read_recipe(name)
    assert recipe.name == name
    assert len(digest) == 16
    assert recipe.claims and recipe.tables
    for step in recipe.steps:
        for arm in step.arms:
            assert methods(arm.method)
            sae = "pilot" if "sae" in step.needs else None
            assert experiment_of(step, arm, 8, 3, sae).seed == 3
        if step.study:
            assert options_of(step.study, step.options)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_says_where_published_figures_come_from(name):
    recipe, _ = read_recipe(name)
    published = [table for table in recipe.tables if any(row.published for row in table.rows)]
    assert published
    assert all(table.source for table in published)
    assert all(claim.source for claim in recipe.claims)


def test_a_file_of_ones_own_is_read_like_a_shipped_one():
    recipe, digest = read_recipe(SMALL)
    assert [task.name for task in recipe.tasks_of(["both", "art", "moods"])] == ["science", "art", "moods"]
    assert digest != read_recipe("pas")[1]


def test_a_recipe_that_is_not_there_lists_those_that_are():
    with pytest.raises(UnknownNameError, match=r"no recipe \(or TOML file\) named 'paas'.*Did you mean 'pas'"):
        read_recipe("paas")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("seeds = [0, 1]", "seads = [0, 1]", r"seads: no such key; known: .*seeds.*Did you mean 'seeds'"),
        ("limit = 120", "", r"limit: missing; every recipe needs it"),
        ("limit = 120", 'limit = "all"', r"limit: expected a whole number, got 'all'"),
        ("limit = 120", "limit = true", r"limit: expected a whole number, got True"),
        ("seeds = [0, 1]", "seeds = []", r"seeds: expected at least one"),
        (
            'kind = "fit"',
            'kind = "fits"',
            r"steps\[0\].kind: expected one of fit, curve, replies, shares, study, slopes",
        ),
        ('unit = "seed"', 'unit = "week"', r"steps\[0\].unit: expected one of seed, task, item, got 'week'"),
        ('tasks = ["both", "lost"]', 'tasks = ["boht"]', r"no task or group named 'boht'.*Did you mean 'both'"),
        ('tasks = ["both", "lost"]', 'tasks = "both"', r"steps\[0\].tasks: expected a list, got 'both'"),
        ("strengths = [-3, 0, 3]", "", r"step curve, arm CAA: kind 'curve' needs strengths"),
        ("at = [13, 17]", "at = [13, 32]", r"layers: expected blocks 0..31, got \[32\]"),
        ('needs = ["thoughts"]', 'needs = ["luck"]', r"no need named 'luck'; known: experts, sae, thoughts"),
        ('name = "wrong"', 'name = "CAA"', r"arm CAA: named twice"),
        ('name = "art"', 'name = "science"', r"task science: named twice"),
        ("published = [0.25, nan]", "published = [0.25]", r"row 'both': expected 2 published figures.*got 1"),
        ('metric = "effect" }\ncolumns', 'metric = "efect" }\ncolumns', r"table 'Change of answers': no metric named"),
        (
            "against = { strength = -3 }",
            "against = { strength = 4 }",
            r"claim strength-works: .*one of -3, 0, 3, got 4",
        ),
        ('arm = "CAA", layer = 13, strength', 'arm = "CAA", strength', r"step curve: expected a layer, got None"),
        ('expect = "below"', 'expect = "within"', r"claim thinks-less: expect 'within' needs a margin above 0"),
        ('kind = "curve"', 'kind = "study"', r"step curve: study and options are for steps of kind 'study'"),
        ("[groups]", "[groups", r"invalid TOML"),
    ],
)
def test_a_fault_is_named_with_its_place_and_a_remedy(old, new, complaint):
    assert old in TEXT
    with pytest.raises(DataError, match=complaint):
        parse_recipe(TEXT.replace(old, new, 1), "mine.toml")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("null_draws = 2", "nul_draws = 2", r"no setting of step fits named 'nul_draws'.*Did you mean 'null_draws'"),
        ("null_draws = 2", 'null_draws = "2"', r"step fits: setting null_draws = '2': expected"),
        ("null_draws = 2", "seed = 2", r"no setting of step fits named 'seed'"),
        ("null_draws = 2", 'protocol = "pass"', r"no protocol named 'pass'"),
        ("null_draws = 2", "layers = [2]", r"name layers by 'layers = \{ of = 32"),
        ('method = "caa"', 'method = "cat"', r"no method named 'cat'"),
    ],
)
def test_a_setting_that_no_experiment_has_is_named(old, new, complaint):
    recipe = parse_recipe(TEXT.replace(old, new, 1))
    with pytest.raises(TillermanError, match=complaint):
        experiment_of(recipe.step("fits"), recipe.step("fits").arms[0], 8, 0, None)


def test_the_settings_of_an_arm_go_before_those_of_the_step():
    text = TEXT.replace(
        'name = "wrong"\nmethod = "ipas-wrong"', 'name = "wrong"\nmethod = "caa"\nsettings = { shots = 7 }'
    )
    step = parse_recipe(text).step("fits")
    assert [experiment_of(step, arm, 8, 0, None).shots for arm in step.arms] == [2, 7]


def test_blocks_of_the_paper_are_found_at_the_same_depth():
    paper = Depths(32, (0, 13, 15, 16, 31))
    assert paper.of_model(32) == {0: 0, 13: 13, 15: 15, 16: 16, 31: 31}
    assert paper.of_model(8) == {0: 0, 13: 3, 15: 3, 16: 4, 31: 7}
    assert paper.of_model(64) == {0: 1, 13: 27, 15: 31, 16: 33, 31: 63}


def test_what_a_row_says_goes_before_what_the_table_says():
    table = Where(step="a", metric="effect", strength=2.0)
    assert table.but(Where(metric="kl", strength=0.0)) == Where(step="a", metric="kl", strength=0.0)


SLOPES = files("tillerman.recipes").joinpath("steerability.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("at = [13]", "at = [13, 17]", r"step slopes: slopes are taken at one layer"),
        ("strengths = [-1.5, 1.5]", "strengths = [1.5, 1.5]", r"arm random: kind 'slopes' needs two strengths"),
        ('ranked = "slope_shifted"', 'ranked = "slop"', r"no metric named 'slop'"),
        (
            'ranked = "slope_shifted" }\nalso',
            'ranked = "slope_shifted" }\nagainst = { arm = "random" }\nalso',
            r"claim foretells-shifts: a rank correlation stands alone",
        ),
    ],
)
def test_slopes_want_one_layer_and_two_strengths_and_a_rank_correlation_stands_alone(old, new, complaint):
    assert old in SLOPES
    with pytest.raises(DataError, match=complaint):
        parse_recipe(SLOPES.replace(old, new, 1))
