"""Weights of the linear layers rounded to 8 or 4 bits, in place, layer by layer: by torchao, or by bitsandbytes."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import nn

from tillerman.core.errors import ModelError, UnknownNameError
from tillerman.core.opening import QUANTISATIONS
from tillerman.models.libraries import bring_torchao

_GROUP = 32  # weights that share a scale in int4
_NF4_DEVICES = ("cpu", "cuda", "xpu")  # those that bitsandbytes multiplies 4-bit weights on


def quantiser(kind: str, device: torch.device | None = None) -> Callable[[nn.Module], None]:
    """``int8`` (one scale per row), ``int4`` (one per 32 weights), ``nf4`` (one per 64, QLoRA section 3). Where
    ``device`` is given it is checked. ``ModelError`` without the library, or for nf4 where it has no kernel."""
    if kind not in QUANTISATIONS:
        raise UnknownNameError("quantisation", kind, QUANTISATIONS)
    if kind == "nf4":
        if device is not None and device.type not in _NF4_DEVICES:
            known = ", ".join(_NF4_DEVICES)
            raise ModelError(f"nf4 weights work on {known}, and the model goes to {device}; take int8 or int4")
        if find_spec("bitsandbytes") is None:
            raise ModelError("nf4 needs bitsandbytes: pip install 'tillerman[nf4]'; or take int8 or int4")
        return _to_nf4
    bring_torchao()
    try:
        from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, quantize_
        from torchao.quantization.granularity import PerGroup
    except ImportError as error:
        raise ModelError(f"{kind} needs torchao: pip install 'torchao>=0.15'") from error
    config = Int8WeightOnlyConfig() if kind == "int8" else IntxWeightOnlyConfig(torch.int4, PerGroup(_GROUP))  # type: ignore[attr-defined]
    return lambda model: quantize_(model, config, filter_fn=_is_grouped)


def _is_grouped(module: nn.Module, name: str) -> bool:
    del name
    return isinstance(module, nn.Linear) and module.in_features % _GROUP == 0


def _to_nf4(model: nn.Module) -> None:
    """Every linear layer but the head."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    head = model.get_output_embeddings()  # type: ignore[operator]
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if not isinstance(layer, nn.Linear) or layer is head:
                continue
            kept = layer.weight.data
            packed = Linear4bit(
                layer.in_features,
                layer.out_features,
                bias=False,
                compute_dtype=kept.dtype,
                quant_type="nf4",
                device="meta",
            )
            packed.bias = layer.bias
            packed.weight = Params4bit(kept, requires_grad=False, quant_type="nf4").to(kept.device)
            # Its fast path on CPUs repacks weights, and rounds their scales, at the first pass without gradients: then
            # the fingerprint changes and a pass with gradients gives other numbers.
            packed.support_avx512bf16_for_cpu = False
            setattr(parent, name, packed.eval())
