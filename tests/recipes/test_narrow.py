"""A recipe for some of its claims has the cells that they are tested on, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tillerman.core.errors import UnknownNameError
from tillerman.recipes.narrow import narrowed
from tillerman.recipes.parse import SHIPPED, read_recipe
from tillerman.recipes.recipe import At

SMALL, _ = read_recipe(Path(__file__).parent / "small.toml")


def test_a_claim_on_two_strengths_leaves_these_two_and_what_they_cost_out():
    (step,) = narrowed(SMALL, ["strength-works"]).steps
    assert (step.name, step.tasks, [arm.name for arm in step.arms]) == ("curve", ("both",), ["CAA"])
    assert step.arms[0].at == (At(3, 13), At(-3, 13))
    assert not step.drift
    assert step.settings["unrelated_items"] == 0


def test_a_fit_is_fast_where_no_claim_is_about_what_stands_beside_it():
    assert narrowed(SMALL, ["it-works"]).step("fits").settings["fast"]
    pas, _ = read_recipe("pas")
    beside = narrowed(pas, ["personas-beyond-random"]).step("ours").settings
    assert "fast" not in beside
    assert "shots" not in beside


def test_what_a_claim_is_about_is_measured_in_full():
    pas, cae = (read_recipe(name)[0] for name in ("pas", "cae"))
    about = narrowed(pas, ["no-forgetting"]).step("ours").settings
    assert about["unrelated_items"] == pas.step("ours").settings["unrelated_items"]
    assert narrowed(cae, ["perplexity-rises"]).step("ours").drift


@pytest.mark.parametrize("name", SHIPPED)
def test_every_claim_finds_all_of_its_cells_in_its_own_recipe_and_those_alone(name):
    recipe, _ = read_recipe(name)
    for claim in recipe.claims:
        made = narrowed(recipe, [claim.name])
        wanted = {(w.step, w.arm, w.layer, w.strength) for w in claim.tested()}
        cells = set()
        for step in made.steps:
            assert {w.tasks for w in claim.tested() if w.step == step.name} == set(step.tasks)
            for arm in step.arms:
                assert all(at.layer is None or at.layer in step.layers.at for at in arm.at)
                cells |= {(step.name, arm.name, at.layer, at.strength) for at in arm.at or (At(None, None),)}
        assert cells == wanted, claim.name


def test_an_unknown_claim_is_named_with_those_there_are():
    with pytest.raises(UnknownNameError, match=r"no claim of small named 'it-work'; known: .*it-works"):
        narrowed(SMALL, ["it-work"])
