"""Load a model and its tokenizer from a folder or the hub; whatever goes wrong in a library becomes one error."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as bars

from tillerman.core.errors import ModelError
from tillerman.models.families import ensure_decoder_only

FAILURES = (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, RuntimeError, SafetensorError)
_WANTED = (
    "Give 'pilot', 'pilot-moe', a folder with config.json, weights and tokenizer, a GGUF file, or a hub name that is "
    "reachable."
)
_SHOWN = 240  # letters of a library's message


@dataclass(frozen=True)
class Place:
    """Where weights go, and how they are read."""

    device: torch.device
    dtype: torch.dtype
    device_map: str | None = None
    attention: str | None = None


def load_model(name: str, path: str, place: Place, asked: Mapping[str, Any]) -> PreTrainedModel:
    """The language model of a folder or hub name, by its causal class or else its image-text class, in ``eval`` mode.

    Weights are read in the wanted type, straight to where they go. ``asked`` is what the hub is asked: revision and
    whether its code is run. ``ModelError`` for an encoder-decoder model, for weights that are missing, broken or of
    another shape, and for a model that does not fit the device.
    """
    how: dict[str, Any] = {"dtype": place.dtype, "output_loading_info": True, **asked}
    if place.attention is not None:
        how["attn_implementation"] = place.attention
    if place.device_map is not None:
        need_accelerate(f"device map {place.device_map!r}")
        how["device_map"] = place.device_map
    elif place.device.type != "cpu" and find_spec("accelerate") is not None:
        how["device_map"] = {"": place.device}
    try:
        with quiet_bars():
            model, info = _class_for(name, path, asked).from_pretrained(path, **how)
        missing = sorted(info["missing_keys"])
    except torch.OutOfMemoryError as error:
        raise out_of_memory(name, str(place.device)) from error
    except FAILURES as error:
        raise ModelError(f"cannot open the model {name!r}: {said(error)} {_remedy(error)}") from error
    if missing:
        raise ModelError(
            f"cannot open the model {name!r}: its files lack {len(missing)} weights ({', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}), which would be random numbers; download or save it again, whole"
        )
    return cast(PreTrainedModel, model) if "device_map" in how else _moved(name, model, place.device)


def _moved(name: str, model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    try:
        placed: PreTrainedModel = model.to(device)  # type: ignore[arg-type]
    except RuntimeError as error:
        if "out of memory" in str(error).lower():
            raise out_of_memory(name, str(device)) from error
        raise ModelError(f"cannot put the model {name!r} on {device}: {said(error)}") from error
    return placed


def need_accelerate(what: str) -> None:
    if find_spec("accelerate") is None:
        raise ModelError(f"{what} needs accelerate: pip install accelerate")


@contextmanager
def quiet_bars() -> Iterator[None]:
    """No bars of transformers within the block; whoever calls says in his own words what takes time."""
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()  # type: ignore[no-untyped-call]


def config_of(path: str, asked: Mapping[str, Any]) -> PreTrainedConfig | None:
    """The configuration of a folder or hub name; of an adapter, its base model's. None where it cannot be read, which
    ``load_model`` will say."""
    try:
        adapter = Path(path) / "adapter_config.json"
        if adapter.is_file():
            path = str(json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"])
        found: PreTrainedConfig = AutoConfig.from_pretrained(path, **asked)
        return found
    except Exception:  # noqa: BLE001 # remote code and broken files raise anything
        return None


def out_of_memory(name: str, device: str) -> ModelError:
    return ModelError(
        f"{name!r} does not fit the memory of {device}: close what else uses it, open the model in half precision "
        "(`dtype` bfloat16) or quantised (`quantize` int8), split it (`device_map` auto), or use a smaller one or cpu"
    )


def load_tokenizer(name: str, path: str, model: PreTrainedModel, asked: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """The folder's own; an adapter's folder often has none, then its base model's."""
    base = str(model.config.name_or_path)
    for place in dict.fromkeys((path, base)):
        try:
            # A revision is one of the repository that was named, not of an adapter's base.
            theirs = {key: value for key, value in asked.items() if key != "revision" or place == path}
            found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(place, **theirs)
            return found
        except Exception as error:  # noqa: BLE001 # tokenizers raises bare Exception for a broken file
            failure = error
    raise ModelError(
        f"cannot open the tokenizer of {name!r}: {said(failure)} The folder needs tokenizer.json and "
        "tokenizer_config.json as they come with the model; or load both by hand: open_model(model, tokenizer)"
    ) from failure


def _class_for(name: str, path: str, asked: Mapping[str, Any]) -> Any:
    """The auto class that knows this configuration. An adapter's folder has none; its base is causal."""
    try:
        config = AutoConfig.from_pretrained(path, **asked)
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


def said(error: BaseException) -> str:
    """The first line of a library's message, ended as a sentence."""
    lines = str(error).strip().splitlines()
    first = (lines[0].strip() if lines else type(error).__name__)[:_SHOWN]
    return first if first.endswith((".", "!", "?")) else f"{first}."


def _remedy(error: BaseException) -> str:
    text = str(error)
    if "trust_remote_code" in text:
        return "Code that comes with a model is run only if you say so; read it, then give `trust_remote_code`."
    if isinstance(error, SafetensorError) or "size mismatch" in text or "ignore_mismatched_sizes" in text:
        return "The weights are damaged or belong to another configuration: download or copy the folder again."
    if isinstance(error, ImportError):
        return "Install what it names and try again."
    return _WANTED
