"""A model whose blocks lie on several devices or on disk is steered as the whole one is."""

from __future__ import annotations

import pytest
import torch

from tillerman.core.hookpoint import BLOCK_SITES, HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.core.rows import Row
from tillerman.models.batches import batches
from tillerman.models.capture import capture
from tillerman.models.cells import GridCell
from tillerman.models.grid import branch_fault, grid_scores
from tillerman.models.opened import open_model
from tillerman.steering.scopes import meant_in
from tillerman.steering.steer import steer

from .. import tiny

accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed: make test installs it")

IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
MAP = {
    "model.embed_tokens": "cpu",
    "model.layers.0": "cpu",
    "model.layers.1": "disk",
    "model.layers.2": "disk",
    "model.norm": "cpu",
    "model.rotary_emb": "cpu",
    "lm_head": "cpu",
}


@pytest.fixture(params=["loaded", "dispatched"])
def split(request, tmp_path):
    """Offloaded while it is read from a folder, or taken apart afterwards."""
    whole = tiny.new_model("llama")
    if request.param == "dispatched":
        model = accelerate.dispatch_model(whole, MAP, offload_dir=tmp_path / "off", main_device="cpu")
    else:
        whole.save_pretrained(tmp_path / "model")
        kind = type(whole)
        model = kind.from_pretrained(
            tmp_path / "model", device_map=MAP, offload_folder=tmp_path / "off", dtype=torch.float32
        ).eval()
    assert next(model.model.layers[1].parameters()).device.type == "meta"
    return open_model(model, tiny.tokenizer())


@pytest.mark.parametrize("site", BLOCK_SITES)
def test_steered_logits_are_those_of_the_whole_model(split, site):
    plan = Intervention(tiny.vector(HookPoint(0, site), HookPoint(2, site)), 1.5)
    logits = []
    for model in (tiny.model("llama"), split.model):
        with torch.no_grad(), steer(model, plan) as steered:
            logits.append(model(input_ids=IDS).logits)
        assert steered.receipt.applied[0].touched
    assert torch.allclose(*logits, atol=1e-4)


def test_capture_and_branches_agree_with_the_whole_model(split):
    rows = [Row(t) for t in tiny.random_rows([5, 9, 7])]
    points = [HookPoint(1), HookPoint(2)]
    ours, theirs = capture(split, rows, points), capture(tiny.opened(), rows, points)
    assert all(torch.allclose(ours[p], theirs[p], atol=1e-4) for p in points)
    assert branch_fault(split) is None
    (batch,) = batches([row.tokens for row in rows], pad=0)
    cells = [GridCell(p, tiny.vector(p).directions[p], 1.0) for p in points]
    scores = [
        grid_scores(opened, batch, [(20, 30)] * 3, cells, meant_in(Scope("last"), batch))
        for opened in (split, tiny.opened())
    ]
    assert torch.allclose(*scores, atol=1e-3)


def test_the_fingerprint_is_that_of_the_whole_model(split):
    assert split.fingerprint == tiny.opened().fingerprint


def test_generation_is_steered_as_by_the_whole_model(split):
    plan, said = Intervention(tiny.vector(2), 1.0, scope=Scope("generated")), []
    for model in (tiny.model("llama"), split.model):
        with steer(model, plan):
            out = model.generate(input_ids=IDS, max_new_tokens=5, min_new_tokens=5, do_sample=False, pad_token_id=0)
        said.append(out.tolist())
    assert said[0] == said[1]


EVERYTHING = {
    "llama": ("model.embed_tokens", "model.layers", "model.norm", "model.rotary_emb", "lm_head"),
    "gpt2": ("transformer.wte", "transformer.wpe", "transformer.drop", "transformer.h", "transformer.ln_f", "lm_head"),
}


@pytest.fixture(params=EVERYTHING)
def away(request, tmp_path):
    """The whole model, and the same with every weight on disk; gpt2 shares its head's with the embeddings."""
    whole = tiny.new_model(request.param)
    whole.save_pretrained(tmp_path / "model")
    places = dict.fromkeys(EVERYTHING[request.param], "disk")
    model = (
        type(whole)
        .from_pretrained(tmp_path / "model", device_map=places, offload_folder=tmp_path / "off", dtype=torch.float32)
        .eval()
    )
    assert all(weight.is_meta for weight in model.parameters())
    return tiny.opened(request.param), open_model(model, tiny.tokenizer())


def test_a_model_with_every_weight_on_disk_takes_its_inputs_where_it_computes(away):
    assert away[1].device == torch.device("cpu")


def test_weights_that_are_shared_are_hashed_once_on_disk_too(away):
    assert away[0].fingerprint == away[1].fingerprint


def test_a_model_with_every_weight_on_disk_is_steered_read_and_searched_as_the_whole_one(away):
    plan, rows = Intervention(tiny.vector(0, 2), 1.5), [Row(t) for t in tiny.random_rows([5, 9, 7])]
    (batch,) = batches([row.tokens for row in rows], pad=0)
    cells = [GridCell(p, tiny.vector(p).directions[p], 1.0) for p in (HookPoint(1), HookPoint(2))]
    logits, seen, scores = [], [], []
    for opened in away:
        with torch.no_grad(), steer(opened.model, plan):
            logits.append(opened.model(input_ids=IDS).logits)
        seen.append(capture(opened, rows, [HookPoint(2)])[HookPoint(2)])
        scores.append(grid_scores(opened, batch, [(20, 30)] * 3, cells, meant_in(Scope("last"), batch)))
    assert branch_fault(away[1]) is None
    for whole, split in (logits, seen, scores):
        assert torch.allclose(whole, split, atol=1e-5)
    with torch.no_grad():
        assert not torch.allclose(logits[1], away[0].model(input_ids=IDS).logits, atol=1e-2)


def test_weights_that_wait_on_the_cpu_are_no_obstacle():
    opened = open_model(accelerate.cpu_offload(tiny.new_model(), torch.device("cpu")), tiny.tokenizer())
    assert opened.device == torch.device("cpu")
    assert opened.fingerprint == tiny.opened().fingerprint
    assert branch_fault(opened) is None
