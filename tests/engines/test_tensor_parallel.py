"""A model split over two processes is steered as the whole one is, alike on both ranks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention
from tillerman.core.steerings.vector import SteeringVector
from tillerman.models.families import anatomy
from tillerman.models.opened import OpenModel
from tillerman.steering.steer import steer

from .. import tiny

pytest.importorskip("accelerate", reason="accelerate is not installed: make test installs it")

WORKER = Path(__file__).with_name("parallel_worker.py")
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "qwen3_moe"])
def test_two_ranks_give_the_steered_logits_of_the_whole_model(family, tmp_path):
    model = tiny.new_model(family)
    model.save_pretrained(tmp_path / "model")
    points = [HookPoint(1, site) for site in ("resid_pre", "attn_out", "mlp_out", "resid_post")]
    if family in tiny.MIXTURES:
        points += [HookPoint(1, site) for site in ("router", "router_weights")]
    vectors = {p: tiny.vector(p, width=tiny.width_at(family, p.site)).directions[p] for p in points}
    given = {str(p): v for p, v in vectors.items()} | {"layers.1.heads": torch.ones(32)}
    save_file(given | {"ids": IDS}, tmp_path / "given.safetensors")

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(WORKER)]
    run = subprocess.run([*command, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    ranks = [load_file(tmp_path / f"out.{rank}.safetensors") for rank in range(2)]

    for name in (*map(str, points), "plain"):
        assert torch.equal(ranks[0][name], ranks[1][name]), name
    with torch.no_grad():
        assert torch.allclose(ranks[0]["plain"], model(input_ids=IDS).logits, atol=1e-4)
    for point, direction in vectors.items():
        vector = SteeringVector({point: direction}, {point: 1.0}, tiny.provenance())
        with torch.no_grad(), steer(model, Intervention(vector, 1.5)):
            whole = model(input_ids=IDS).logits
        assert torch.allclose(ranks[0][str(point)], whole, atol=2e-4, rtol=1e-4), point
    expected = OpenModel(model, tiny.tokenizer(), "tiny", anatomy(model)).fingerprint
    assert {(tmp_path / f"fingerprint.{rank}").read_text() for rank in range(2)} == {expected}
    # each rank holds some of the heads only: refused, not steered by halves
    for rank in range(2):
        said = (tmp_path / f"layers.1.heads.{rank}.error").read_text()
        assert "split over" in said
        assert "attn_out" in said
