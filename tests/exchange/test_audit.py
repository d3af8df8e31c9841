"""What was baked into a model is found again, with its base and without, and a clean model is not accused."""

from __future__ import annotations

import copy
import json

import pytest
import torch
import transformers as tf
from typer.testing import CliRunner

from tillerman.cli.app import app
from tillerman.core.artefact import Artefact
from tillerman.core.cell import Cell
from tillerman.core.errors import MismatchError, ModelError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.exchange.audit.auditing import found_artefacts, weight_audit
from tillerman.exchange.audit.maps import writing_maps
from tillerman.exchange.baking import baked
from tillerman.exchange.parity import parity
from tillerman.models.opened import OpenModel, open_model

from .. import tiny

PROMPTS = [(1, 5, 9, 17, 40, 3), (1, 30, 31, 8)]
EVERYWHERE = tuple(HookPoint(layer, site) for layer in range(tiny.LAYERS) for site in ("attn_out", "mlp_out"))


def made(opened: OpenModel, *points: HookPoint | int, operator: str = "add", strength: float = 0.7) -> Artefact:
    vector = tiny.vector(*points, width=opened.parts.width)
    return Artefact(vector, Cell(vector.points, strength, operator))


def with_baked(opened: OpenModel, artefact: Artefact) -> OpenModel:
    return open_model(baked(opened, artefact), opened.tokenizer)


def along(one: torch.Tensor, other: torch.Tensor) -> float:
    return abs(float(torch.nn.functional.cosine_similarity(one, other, dim=0)))


def with_biases(opened: OpenModel) -> OpenModel:
    """As trained ones are: every block has some, of one size."""
    causal = copy.deepcopy(opened.parts.causal)
    for number, one in enumerate(writing_maps(opened.parts)):
        bias = causal.get_submodule(one.name.rpartition(".")[0]).bias
        bias.data = 0.1 * torch.randn(bias.shape, generator=torch.Generator().manual_seed(number))
    return open_model(causal, opened.tokenizer)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_an_added_vector_is_found_in_the_bias_where_it_lies_and_does_the_same_to_the_base(family):
    opened = tiny.opened(family)
    artefact = made(opened, HookPoint(1, "mlp_out"), HookPoint(2, "attn_out"))
    steered = with_baked(opened, artefact)
    for base in (opened, None):
        found = weight_audit(steered, base)
        assert {one.point for one in found.added} == set(artefact.steering.points) and not found.clean
        for one in found.added:
            assert torch.allclose(one.vector, 0.7 * artefact.steering.directions[one.point], atol=1e-5) and one.sure
        assert not (found.removed or found.absent or found.other) and min(dose or 0 for dose in found.doses) > 0
    ((name, back),) = found_artefacts(weight_audit(steered, opened), opened)
    assert name == "added" and parity(opened, back.plan(), steered.model, PROMPTS).largest < 1e-4


@pytest.mark.parametrize(("family", "strength"), [("llama", 1.0), ("gpt2", 1.0), ("llama", 0.4), ("gemma2", 1.0)])
def test_a_removed_direction_is_found_against_the_base_with_how_much_of_it_is_gone(family, strength):
    opened = tiny.opened(family)
    u = torch.nn.functional.normalize(torch.randn(tiny.WIDTH, generator=torch.Generator().manual_seed(5)), dim=0)
    causal = copy.deepcopy(opened.parts.causal)
    for one in writing_maps(open_model(causal, opened.tokenizer).parts):
        for w in one.matrices:  # views of the copy's weights
            w -= strength * torch.outer(u, u @ w)
    steered = open_model(causal.to(torch.bfloat16).float(), opened.tokenizer)
    base = open_model(copy.deepcopy(opened.parts.causal).to(torch.bfloat16).float(), opened.tokenizer)
    found = weight_audit(steered, base)
    (gone,) = found.removed
    assert len(gone.changes) == len(EVERYWHERE) and not (found.added or found.rank_one or found.other)
    assert gone.amounts == pytest.approx((strength, strength), abs=0.02) and along(gone.direction, u) > 0.999


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_an_artefact_that_removes_comes_out_of_the_weights_as_one_that_does_the_same(family):
    opened = tiny.opened(family)
    artefact = made(opened, *EVERYWHERE, operator="ablate", strength=1.0)
    same = artefact.steering.directions[EVERYWHERE[0]]
    vector = opened.vector(dict.fromkeys(EVERYWHERE, same), name="one direction")
    artefact = Artefact(vector, Cell(vector.points, 1.0, "ablate"))
    steered = with_baked(opened, artefact)
    ((name, back),) = found_artefacts(weight_audit(steered, opened), opened)
    assert name == "removed-1" and parity(opened, back.plan(), steered.model, PROMPTS).largest < 1e-3
    (absent,) = weight_audit(steered).absent
    assert (
        set(absent.names) == {one.name for one in writing_maps(opened.parts)} and along(absent.direction, same) > 0.99
    )
    assert absent.share < 1e-6 < 0.1 < absent.least and not absent.uniform


