"""``model.vector``: directions of one's own, checked against the model and measured in units of its stream."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tillerman
from tillerman.core.errors import FitError, HookPointError, MismatchError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.models.handmade import _PLAIN

from .. import tiny

ONE = [1.0] * tiny.WIDTH
IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.mark.parametrize("key", [1, HookPoint(1), "layers.1.resid_post", "1"])
@pytest.mark.parametrize("values", [ONE, np.ones(tiny.WIDTH), torch.ones(tiny.WIDTH, dtype=torch.bfloat16)])
def test_a_key_is_a_layer_or_a_hook_point_and_a_value_any_row_of_numbers(opened, key, values):
    vector = opened.vector({key: values}, name="mine")
    assert vector.points == (HookPoint(1),)
    assert torch.equal(vector.directions[HookPoint(1)], torch.ones(tiny.WIDTH))


def test_it_steers_the_model_it_was_made_for_and_is_refused_by_another(opened):
    plain = opened.model(input_ids=IDS).logits
    vector = opened.vector({1: ONE, "layers.2.attn_out": ONE}, name="mine")
    with tillerman.steer(opened, tillerman.Intervention(vector, 3.0)) as steered:
        assert not torch.equal(opened.model(input_ids=IDS).logits, plain)
    assert steered.receipt.warnings == ()
    with pytest.raises(MismatchError, match="weights"):
        tillerman.steer(tiny.opened("gpt2"), tillerman.Intervention(vector))


def test_it_says_what_it_is(opened):
    made = opened.vector({"layers.2.attn_out": ONE}, name="mine").provenance
    assert (made.method, made.data_name, made.model_id, made.site) == ("hand-made", "mine", opened.id, "attn_out")
    assert made.versions["torch"] == torch.__version__ and made.date


def test_the_streams_norm_is_the_mean_over_the_tokens_of_the_sentences_but_the_first(opened):
    norms = []
    for text in _PLAIN:
        ids = torch.tensor([opened.tokenizer(text)["input_ids"]])
        states = tiny.hidden_states(opened.model, ids)[2]
        norms.append(states[0, 1:].norm(dim=-1))
    vector = opened.vector({1: ONE}, name="mine")
    assert vector.stream_norms[HookPoint(1)] == pytest.approx(float(torch.cat(norms).mean()), rel=1e-4)


def test_every_family_has_a_length_of_its_stream(family):
    opened = tiny.opened(family)
    assert opened.vector({1: ONE}, name="mine").dose(HookPoint(1), 1.0) > 0


@pytest.mark.parametrize(
    ("directions", "error", "said"),
    [
        ({}, UsageError, r"model.vector\({layer: direction}, name=...\)"),
        ({9: ONE}, HookPointError, r"layers.9.resid_post: the model has layers 0..2"),
        ({True: ONE}, HookPointError, "True is no hook point"),
        ({1: ONE, "layers.1.resid_post": ONE}, UsageError, r"layers.1.resid_post: given twice"),
        ({1: [1.0, 2.0]}, MismatchError, rf"expected a direction of shape \[{tiny.WIDTH}\], got \[2\]"),
        ({1: [ONE]}, MismatchError, rf"got \[1, {tiny.WIDTH}\]"),
        ({1: "abc"}, FitError, "expected a tensor, an array or a list of numbers"),
        ({1: [0.0] * tiny.WIDTH}, FitError, "a direction of length 0 steers nothing"),
        ({1: [float("nan")] * tiny.WIDTH}, FitError, "finite"),
    ],
)
def test_what_cannot_be_a_vector_of_this_model_is_refused(opened, directions, error, said):
    with pytest.raises(error, match=said):
        opened.vector(directions, name="mine")
