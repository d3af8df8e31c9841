"""Load a model and its tokenizer from a folder or the hub; whatever goes wrong in a library becomes one error."""

from __future__ import annotations

from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tillerman.core.errors import ModelError
from tillerman.models.families import ensure_decoder_only

_FAILURES = (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, RuntimeError, SafetensorError)
_WANTED = (
    "Give 'pilot', 'pilot-moe', a folder with config.json, weights and tokenizer, or a hub name that is reachable."
)
_SHOWN = 240  # letters of a library's message


def device_named(text: str) -> torch.device:
    """``ModelError`` for a device that torch does not know or this machine does not have."""
    try:
        device = torch.device(text)
    except RuntimeError:
        raise ModelError(f"device {text!r}: expected cpu, cuda, cuda:1 or mps") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise ModelError(f"device {text!r}: torch {torch.__version__} finds no CUDA device here; use cpu")
        if (device.index or 0) >= count:
            raise ModelError(f"device {text!r}: this machine has cuda:0..{count - 1}")
    elif device.type not in ("cpu", "meta"):
        _try(device)
    if device.type == "meta":
        raise ModelError(f"device {text!r} holds no weights; use cpu, cuda, cuda:1 or mps")
    return device


def _try(device: torch.device) -> None:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, NotImplementedError, AssertionError, ImportError, AttributeError) as error:
        raise ModelError(f"device {str(device)!r} cannot be used here ({_said(error)}); use cpu or cuda") from error


def load_model(name: str, path: str, device: torch.device, dtype: torch.dtype | None) -> PreTrainedModel:
    """The language model of a folder or hub name, by its causal class or else its image-text class, in ``eval`` mode.

    ``dtype`` None means float32 on a CPU and the stored type elsewhere. ``ModelError`` for an encoder-decoder model,
    for weights that are missing, broken or of another shape, and for a model that does not fit the device.
    """
    wanted: torch.dtype | str = dtype or (torch.float32 if device.type == "cpu" else "auto")
    try:
        model, info = _class_for(name, path).from_pretrained(path, dtype=wanted, output_loading_info=True)
        missing = sorted(info["missing_keys"])
    except torch.OutOfMemoryError as error:
        raise out_of_memory(name, str(device)) from error
    except _FAILURES as error:
        raise ModelError(f"cannot open the model {name!r}: {_said(error)} {_remedy(error)}") from error
    if missing:
        raise ModelError(
            f"cannot open the model {name!r}: its files lack {len(missing)} weights ({', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}), which would be random numbers; download or save it again, whole"
        )
    try:
        placed: PreTrainedModel = model.to(device)
    except RuntimeError as error:
        if "out of memory" in str(error).lower():
            raise out_of_memory(name, str(device)) from error
        raise ModelError(f"cannot put the model {name!r} on {device}: {_said(error)}") from error
    return placed


def out_of_memory(name: str, device: str) -> ModelError:
    return ModelError(
        f"{name!r} does not fit the memory of {device}: close what else uses it, open the model in half precision "
        "(dtype=torch.bfloat16; on an accelerator the stored type is the default), take a smaller model, or use cpu"
    )


def load_tokenizer(name: str, path: str, model: PreTrainedModel) -> PreTrainedTokenizerBase:
    """The folder's own; an adapter's folder often has none, then its base model's."""
    base = str(model.config.name_or_path)
    for place in dict.fromkeys((path, base)):
        try:
            found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(place)
            return found
        except Exception as error:  # noqa: BLE001 # tokenizers raises bare Exception for a broken file
            failure = error
    raise ModelError(
        f"cannot open the tokenizer of {name!r}: {_said(failure)} The folder needs tokenizer.json and "
        "tokenizer_config.json as they come with the model; or load both by hand: open_model(model, tokenizer)"
    ) from failure


def _class_for(name: str, path: str) -> Any:
    """The auto class that knows this configuration. An adapter's folder has none; its base is causal."""
    try:
        config = AutoConfig.from_pretrained(path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return AutoModelForCausalLM  # says what is wrong
    ensure_decoder_only(config)
    known = [
        auto for auto in (AutoModelForCausalLM, AutoModelForImageTextToText) if type(config) in auto._model_mapping
    ]
    if not known and not getattr(config, "auto_map", None):
        raise ModelError(
            f"cannot open the model {name!r}: transformers has no class for model type {config.model_type!r} that "
            "writes text (AutoModelForCausalLM, AutoModelForImageTextToText)"
        )
    return known[0] if known else AutoModelForCausalLM


def _said(error: BaseException) -> str:
    """The first line of a library's message, ended as a sentence."""
    lines = str(error).strip().splitlines()
    first = (lines[0].strip() if lines else type(error).__name__)[:_SHOWN]
    return first if first.endswith((".", "!", "?")) else f"{first}."


def _remedy(error: BaseException) -> str:
    text = str(error)
    if "trust_remote_code" in text:
        return "Code from a hub is not run here: load the model yourself and call open_model(model, tokenizer)."
    if isinstance(error, SafetensorError) or "size mismatch" in text or "ignore_mismatched_sizes" in text:
        return "The weights are damaged or belong to another configuration: download or copy the folder again."
    if isinstance(error, ImportError):
        return "Install what it names and try again."
    return _WANTED
