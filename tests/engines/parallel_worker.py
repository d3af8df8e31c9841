"""Run by torchrun on each rank: a tiny model split over the ranks, steered at every point of a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from tillerman.core.errors import TillermanError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention
from tillerman.core.provenance import Provenance
from tillerman.core.steerings.vector import SteeringVector
from tillerman.models.families import anatomy
from tillerman.models.opened import OpenModel
from tillerman.steering.steer import steer

folder = Path(sys.argv[1])
rank = os.environ["RANK"]
model = AutoModelForCausalLM.from_pretrained(folder / "model", tp_plan="auto", dtype=torch.float32).eval()
given = load_file(folder / "given.safetensors")
ids = given.pop("ids")
out = {}
for name, direction in given.items():
    point = HookPoint.parse(name)
    made = Provenance("tiny", "-", len(direction), 3, "-", "-", "none", "caa")
    plan = Intervention(SteeringVector({point: direction}, {point: 1.0}, made), 1.5)
    try:
        with torch.no_grad(), steer(model, plan) as steered:
            out[name] = model(input_ids=ids).logits.clone()
        assert steered.receipt.applied[0].touched
    except TillermanError as error:
        (folder / f"{name}.{rank}.error").write_text(f"{type(error).__name__}: {error}")
parts = OpenModel(model, PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel())), "tiny", anatomy(model))
(folder / f"fingerprint.{rank}").write_text(parts.fingerprint)
with torch.no_grad():
    out["plain"] = model(input_ids=ids).logits.clone()
save_file(out, folder / f"out.{rank}.safetensors")
