"""A vector inside ordinary weights does what ``steer`` does, and what weights cannot say is refused or measured."""

from __future__ import annotations

import pytest
import torch
import transformers as tf

from tillerman.core.artefact import Artefact
from tillerman.core.cell import Cell
from tillerman.core.errors import ModelError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Scope
from tillerman.core.rows import Row
from tillerman.exchange.baking import baked
from tillerman.exchange.exporting import ensure_said, exported, needs_model
from tillerman.exchange.importing import whole
from tillerman.exchange.items import exam_of
from tillerman.exchange.nearest import change_cost, nearest
from tillerman.exchange.parity import Parity, compared, ensure_same, parity
from tillerman.exchange.reading import read_file
from tillerman.models.opened import OpenModel
from tillerman.steering.steer import steer

from .. import planted, tiny

PROMPTS = [(1, 5, 9, 17, 40, 3), (1, 30, 31, 8)]


def made(opened: OpenModel, *points: HookPoint | int, operator: str = "add", strength: float = 0.7) -> Artefact:
    width = opened.parts.width_at(points[0]) if isinstance(points[0], HookPoint) else opened.parts.width
    vector = tiny.vector(*points, width=width)
    return Artefact(vector, Cell(vector.points, strength, operator))


@pytest.mark.parametrize(
    ("family", "points", "operator"),
    [
        ("llama", (0, 2), "add"),
        ("llama", (HookPoint(1, "resid_pre"), HookPoint(1, "mlp_out")), "add"),
        ("llama", (HookPoint(1, "attn_out"), HookPoint(2, "heads")), "add"),
        ("llama", (HookPoint(1, "attn_out"), HookPoint(1, "mlp_out")), "ablate"),
        ("gpt2", (HookPoint(1, "attn_out"), HookPoint(2, "resid_post")), "add"),
        ("gpt2", (HookPoint(1, "attn_out"), HookPoint(1, "mlp_out")), "ablate"),
        ("gpt_neox", (1,), "add"),
    ],
    ids=str,
)
def test_a_baked_model_does_what_steer_does_and_the_given_one_is_not_changed(family, points, operator):
    opened = tiny.opened(family)
    before = {name: tensor.clone() for name, tensor in opened.model.state_dict().items()}
    artefact = made(opened, *points, operator=operator)
    found = parity(opened, artefact.plan(), baked(opened, artefact), PROMPTS)
    assert found.largest < 1e-4 and found.same == 1 and found.moved > 100 * found.kl and found.holds
    after = opened.model.state_dict()
    assert set(after) == set(before) and all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_baked_folder_needs_no_tillerman_and_comes_back_as_the_artefact(tmp_path):
    opened = tiny.opened("llama")
    data = planted.labelled(0, 6, 0.5)
    artefact = made(opened, 0, 2)
    done = exported("hf-model", artefact, tmp_path / "baked", opened, data)
    assert done.parity is not None and done.parity.holds and not done.changed
    plain = tf.AutoModelForCausalLM.from_pretrained(tmp_path / "baked", dtype=torch.float32).eval()
    tokens = torch.tensor([PROMPTS[0]])
    with torch.no_grad():
        alone = plain(tokens).logits
        with steer(opened, artefact, allow_mismatch=True):
            steered = opened.model(tokens).logits
    assert (alone - steered).abs().max() < 1e-4
    back = whole(read_file(tmp_path / "baked"))
    assert back is not None and back.cell == artefact.cell


def test_a_peft_adapter_does_what_steer_does(tmp_path):
    peft = pytest.importorskip("peft")
    for family, points, operator in (
        ("qwen2", (0, 2), "add"),
        ("qwen2", (HookPoint(1, "attn_out"), HookPoint(1, "mlp_out")), "ablate"),
    ):
        opened = tiny.fresh_opened(family)
        artefact = made(opened, *points, operator=operator)
        exported("peft", artefact, tmp_path / operator, opened, planted.labelled(0, 6, 0.5))
        tokens = torch.tensor([PROMPTS[0]])
        with torch.no_grad():
            with steer(opened, artefact, allow_mismatch=True):
                steered = opened.model(tokens).logits
            adapted = peft.PeftModel.from_pretrained(opened.model, tmp_path / operator).eval()
            assert (adapted(tokens).logits - steered).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("family", "point", "said"),
    [
        ("gemma2", HookPoint(1), "a norm or a factor stands between"),
        ("mixtral", HookPoint(1), "no single linear map writes there"),
        ("qwen2", HookPoint(1), "has no bias at model.layers.1.mlp.down_proj.*export peft"),
        ("llama", HookPoint(0, "resid_pre"), "no single linear map"),
    ],
)
def test_a_block_that_has_no_place_for_a_bias_is_refused_by_name(family, point, said):
    opened = tiny.opened(family)
    with pytest.raises(UsageError, match=said):
        baked(opened, made(opened, point))