def test_two_directions_that_were_removed_together_are_two_without_a_base():
    opened = tiny.opened("llama")
    directions = torch.linalg.qr(torch.randn(tiny.WIDTH, 2, generator=torch.Generator().manual_seed(1))).Q.T
    causal = copy.deepcopy(opened.parts.causal)
    for one in writing_maps(open_model(causal, opened.tokenizer).parts):
        for w in one.matrices:
            w -= directions.T @ (directions @ w)
    found = weight_audit(open_model(causal, opened.tokenizer))
    spanned = torch.stack([one.direction for one in found.absent])
    assert len(spanned) == 2 and (directions @ spanned.T).square().sum() == pytest.approx(2, abs=1e-3)


def test_one_wide_map_without_a_direction_is_enough_and_a_square_one_is_not():
    opened = tiny.opened("llama")
    of_mlp = weight_audit(with_baked(opened, made(opened, HookPoint(1, "mlp_out"), operator="ablate", strength=1.0)))
    assert [one.names for one in of_mlp.absent] == [("model.layers.1.mlp.down_proj.weight",)]
    of_heads = weight_audit(with_baked(opened, made(opened, HookPoint(1, "attn_out"), operator="ablate", strength=1.0)))
    assert not of_heads.absent


@pytest.mark.parametrize(
    "family", ["llama", "gpt2", "gpt_neox", "qwen2", "gemma2", "mixtral", "gpt_oss", "deepseek_v3"]
)
def test_a_clean_model_is_not_accused(family):
    opened = tiny.opened(family)
    found = weight_audit(opened)
    assert found.clean and found.maps >= 2 * tiny.LAYERS
    again = weight_audit(opened, opened)
    assert again.clean and not (again.other or again.template)


def test_biases_as_training_leaves_them_are_not_accused_and_an_outlier_is_only_possible():
    plain = with_biases(tiny.opened("gpt2"))
    assert weight_audit(plain).clean
    found = weight_audit(with_baked(plain, made(plain, HookPoint(1, "mlp_out"), strength=5.0)))
    assert [(one.point, one.sure) for one in found.added] == [(HookPoint(1, "mlp_out"), False)]


def test_biases_by_a_flag_that_is_usually_off_are_only_possible_where_every_block_has_them():
    opened = tiny.opened("llama")
    every = tuple(HookPoint(layer, "mlp_out") for layer in range(tiny.LAYERS))
    found = weight_audit(with_baked(opened, made(opened, *every)))
    assert len(found.added) == tiny.LAYERS and not any(one.sure for one in found.added)


def test_the_pilot_is_clean_and_a_vector_baked_into_it_is_found(tmp_path):
    pilot = open_model("pilot", dtype="float32")
    assert weight_audit(pilot).clean
    vector = pilot.vector({HookPoint(4, "mlp_out"): torch.ones(pilot.parts.width)}, name="mine")
    steered = with_baked(pilot, Artefact(vector, Cell(vector.points, 0.5)))
    (one,) = weight_audit(steered).added
    assert one.point == HookPoint(4, "mlp_out") and one.sure


