"""The recipe of a real model's autoencoder: it learns, it goes on after an interruption, and what it writes opens."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch

from tillerman.core.hookpoint import HookPoint
from tillerman.models.sae.files import open_sae

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture(scope="module")
def sae():
    before = list(sys.path)
    sys.path[:0] = [str(TOOLS / "real_models"), str(TOOLS / "sae")]
    try:
        yield importlib.import_module("sae")
    finally:
        sys.path[:] = before


@pytest.fixture(scope="module")
def read():
    """Tokens that are each the sum of two of twelve directions and of what all share."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(12, 8, generator=generator)
    chosen = torch.stack([torch.randperm(12, generator=generator)[:2] for _ in range(1200)])
    return (1 + torch.rand(1200, 2, 1, generator=generator)).mul(directions[chosen]).sum(1).add(2).to(torch.bfloat16)


@pytest.fixture
def recipe(sae):
    return sae.Recipe(atoms=24, active=2, batch=100, steps=60, warmup=5, lr=0.02)


def silent(_: str) -> None:
    pass


def test_an_interrupted_training_ends_where_a_whole_one_does(sae, read, recipe, tmp_path):
    def interrupting(said: str) -> None:
        if said.startswith("step 25 "):  # in the third round over the tokens
            raise KeyboardInterrupt

    whole, curve, _ = sae.train(read, recipe, tmp_path / "whole.pt", 25, silent)
    with pytest.raises(KeyboardInterrupt):
        sae.train(read, recipe, tmp_path / "parts.pt", 25, interrupting)
    parts, again, _ = sae.train(read, recipe, tmp_path / "parts.pt", 25, silent)
    assert curve == again
    assert [one["step"] for one in curve] == [25, 50, 60]
    for name, value in whole.weights().items():
        assert torch.equal(value, parts.weights()[name]), name


def test_what_was_learnt_opens_and_explains_more_than_it_did_at_first(sae, read, recipe, tmp_path):
    model, curve, _ = sae.train(read, recipe, tmp_path / "learning.pt", 10, silent)
    sae.write(model, recipe, HookPoint(16), "a model", tmp_path / "made")
    opened, h = open_sae(tmp_path / "made"), read.float()
    assert (opened.point, opened.atoms) == (HookPoint(16), 24)
    left = (h - opened.reconstruct(h)).square().sum() / (h - h.mean(0)).square().sum()
    assert left < 0.5
    assert curve[-1]["loss"] < curve[0]["loss"]


def test_a_checkpoint_of_another_recipe_is_not_gone_on_from(sae, read, recipe, tmp_path):
    longer = sae.Recipe(**{**sae.asdict(recipe), "steps": 20, "seed": 1})
    sae.train(read, longer, tmp_path / "learning.pt", 10, silent)
    _, curve, _ = sae.train(read, recipe, tmp_path / "learning.pt", 30, silent)
    assert [one["step"] for one in curve] == [30, 60]
