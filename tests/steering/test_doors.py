"""What ``steer`` takes: an opened model or a transformers model, a plan, one intervention or an artefact."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

import tillerman
from tillerman.core.artefact import Artefact
from tillerman.core.cell import Cell
from tillerman.core.errors import MismatchError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention
from tillerman.steering.steer import steer, steer_rows

from .. import tiny

IDS = torch.tensor([[5, 6, 7, 8], [9, 8, 7, 6]])


def _own(opened, **changes):
    made = replace(
        tiny.provenance(opened.fingerprint),
        layers=opened.layers,
        tokenizer_hash=opened.tokenizer_hash,
        template_hash=opened.template_hash,
    )
    return replace(tiny.vector(1), provenance=replace(made, **changes))


def _logits(opened, block=None):
    with block or nullcontext():
        return opened.model(input_ids=IDS).logits


@pytest.mark.parametrize("rows", [False, True], ids=["one plan", "a plan per row"])
def test_an_opened_model_is_steered_as_the_model_in_it(opened, rows):
    plan = (Intervention(_own(opened), 2.0),)
    door, what = (steer_rows, (plan, plan)) if rows else (steer, plan)
    inner = _logits(opened, door(opened.model, what))
    assert torch.equal(_logits(opened, door(opened, what)), inner)
    assert not torch.equal(inner, _logits(opened))


def test_a_model_and_tokenizer_that_were_loaded_already_are_steered_and_left_as_they_were():
    model = tiny.new_model()
    opened = tillerman.open_model(model, tiny.tokenizer())
    assert opened.model is model
    before = _logits(opened)
    steered = _logits(opened, steer(opened, (Intervention(_own(opened), 2.0),)))
    assert not torch.equal(steered, before) and torch.equal(model(input_ids=IDS).logits, before)


@pytest.mark.parametrize("rows", [False, True], ids=["one plan", "a plan per row"])
def test_a_vector_of_another_model_is_refused_and_says_how_to_allow_it(opened, rows):
    mine, other = Intervention(_own(opened), 1.0), Intervention(_own(opened, model_fingerprint="0" * 16), 1.0)
    door, what = (steer_rows, ((mine,), (mine, other))) if rows else (steer, (mine, other))
    with pytest.raises(MismatchError, match=r"weights: artefact of .* has 0000.*allow_mismatch=True"):
        door(opened, what)
    with door(opened, what, allow_mismatch=True, warnings=("mine",)) as steered:
        opened.model(input_ids=IDS)
    assert steered.receipt.warnings[0] == "mine"
    assert [line.split(":")[0] for line in steered.receipt.warnings[1:]] == ["weights"]
    with door(opened.model, what) as steered:  # allowed once on this model
        opened.model(input_ids=IDS)
    assert steered.receipt.warnings == ()


@pytest.mark.parametrize("rows", [False, True], ids=["one plan", "a plan per row"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "in another module"])
def test_a_transformers_model_refuses_vectors_of_other_weights(rows, wrapped):
    opened = tiny.fresh_opened()
    model = torch.nn.Sequential(opened.model) if wrapped else opened.model
    plan = (Intervention(_own(opened, model_fingerprint="0" * 16), 1.0),)
    door, what = (steer_rows, (plan,)) if rows else (steer, plan)
    with pytest.raises(MismatchError, match=r"weights: artefact of tiny has 0000.*this LlamaForCausalLM has"):
        door(model, what)
    with door(model, what, allow_mismatch=True) as steered:
        opened.model(input_ids=IDS[:1])
    assert [line.split(":")[0] for line in steered.receipt.warnings] == ["weights"]
    with pytest.raises(MismatchError):  # allowed for that block
        door(model, what)


def test_a_loaded_artefact_is_refused_by_another_model_of_the_same_shape(tmp_path):
    opened, other = tiny.fresh_opened(), tiny.new_model(seed=1)
    tillerman.save(tmp_path / "a.safetensors", Artefact(_own(opened), Cell((HookPoint(1),), 2.0)))
    artefact = tillerman.load(tmp_path / "a.safetensors")
    for what in (artefact, artefact.plan(), artefact.plan()[0]):
        steer(opened.model, what)
        with pytest.raises(MismatchError, match="does not belong to this model"):
            steer(other, what)


def test_weights_that_change_are_another_model_and_a_type_or_a_copy_is_not():
    opened = tiny.fresh_opened()
    opened.model.to(torch.bfloat16)
    plan = (Intervention(_own(tiny.OpenModel(opened.model, opened.tokenizer, "x", opened.parts)), 1.0),)
    steer(opened.model, plan)
    steer(opened.model.to(torch.float32), plan)
    steer(copy.deepcopy(opened.model), plan)
    with torch.no_grad():
        opened.model.model.layers[0].mlp.up_proj.weight += 1
    with pytest.raises(MismatchError, match="weights"):
        steer(opened.model, plan)


@pytest.mark.parametrize("fingerprint", ["", "by hand", "own", "0" * 15])
def test_vectors_made_by_hand_without_a_fingerprint_fit_every_model_of_their_shape(opened, fingerprint):
    by_hand = tiny.vector(1, size=2.0)
    plan = (Intervention(replace(by_hand, provenance=tiny.provenance(fingerprint)), 1.0),)
    assert not torch.equal(_logits(opened, steer(opened.model, plan)), _logits(opened))
    if not fingerprint:
        assert not torch.equal(_logits(opened, steer(opened, plan)), _logits(opened))


def test_a_vector_for_more_layers_cannot_be_allowed(opened):
    plan = (Intervention(_own(opened, layers=99), 1.0),)
    with pytest.raises(MismatchError, match="layers: artefact of") as raised:
        steer(opened, plan, allow_mismatch=True)
    assert "allow_mismatch" not in str(raised.value)


def test_an_artefact_stands_for_its_plan_and_one_intervention_for_a_plan_of_one(opened):
    artefact = Artefact(_own(opened), Cell((HookPoint(1),), 2.0))
    plan = artefact.plan()
    wanted = _logits(opened, steer(opened, plan))
    assert torch.equal(_logits(opened, steer(opened, artefact)), wanted)
    assert torch.equal(_logits(opened, steer(opened, plan[0])), wanted)