def test_a_trained_difference_is_told_as_such_and_a_lora_of_rank_one_is_no_removal():
    opened = tiny.opened("llama")
    causal = copy.deepcopy(opened.parts.causal)
    weights = dict(causal.named_parameters())
    generator = torch.Generator().manual_seed(3)
    for name in ("model.layers.0.mlp.up_proj.weight", "model.layers.0.input_layernorm.weight"):
        weights[name].data += 0.01 * torch.randn(weights[name].shape, generator=generator)
    low = weights["model.layers.2.mlp.down_proj.weight"].data
    low += torch.outer(torch.randn(low.shape[0], generator=generator), torch.randn(low.shape[1], generator=generator))
    found = weight_audit(open_model(causal, opened.tokenizer), opened)
    assert {one.name.split(".", 2)[2] for one in found.other} == {"0.mlp.up_proj.weight", "0.input_layernorm.weight"}
    assert [one.name for one in found.rank_one] == ["model.layers.2.mlp.down_proj.weight"] and not found.removed


def test_a_direction_that_is_no_longer_read_is_told_apart():
    opened = tiny.opened("llama")
    causal = copy.deepcopy(opened.parts.causal)
    w = dict(causal.named_parameters())["model.layers.1.mlp.up_proj.weight"].data
    u = torch.nn.functional.normalize(torch.arange(1.0, tiny.WIDTH + 1), dim=0)
    w -= torch.outer(w @ u, u)
    (gone,) = weight_audit(open_model(causal, opened.tokenizer), opened).removed
    (change,) = gone.changes
    assert change.reads and change.amount == pytest.approx(1, abs=1e-4) and along(gone.direction, u) > 0.999


def test_what_cannot_be_audited_is_refused_by_name():
    with pytest.raises(MismatchError, match=r"is 'llama' with 3 blocks of width 32.*is 'gpt2'.*no base"):
        weight_audit(tiny.opened("llama"), tiny.opened("gpt2"))
    peft = pytest.importorskip("peft")
    opened = tiny.fresh_opened("llama")
    adapted = peft.get_peft_model(opened.parts.causal, peft.LoraConfig(r=2, target_modules=["o_proj"])).eval()
    with pytest.raises(ModelError, match=r"an adapter lies beside the weights.*merge_and_unload"):
        weight_audit(open_model(adapted, opened.tokenizer))


def test_the_command_says_what_it_found_what_it_cannot_see_and_writes_artefacts(tmp_path):
    opened = tiny.opened("llama")
    folder = tmp_path / "steered"
    steered = baked(opened, made(opened, HookPoint(1, "mlp_out")))
    steered.save_pretrained(folder)
    opened.tokenizer.save_pretrained(folder)
    run = CliRunner().invoke(app, ["audit", str(folder), "--out", str(tmp_path / "found")], env={"COLUMNS": "200"})
    assert run.exit_code == 0, run.output
    assert "layers.1.mlp_out" in run.output and "exactly 0 in the other 2 blocks" in run.output
    assert "not seen without --base" in run.output and (tmp_path / "found" / "added.safetensors").is_file()
    told = json.loads(CliRunner().invoke(app, ["audit", str(folder), "--base", str(folder), "--json"]).stdout)
    assert told["clean"] and told["writing_matrices"] == 2 * tiny.LAYERS and not told["other"]
    assert isinstance(tf.AutoConfig.from_pretrained(folder), tf.LlamaConfig)


def test_the_audit_of_a_server_has_another_command_now():
    with pytest.raises(UsageError, match=r"audit of a \.jsonl file is gone; write: tillerman audit-log FILE"):
        CliRunner().invoke(app, ["audit", "audit.jsonl"], catch_exceptions=False)
    assert CliRunner().invoke(app, ["audit-log", "--help"]).exit_code == 0
