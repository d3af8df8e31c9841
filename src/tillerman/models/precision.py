"""A model in another precision: bfloat16 weights, or 8-bit and 4-bit ones by torchao."""

from __future__ import annotations

import copy
from dataclasses import replace
from importlib.util import find_spec

import torch

from tillerman.core.errors import ModelError, UnknownNameError
from tillerman.core.precisions import PRECISIONS
from tillerman.models.families import anatomy
from tillerman.models.libraries import bring_torchao
from tillerman.models.opened import OpenModel
from tillerman.models.quantising import quantiser


def makeable() -> tuple[str, ...]:
    """The precisions that the installed libraries can make."""
    bring_torchao()
    return PRECISIONS if find_spec("torchao") is not None else PRECISIONS[:1]


def in_precision(opened: OpenModel, precision: str) -> OpenModel:
    """A copy with weights rounded to ``bf16``; ``int8`` (one scale per row) and ``int4`` (one per 32 weights) round the
    linear layers on from there. The given model is not changed.

    ``UnknownNameError`` for another precision, ``ModelError`` without torchao or for weights that are not in memory.
    """
    if precision not in PRECISIONS:
        raise UnknownNameError("precision", precision, PRECISIONS)
    if any(p.is_meta or type(p).__module__.startswith("torchao") for p in opened.model.parameters()):
        raise ModelError(f"{precision} needs plain weights in memory; open the model on one device, not quantised")
    quantise = None if precision == "bf16" else quantiser(precision)
    model = copy.deepcopy(opened.model).to(torch.bfloat16)  # type: ignore[arg-type]
    if quantise is not None:
        quantise(model)
    opening = replace(opened.opening, quantize=None if precision == "bf16" else precision)
    return replace(opened, model=model, id=f"{opened.id}, {precision}", parts=anatomy(model), opening=opening)