def test_what_weights_cannot_say_is_refused_by_name():
    vector = tiny.vector(1)
    for cell, said in (
        (Cell(vector.points, 1.0, "ablate"), r"ablate at layers\.1\.resid_post"),
        (Cell(vector.points, 1.0, "clamp"), "operator 'clamp'"),
        (Cell(vector.points, 1.0, scope=Scope("generated")), "scope 'generated'"),
    ):
        for form in ("hf-model", "peft"):
            with pytest.raises(UsageError, match=rf"{form} cannot say {said}.*--allow-change"):
                ensure_said(form, Artefact(vector, cell))
    assert needs_model("hf-model", Artefact(vector, Cell.of(vector)))
    assert not needs_model("gguf", Artefact(vector, Cell.of(vector)))


def test_a_bake_that_does_something_else_is_refused():
    fine, off = Parity(4, 1e-9, 1e-4, 1.0, 0.2), Parity(4, 0.1, 2.0, 0.5, 0.2)
    ensure_same(fine, "it")
    with pytest.raises(ModelError, match=r"KL 0\.1 nats per token.*steering itself makes 0\.2"):
        ensure_same(off, "it")
    p = torch.tensor([[0.5, 0.5]]).double().log()
    q = torch.tensor([[0.9, 0.1]]).double().log()
    found = compared(q, p, p)
    assert found.kl == 0 < found.moved and found.same == 1


def test_a_change_is_measured_before_anything_is_written_and_both_are_told(tmp_path):
    """Of a scope that a file cannot say: the same items unsteered, as fitted and as exported."""
    opened = tiny.opened("llama")
    data = planted.labelled(0, 8, 0.5)
    vector = tiny.vector(1)
    artefact = Artefact(vector, Cell(vector.points, 1.0, scope=Scope("positions", (0,))))
    with pytest.raises(UsageError, match="cannot say scope"):
        exported("torch", artefact, tmp_path / "v.pt", opened, data)
    assert not (tmp_path / "v.pt").exists()
    done = exported("torch", artefact, tmp_path / "v.pt", opened, data, allow_change=True)
    assert done.cost is not None and done.cost.n == 8 and done.artefact.cell.scope == Scope()
    assert len({done.cost.plain.lead, done.cost.fitted.lead, done.cost.exported.lead}) == 3
    assert done.cost.difference.value == pytest.approx(done.cost.exported.lead - done.cost.fitted.lead)
    assert done.changed == ("scope 'positions:0' (every token is steered)",)
    back = whole(read_file(tmp_path / "v.pt"))
    assert back is not None and back.cell == artefact.cell


def test_the_nearest_addition_is_the_mean_change_of_the_operator():
    opened = tiny.opened("llama")
    rows = [Row(tokens) for tokens in PROMPTS]
    artefact = made(opened, 1, operator="ablate", strength=1.0)
    near = nearest(opened, artefact, rows, ("resid_post",))
    (v,), u = near.steering.directions.values(), artefact.steering.directions[HookPoint(1)]
    along = torch.nn.functional.cosine_similarity(v, u, dim=0)
    assert near.cell.operator == "add" and near.cell.strength == 1 and abs(float(along)) == pytest.approx(1, abs=1e-5)


def test_a_site_that_a_format_does_not_have_moves_to_the_blocks_output():
    opened = tiny.opened("llama")
    at = (HookPoint(0), HookPoint(1, "attn_out"), HookPoint(2, "resid_pre"))
    artefact = made(opened, *at)
    near = nearest(opened, artefact, [], ("resid_post",), first=1)
    assert near.steering.points == (HookPoint(1),) and near.cell.strength == 0.7
    given = artefact.steering.directions
    assert torch.allclose(near.steering.directions[HookPoint(1)], sum(given[point] for point in at))


def test_no_change_costs_nothing():
    opened = tiny.opened("llama")
    data = planted.labelled(0, 6, 0.5)
    plan = made(opened, 1).plan()
    exam = exam_of(opened, tiny.vector(1).provenance, data)
    cost = change_cost(exam, plan, plan)
    assert abs(cost.difference.value) < 1e-5 < abs(cost.exported.lead - cost.plain.lead)
