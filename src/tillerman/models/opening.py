"""From a name and options to weights in their place: which device, which precision, which file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from tillerman.core.errors import UsageError
from tillerman.core.opening import Opening
from tillerman.models.fingerprint import fingerprint_of, remember_original
from tillerman.models.gguf import gguf_file, header_of, unpacked
from tillerman.models.libraries import bring_torchao
from tillerman.models.loading import Place, config_of, load_model, load_tokenizer
from tillerman.models.machine import FAST, bfloat16_speed, device_named
from tillerman.models.quantising import quantiser

SMALL = 50_000_000  # parameters below which float32 is fast enough, and exact
Say = Callable[[str], None]


def load_as(
    name: str, embedded: str | None, opening: Opening, say: Say, *, wants_tokenizer: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    """Model and tokenizer of ``name``; ``embedded`` is the folder of one that comes with the package."""
    path = embedded or name
    if opening.revision is not None and (embedded or Path(path).exists()):
        raise UsageError(f"`revision` {opening.revision}: {name} is not on the hub; leave it out, or give a hub name")
    asked: dict[str, Any] = {"trust_remote_code": opening.trust_remote_code}
    if opening.revision is not None:
        asked["revision"] = opening.revision
    device = device_named(opening.device)
    pack = quantiser(opening.quantize, device) if opening.quantize is not None else None
    packed = None if embedded else gguf_file(Path(path))
    header = header_of(packed) if packed is not None else None
    config = None if header is not None else config_of(path, asked)
    if _quantised_by(config) == "torchao":
        bring_torchao()
    size = header.parameters if header is not None else _parameters(config)
    dtype, why = choose_dtype(opening.dtype, device, size)
    if packed is not None and header is not None:
        path = str(unpacked(packed, header, dtype, say))
    place = Place(device, dtype, opening.device_map, opening.attention)
    model = load_model(name, path, place, asked)
    if not embedded or device.type != "cpu":
        say(f"{name}: {_words(opening, dtype)} on {opening.device_map or device}{why}")
    if pack is not None:
        before = fingerprint_of(model)
        pack(model)
        remember_original(model, before)
    return model, load_tokenizer(name, path, model, asked) if wants_tokenizer else None


def choose_dtype(asked: str, device: torch.device, parameters: int | None) -> tuple[torch.dtype, str]:
    """The type of the weights, and why where it was ours to choose. ``parameters`` None: not known, and many."""
    if asked != "auto":
        return getattr(torch, asked), ""
    if parameters is not None and parameters < SMALL:
        return torch.float32, " (a small model)"
    speed = bfloat16_speed(device.type)
    if speed >= FAST:
        return torch.bfloat16, f" ({speed:.1f} times as fast here as float32; `dtype` float32 is exact)"
    return torch.float32, " (bfloat16 is not faster here)"


def _words(opening: Opening, dtype: torch.dtype) -> str:
    words = str(dtype).removeprefix("torch.")
    return f"{words} with {opening.quantize} weights" if opening.quantize else words


def _quantised_by(config: PreTrainedConfig | None) -> str:
    """The library that has packed the weights of a folder; empty where they are not."""
    packed = getattr(config, "quantization_config", None) or {}
    return str((packed if isinstance(packed, dict) else vars(packed)).get("quant_method", ""))


def _parameters(config: PreTrainedConfig | None) -> int | None:
    """Roughly: embedding, and blocks as wide as usual."""
    try:
        text = config.get_text_config() if config is not None else None
        width, layers, vocabulary = (
            int(getattr(text, key)) for key in ("hidden_size", "num_hidden_layers", "vocab_size")
        )
    except (AttributeError, TypeError, ValueError):
        return None
    return vocabulary * width + layers * 12 * width * width
