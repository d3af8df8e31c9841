"""A model over two devices, as ``device_map="auto"`` places it."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from accelerate import dispatch_model
from torch import nn

from tillerman.models.checking import check
from tillerman.models.families import anatomy
from tillerman.models.opened import OpenModel


def split_over_two(opened: OpenModel, kind: str = "cuda") -> OpenModel:
    """A copy: the first half of the blocks on device 0 with the embedding, the rest on device 1 with the last norm.
    The head stays with the embedding where it is tied to it, else it stands after the norm."""
    model = copy.deepcopy(opened.model)
    decoder = anatomy(model).decoder
    names = {id(module): name for name, module in model.named_modules()}
    half = opened.layers // 2
    blocks = {id(block): int(layer >= half) for layer, block in enumerate(anatomy(model).blocks)}
    places: dict[str, int] = {}
    for module in decoder.modules():
        inside = any(part is not module and part in set(module.modules()) for part in decoder.modules())
        if id(module) in blocks:
            places[names[id(module)]] = blocks[id(module)]
        elif not inside and not any(names[id(module)].startswith(name + ".") for name in places):
            places[names[id(module)]] = int(not isinstance(module, nn.Embedding) and "norm" in names[id(module)])
    head = model.get_output_embeddings()
    places[names[id(head)]] = 0 if model.config.get_text_config().tie_word_embeddings else 1
    dispatch_model(model, {name: torch.device(kind, at) for name, at in places.items()}, main_device=f"{kind}:0")
    parts = anatomy(model)
    made = replace(opened, model=model, id=f"{opened.id}, split", parts=parts)
    check(model, parts, made.id)
    return made
